/** Which agents are at their desks: agents are present in it, visitors only look. */

import type { Feed, Link } from './Link.ts'
import type { Role } from './types.ts'

export interface PresentAgent {
  user: string
  name: string
}

export class Lobby {
  private readonly listeners = new Set<(agents: readonly PresentAgent[]) => void>()
  private feed: Feed | null = null
  private present: readonly PresentAgent[] = []

  constructor(
    private readonly link: Link,
    private readonly self: { role: Role; user: string; name: string | null; tab: string },
  ) {}

  listen(listener: (agents: readonly PresentAgent[]) => void): () => void {
    this.listeners.add(listener)
    if (this.feed === null) this.open()
    listener(this.present)
    return () => {
      if (this.listeners.delete(listener) && this.listeners.size === 0) this.shut()
    }
  }

  shut(): void {
    this.feed?.close()
    this.feed = null
  }

  private open(): void {
    const { role, user, name, tab } = this.self
    this.feed = this.link.feed(
      'support-lobby',
      {
        bind: (channel) => {
          channel.on('presence', { event: 'sync' }, () => {
            const everybody = Object.values(channel.presenceState<Partial<PresentAgent>>()).flat()
            const agents = new Map<string, PresentAgent>()
            for (const { user, name } of everybody) {
              if (typeof user === 'string') agents.set(user, { user, name: name ?? 'Agent' })
            }
            this.tell([...agents.values()])
          })
        },
        ready: () => {},
        joined: (channel) => {
          if (role === 'agent') void channel.track({ user, name })
        },
        down: () => this.tell([]),
      },
      { presenceKey: `${role}-${tab}` },
    )
  }

  private tell(agents: readonly PresentAgent[]): void {
    this.present = agents
    for (const listener of [...this.listeners]) listener(agents)
  }
}
