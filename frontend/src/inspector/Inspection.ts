/** What the inspector knows: the changes of one table as the server sends them, how late they are, and who is where. */

import { Link } from '../services/Link.ts'
import { uuid } from '../services/ids.ts'

export interface Wish {
  url: string
  token: string
  schema: string
  table: string
  event: '*' | 'INSERT' | 'UPDATE' | 'DELETE'
  filter: string
}

/** A change, as it came. */
export interface Arrival {
  /** Counts up from one. */
  n: number
  /** The relay's id of the change: the same on every delivery of it. */
  id: string
  type: string
  table: string
  committedAt: string
  /** Milliseconds since 1970. */
  receivedAt: number
  lagMs: number
  record: Record<string, unknown> | null
  old: Record<string, unknown> | null
  errors: unknown
}

export interface Watched {
  topic: string
  isJoined: boolean
  problem: string | null
  members: { key: string; meta: Record<string, unknown> }[]
}

export interface InspectionView {
  state: 'idle' | 'joining' | 'receiving' | 'lost'
  words: string
  total: number
  /** Newest first. */
  rows: readonly Arrival[]
  /** Those of the last minute, oldest first. */
  recent: readonly Arrival[]
  notices: readonly string[]
  channels: readonly Watched[]
}

const ROWS = 200
export const WINDOW_MS = 60_000
/** More points than this a plot cannot show. */
const RECENT = 5000

interface Change {
  id?: string | number
  type?: string
  schema?: string
  table?: string
  commit_timestamp?: string
  record?: Record<string, unknown>
  old_record?: Record<string, unknown>
  errors?: unknown
}

export class Inspection {
  private link: Link | null = null
  private rows: Arrival[] = []
  private recent: Arrival[] = []
  private total = 0
  private notices: string[] = []
  private watched = new Map<string, Watched>()
  private state: InspectionView['state'] = 'idle'
  private words = 'Not connected'
  private current: InspectionView | null = null
  private frame = 0
  private paused = false

  constructor(private readonly changed: () => void) {}

  view(): InspectionView {
    const { state, words, total, rows, recent, notices } = this
    this.current ??= { state, words, total, rows, recent, notices, channels: [...this.watched.values()] }
    return this.current
  }

  start(wish: Wish): void {
    void this.stop()
    const { url, token, schema, table, event, filter } = wish
    this.rows = []
    this.recent = []
    this.total = 0
    this.notices = []
    this.say('joining', 'Joining …')
    const link = new Link({
      url,
      anonKey: token,
      token: () => Promise.resolve(token),
      resume: uuid(),
      tap: (data) => this.tapped(data),
    })
    this.link = link
    const topic = `inspector-${uuid().slice(0, 8)}`
    this.watched.set(topic, { topic, isJoined: false, problem: null, members: [] })
    link.feed(topic, {
      bind: (channel) => {
        const wanted = { schema, table, ...(filter === '' ? {} : { filter }) }
        channel.on('postgres_changes', { event: event as '*', ...wanted }, () => {})
      },
      ready: () => {
        this.mark(topic, true, null)
        this.say('receiving', `Receiving ${event === '*' ? 'every change' : event} of ${schema}.${table}${filter === '' ? '' : ` where ${filter}`}`)
      },
      gap: (words) => this.note(words),
      down: (words) => {
        this.mark(topic, false, words)
        this.say('lost', words === null ? 'Connection lost; trying again …' : `Refused: ${words}. Trying again …`)
      },
    })
  }

  /** Looks into another channel: who is present there. */
  watch(topic: string): void {
    if (this.link === null || topic === '' || this.watched.has(topic)) return
    this.watched.set(topic, { topic, isJoined: false, problem: null, members: [] })
    this.link.feed(topic, {
      bind: (channel) => {
        channel.on('presence', { event: 'sync' }, () => {
          const members = Object.entries(channel.presenceState<Record<string, unknown>>()).flatMap(([key, metas]) =>
            metas.map(({ presence_ref: _, ...meta }) => ({ key, meta })),
          )
          this.put(topic, { members })
        })
      },
      ready: () => this.mark(topic, true, null),
      down: (words) => this.mark(topic, false, words),
    })
    this.redraw()
  }

  pause(paused: boolean): void {
    this.paused = paused
    this.redraw()
  }

  clear(): void {
    this.rows = []
    this.recent = []
    this.total = 0
    this.redraw()
  }

  async stop(): Promise<void> {
    const link = this.link
    this.link = null
    this.watched.clear()
    this.say('idle', 'Not connected')
    await link?.dispose()
  }

  /** A frame as the socket got it; the SDK drops the id of a change, so it is read here. */
  private tapped(data: unknown): void {
    if (typeof data !== 'string') return
    const receivedAt = Date.now()
    const [, , , event, payload] = JSON.parse(data) as [unknown, unknown, string, string, { id?: string; data?: Change }]
    if (event !== 'postgres_changes' || payload.data === undefined) return
    const change = payload.data
    const committedAt = change.commit_timestamp ?? ''
    this.total += 1
    const arrival: Arrival = {
      n: this.total,
      id: String(change.id ?? payload.id ?? ''),
      type: change.type ?? '',
      table: `${change.schema}.${change.table}`,
      committedAt,
      receivedAt,
      lagMs: receivedAt - Date.parse(committedAt),
      record: change.record ?? null,
      old: change.old_record ?? null,
      errors: change.errors ?? null,
    }
    this.recent.push(arrival)
    // A hidden page draws nothing, and so forgets nothing there.
    if (this.recent.length > 2 * RECENT) this.recent = this.recent.slice(-RECENT)
    if (!this.paused) this.rows = [arrival, ...this.rows.slice(0, ROWS - 1)]
    this.redraw()
  }

  private note(words: string): void {
    this.notices = [words, ...this.notices].slice(0, 5)
    this.redraw()
  }

  private say(state: InspectionView['state'], words: string): void {
    this.state = state
    this.words = words
    this.redraw()
  }

  private mark(topic: string, isJoined: boolean, problem: string | null): void {
    this.put(topic, isJoined ? { isJoined, problem } : { isJoined, problem, members: [] })
  }

  private put(topic: string, values: Partial<Watched>): void {
    const known = this.watched.get(topic)
    if (known !== undefined) this.watched.set(topic, { ...known, ...values })
    this.redraw()
  }

  /** At most once a frame, however many changes come. */
  private redraw(): void {
    if (this.frame !== 0) return
    this.frame = requestAnimationFrame(() => {
      this.frame = 0
      const since = Date.now() - WINDOW_MS
      const first = this.recent.findIndex(({ receivedAt }) => receivedAt >= since)
      this.recent = first < 0 ? [] : this.recent.slice(Math.max(first, this.recent.length - RECENT))
      this.current = null
      this.changed()
    })
  }
}

/** The lag that a share of arrivals stayed under. */
export function percentile(rows: readonly Arrival[], share: number): number | null {
  if (rows.length === 0) return null
  const sorted = rows.map(({ lagMs }) => lagMs).sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? null
}
