/**
 * The messages of one session, each once and in order, whatever order they come in and however often: from the database,
 * from history, and from here before the database has them. Pure: no network, no clock.
 */

import type { ChatMessage, Delivery, Draft, Role, ShownMessage } from './types.ts'

/** A message of one's own that the database has not confirmed. */
interface Pending {
  draft: Draft
  at: string
  delivery: Delivery
  problem?: string
}

export class MessageLog {
  private readonly rows = new Map<string, ChatMessage>()
  /** Own drafts by id, in the order they were written. */
  private readonly pending = new Map<string, Pending>()
  private shown: readonly ShownMessage[] | null = null

  constructor(private readonly own: Role) {}

  /** Takes rows of the database; false when they say nothing new. */
  merge(rows: readonly ChatMessage[]): boolean {
    let changed = false
    for (const row of rows) {
      const known = this.rows.get(row.id)
      // A receipt is never taken back, so of two copies the one that was read is the newer.
      const newer = known === undefined || (known.read_at === null && row.read_at !== null)
      if (newer) this.rows.set(row.id, row)
      const confirmed = this.pending.delete(row.id) || (row.client_id !== null && this.pending.delete(row.client_id))
      changed ||= newer || confirmed
    }
    if (changed) this.shown = null
    return changed
  }

  /** Forgets a row that is gone. */
  remove(id: string): boolean {
    const removed = this.rows.delete(id)
    if (removed) this.shown = null
    return removed
  }

  /** Forgets what is older than a message, so that history has one end and no hole. */
  forgetBefore(row: ChatMessage | undefined): void {
    if (row === undefined) return
    for (const known of [...this.rows.values()]) if (inOrder(known, row) < 0) this.rows.delete(known.id)
    this.shown = null
  }

  /** Keeps about so many of the newest, and whatever is unread. */
  trim(most: number): void {
    if (this.rows.size <= 2 * most) return
    const rows = [...this.rows.values()].sort(inOrder)
    const unread = rows.findIndex((row) => row.sender_type !== this.own && row.read_at === null)
    this.forgetBefore(rows[Math.min(rows.length - most, unread < 0 ? Infinity : unread)])
  }

  /** Shows a draft until its row comes. A draft whose row is here already is not shown again. */
  add(draft: Draft, at: string, delivery: Delivery): void {
    if (this.has(draft.id) || this.pending.has(draft.id)) return
    this.pending.set(draft.id, { draft, at, delivery })
    this.shown = null
  }

  /** Says how far a draft has come. */
  mark(id: string, delivery: Delivery, problem?: string): void {
    const pending = this.pending.get(id)
    if (pending === undefined) return
    this.pending.set(id, { draft: pending.draft, at: pending.at, delivery, ...(problem === undefined ? {} : { problem }) })
    this.shown = null
  }

  /** Takes a draft back that was never stored. */
  discard(id: string): void {
    if (this.pending.delete(id)) this.shown = null
  }

  /** Whether the database has confirmed a message. */
  has(id: string): boolean {
    if (this.rows.has(id)) return true
    for (const row of this.rows.values()) if (row.client_id === id) return true
    return false
  }

  /** Everything to show: what is stored, by time, then what is not yet, as it was written. The same array until it changes. */
  list(): readonly ShownMessage[] {
    if (this.shown !== null) return this.shown
    const stored = [...this.rows.values()].sort(inOrder).map((row): ShownMessage => {
      const delivery = row.read_at !== null ? 'read' : 'sent'
      return { ...row, delivery }
    })
    const drafts = [...this.pending.values()].map(({ draft, at, delivery, problem }): ShownMessage => ({
      id: draft.id,
      session_id: draft.sessionId,
      sender_type: draft.senderType,
      sender_id: null,
      sender_name: draft.senderName,
      body: draft.body,
      client_id: draft.id,
      read_at: null,
      created_at: at,
      delivery,
      ...(problem === undefined ? {} : { problem }),
    }))
    this.shown = [...stored, ...drafts]
    return this.shown
  }

  /** The oldest stored message. */
  oldest(): ChatMessage | undefined {
    return [...this.rows.values()].sort(inOrder)[0]
  }

  /** The newest stored message. */
  newest(): ChatMessage | undefined {
    return [...this.rows.values()].sort(inOrder).at(-1)
  }

  /** What the other side wrote and nobody here has read. */
  unread(): number {
    let count = 0
    for (const row of this.rows.values()) {
      if (row.sender_type !== this.own && row.read_at === null) count += 1
    }
    return count
  }
}

/** Microseconds since 1970, of a timestamp as Postgres writes it. A `Date` alone would forget the last three digits. */
export function micros(timestamp: string): number {
  const digits = /\.(\d+)/.exec(timestamp)?.[1] ?? ''
  return Date.parse(timestamp) * 1000 + Number(digits.padEnd(6, '0').slice(3, 6))
}

/** By time, then by id, as the database orders them. */
export function inOrder(a: ChatMessage, b: ChatMessage): number {
  return micros(a.created_at) - micros(b.created_at) || (a.id < b.id ? -1 : a.id > b.id ? 1 : 0)
}
