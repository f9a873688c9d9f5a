/** Keeps a token that is good for a while longer, and says when there is a new one. */

export interface Grant {
  token: string
  /** Seconds. */
  expires_in: number
}

export interface Claims {
  sub?: string
  role?: string
  name?: string
  exp?: number
}

/** A token is replaced when a fifth of its life is left. */
const USED = 0.8

/** Between attempts to get a new one. */
const RETRY_MS = 2_000

export class TokenKeeper {
  private grant: Grant | null = null
  private renewAt = 0
  private endsAt = 0
  private asking: Promise<string> | null = null
  private timer: ReturnType<typeof setTimeout> | undefined
  private stopped = false

  constructor(
    private readonly ask: () => Promise<Grant>,
    private readonly renewed: (token: string) => void = () => {},
  ) {}

  /** A token that is still good; `fresh` when the one it gave was refused. */
  current(fresh = false): Promise<string> {
    if (this.grant !== null && !fresh && Date.now() < this.renewAt) return Promise.resolve(this.grant.token)
    this.asking ??= this.renew().finally(() => {
      this.asking = null
    })
    return this.asking
  }

  stop(): void {
    this.stopped = true
    clearTimeout(this.timer)
  }

  private async renew(): Promise<string> {
    clearTimeout(this.timer)
    try {
      const grant = await this.ask()
      const life = grant.expires_in * 1000
      this.grant = grant
      this.renewAt = Date.now() + life * USED
      this.endsAt = Date.now() + life
      this.again(life * USED)
      this.renewed(grant.token)
      return grant.token
    } catch (error) {
      // The old one may do until the network is back.
      this.again(RETRY_MS)
      if (this.grant !== null && Date.now() < this.endsAt) return this.grant.token
      throw error
    }
  }

  private again(ms: number): void {
    clearTimeout(this.timer)
    if (this.stopped) return
    // A longer wait than this is cut short by setTimeout itself.
    this.timer = setTimeout(() => void this.current().catch(() => {}), Math.min(ms, 2 ** 31 - 1) + 1)
  }
}

/** What a token says, unverified: only for showing whose it is. */
export function claimsOf(token: string): Claims {
  try {
    const part = token.split('.')[1] ?? ''
    const bytes = Uint8Array.from(atob(part.replace(/-/g, '+').replace(/_/g, '/')), (c) => c.charCodeAt(0))
    return JSON.parse(new TextDecoder().decode(bytes)) as Claims
  } catch {
    return {}
  }
}
