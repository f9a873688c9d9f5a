/**
 * What an agent has in front of them: every open session with its last words and what is unread, live. The same for a
 * visitor would be empty but for their own: row security decides, not this file.
 */

import type { RealtimePostgresChangesPayload } from '@supabase/supabase-js'

import type { ChatBackend } from './ChatBackend.ts'
import type { Feed, Link } from './Link.ts'
import { MessageLog, micros } from './MessageLog.ts'
import type { ChatMessage, ChatSession } from './types.ts'

/** Enough to say "9+" and to show the last words. */
const LOOK_BACK = 20
/** Closed sessions that stay in view. */
const CLOSED_KEPT = 50
/** How many sessions are looked into at once. */
const AT_ONCE = 4
const RETRY_MS = 2000

export interface DeskItem {
  session: ChatSession
  unread: number
  /** The last thing that was said. */
  last: ChatMessage | null
}

export interface DeskView {
  items: readonly DeskItem[]
  isLoaded: boolean
}

export class Desk {
  private readonly sessions = new Map<string, ChatSession>()
  private readonly logs = new Map<string, MessageLog>()
  private readonly listeners = new Set<(view: DeskView) => void>()
  private feed: Feed | null = null
  private isLoaded = false
  private reads = 0
  /** What the server said when changes were lost, until everything was read again. */
  private lost: string | null = null
  private retryTimer: ReturnType<typeof setTimeout> | undefined
  private current: DeskView | null = null

  constructor(
    private readonly link: Link,
    private readonly backend: ChatBackend,
    private readonly onGap: (words: string) => void,
  ) {}

  listen(listener: (view: DeskView) => void): () => void {
    this.listeners.add(listener)
    if (this.feed === null) this.open()
    listener(this.view())
    return () => {
      if (this.listeners.delete(listener) && this.listeners.size === 0) this.shut()
    }
  }

  view(): DeskView {
    if (this.current !== null) return this.current
    const items = [...this.sessions.values()].map((session): DeskItem => {
      const log = this.logs.get(session.id)
      return { session, unread: log?.unread() ?? 0, last: log?.list().at(-1) ?? null }
    })
    items.sort((a, b) => micros(b.session.last_message_at) - micros(a.session.last_message_at))
    this.current = { items, isLoaded: this.isLoaded }
    return this.current
  }

  /** Takes a session's row unless a newer one is known. */
  merge(row: ChatSession): void {
    const known = this.sessions.get(row.id)
    if (known !== undefined && micros(row.updated_at) < micros(known.updated_at)) return
    this.sessions.set(row.id, row)
    if (row.status === 'closed') this.forgetOldest()
    this.changed()
  }

  /** What was read here is read; the receipts of the database follow. */
  markRead(sessionId: string): void {
    const log = this.logs.get(sessionId)
    if (log === undefined || log.unread() === 0) return
    const at = new Date().toISOString()
    log.merge(log.list().filter((row) => row.sender_type === 'visitor').map((row) => ({ ...row, read_at: row.read_at ?? at })))
    this.changed()
  }

  shut(): void {
    this.feed?.close()
    this.feed = null
    this.reads += 1
    clearTimeout(this.retryTimer)
  }

  private open(): void {
    this.feed = this.link.feed('support-desk', {
      bind: (channel) => {
        const of = (table: string) => ({ event: '*' as const, schema: 'public', table })
        channel
          .on('postgres_changes', of('live_chat_sessions'), (change) => this.onSession(change as never))
          .on('postgres_changes', of('chat_messages'), (change) => this.onMessage(change as never))
      },
      ready: () => void this.read(),
      gap: (words) => {
        this.lost = words
        void this.read()
      },
    })
  }

  private async read(): Promise<void> {
    const turn = ++this.reads
    clearTimeout(this.retryTimer)
    try {
      const open = await this.backend.openSessions()
      if (turn !== this.reads) return
      const still = new Set(open.map(({ id }) => id))
      // What was closed while nobody looked is no longer in the list.
      const gone = [...this.sessions.values()].filter(({ id, status }) => status !== 'closed' && !still.has(id))
      for (const session of open) this.merge(session)
      this.isLoaded = true
      this.changed()
      const closed = gone.map(({ id }) => () => this.look(id))
      const looks = open.map(({ id }) => () => this.lookInto(id))
      await inTurns([...closed, ...looks], AT_ONCE)
      if (turn === this.reads && this.lost !== null) {
        this.onGap(this.lost)
        this.lost = null
      }
    } catch {
      if (turn === this.reads && this.feed !== null) this.retryTimer = setTimeout(() => void this.read(), RETRY_MS)
    }
  }

  private async look(id: string): Promise<void> {
    const row = await this.backend.session(id)
    if (row !== null) this.merge(row)
    else if (this.sessions.delete(id)) this.changed()
  }

  private async lookInto(id: string): Promise<void> {
    const rows = await this.backend.messages(id, { limit: LOOK_BACK })
    if (this.logOf(id).merge(rows)) this.changed()
  }

  private logOf(id: string): MessageLog {
    let log = this.logs.get(id)
    if (log === undefined) this.logs.set(id, (log = new MessageLog('agent')))
    return log
  }

  private onSession(change: RealtimePostgresChangesPayload<ChatSession>): void {
    if (change.eventType !== 'DELETE') {
      this.merge(change.new)
      return
    }
    const { id } = change.old
    if (id === undefined) return
    this.logs.delete(id)
    if (this.sessions.delete(id)) this.changed()
  }

  private onMessage(change: RealtimePostgresChangesPayload<ChatMessage>): void {
    if (change.eventType === 'DELETE') return
    const { session_id: id } = change.new
    // A session comes before its messages; one that is not here was closed long ago.
    if (this.isLoaded && !this.sessions.has(id)) return
    const log = this.logOf(id)
    if (!log.merge([change.new])) return
    log.trim(LOOK_BACK)
    this.changed()
  }

  /** A dashboard stays open for days. */
  private forgetOldest(): void {
    const closed = [...this.sessions.values()].filter(({ status }) => status === 'closed')
    closed.sort((a, b) => micros(b.updated_at) - micros(a.updated_at))
    for (const { id } of closed.slice(CLOSED_KEPT)) {
      this.sessions.delete(id)
      this.logs.delete(id)
    }
  }

  private changed(): void {
    this.current = null
    const view = this.view()
    for (const listener of [...this.listeners]) listener(view)
  }
}

async function inTurns(jobs: (() => Promise<void>)[], atOnce: number): Promise<void> {
  const left = [...jobs]
  const worker = async (): Promise<void> => {
    for (let job = left.shift(); job !== undefined; job = left.shift()) await job()
  }
  await Promise.all(Array.from({ length: atOnce }, worker))
}
