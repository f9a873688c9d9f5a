/**
 * One session as one side sees it: its row, its messages, who is there and who is typing. It opens its channel with the
 * first listener and closes it with the last.
 *
 * Nothing is missed between history and live changes. A relay sends the last page with the join, and then what follows it,
 * in one call. Elsewhere, and when that page does not come, the channel is joined first, then history is read, and both
 * are merged by id. After a reconnect history is read back to what is known.
 */

import type { RealtimeChannel, RealtimePostgresChangesPayload } from '@supabase/supabase-js'

import { type ChatBackend, ChatError } from './ChatBackend.ts'
import { FirstPage } from './FirstPage.ts'
import type { Feed, Link } from './Link.ts'
import { MessageLog, inOrder, micros } from './MessageLog.ts'
import type { ChatMessage, ChatSession, Draft, Role, ShownMessage } from './types.ts'

/** Messages read when a conversation opens, and with every look further back. */
export const PAGE = 50
/** Pages read after a reconnect to close the gap; beyond it older ones come when somebody scrolls up. */
const CATCH_UP_PAGES = 20
/** A typist is told of at most this often, and forgotten after a little longer. */
const TYPING_EVERY_MS = 2000
const TYPING_LASTS_MS = 4500
const RETRY_MS = 2000
/** How long the first page may take to come over the channel before it is asked for. */
const FIRST_PAGE_MS = 4000

/** What a conversation looks like now. */
export interface ConversationView {
  session: ChatSession | null
  messages: readonly ShownMessage[]
  /** Whether history was read at least once. */
  isLoaded: boolean
  hasEarlier: boolean
  unread: number
  /** Whether somebody of the other side has this conversation open. */
  otherIsHere: boolean
  otherName: string | null
  /** Who is typing on the other side. */
  typing: string | null
}

/** Who one is in a conversation. */
export interface Self {
  role: Role
  name: string | null
  /** Different for each tab. */
  tab: string
}

interface Meta {
  role?: Role
  name?: string | null
}

export class Conversation {
  private readonly log: MessageLog
  private readonly listeners = new Set<(view: ConversationView) => void>()
  private session: ChatSession | null = null
  private feed: Feed | null = null
  /** While the first page comes over the channel. */
  private first: FirstPage | null = null
  private isLoaded = false
  private hasEarlier = false
  private reads = 0
  /** Whether nothing is missing between the oldest message here and now. */
  private isWhole = false
  /** The newest message from when nothing was missing: history is read back to it. */
  private anchor: ChatMessage | null = null
  /** What the server said when changes were lost, until everything was read again. */
  private lost: string | null = null
  private others: { name: string | null }[] = []
  private typist: string | null = null
  private typistTimer: ReturnType<typeof setTimeout> | undefined
  private retryTimer: ReturnType<typeof setTimeout> | undefined
  private toldTypingAt = 0
  private current: ConversationView | null = null

  constructor(
    readonly id: string,
    private readonly link: Link,
    private readonly backend: ChatBackend,
    private readonly self: Self,
    private readonly onGap: (words: string) => void,
  ) {
    this.log = new MessageLog(self.role)
  }

  listen(listener: (view: ConversationView) => void): () => void {
    this.listeners.add(listener)
    if (this.feed === null) this.open()
    listener(this.view())
    return () => {
      if (this.listeners.delete(listener) && this.listeners.size === 0) this.shut()
    }
  }

  get isListened(): boolean {
    return this.listeners.size > 0
  }

  view(): ConversationView {
    this.current ??= {
      session: this.session,
      messages: this.log.list(),
      isLoaded: this.isLoaded,
      hasEarlier: this.hasEarlier,
      unread: this.log.unread(),
      otherIsHere: this.others.length > 0,
      otherName: this.others.find(({ name }) => name !== null)?.name ?? null,
      typing: this.typist,
    }
    return this.current
  }

  /** Takes rows that came another way, such as the answer to a request. */
  merge(rows: readonly ChatMessage[]): void {
    if (this.log.merge(rows)) this.changed()
  }

  /** Takes a session's row unless a newer one is known. */
  mergeSession(row: ChatSession): void {
    if (this.session !== null && micros(row.updated_at) < micros(this.session.updated_at)) return
    this.session = row
    this.changed()
  }

  add(draft: Draft, at: string, isOnline: boolean): void {
    this.log.add(draft, at, isOnline ? 'sending' : 'queued')
    this.changed()
  }

  mark(id: string, delivery: 'sending' | 'queued' | 'failed', problem?: string): void {
    this.log.mark(id, delivery, problem)
    this.changed()
  }

  discard(id: string): void {
    this.log.discard(id)
    this.changed()
  }

  /** Tells the other side that somebody types here; cheap to call on every key. */
  typing(): void {
    const now = Date.now()
    if (now - this.toldTypingAt < TYPING_EVERY_MS) return
    this.toldTypingAt = now
    const { role, name } = this.self
    void this.feed?.joined?.send({ type: 'broadcast', event: 'typing', payload: { role, name } })
  }

  /** The next typing is told at once: a message was sent. */
  typingEnded(): void {
    this.toldTypingAt = 0
  }

  async loadEarlier(): Promise<void> {
    const before = this.log.oldest()
    if (before === undefined) return
    const rows = await this.backend.messages(this.id, { before, limit: PAGE })
    this.log.merge(rows)
    this.hasEarlier = rows.length === PAGE
    this.changed()
  }

  /** Reads the session again, and history where something may be missing. */
  async read(): Promise<void> {
    const turn = ++this.reads
    clearTimeout(this.retryTimer)
    try {
      const [session] = await Promise.all([this.backend.session(this.id), this.readHistory(turn)])
      if (turn !== this.reads) return
      if (session !== null) this.mergeSession(session)
      this.isLoaded = true
      this.changed()
      if (this.lost !== null) this.onGap(this.lost)
      this.lost = null
    } catch (error) {
      if (turn === this.reads && error instanceof ChatError && error.kind === 'refused') {
        // There is no such session, or not for us; asking again will not change that.
        this.isLoaded = true
        this.changed()
        return
      }
      // The network, or a restart. What is shown stays; it is read again until it works.
      if (turn === this.reads && this.feed !== null) {
        this.retryTimer = setTimeout(() => void this.read(), RETRY_MS)
      }
    }
  }

  shut(): void {
    this.lostTouch()
    this.first?.giveUp()
    this.first = null
    this.feed?.close()
    this.feed = null
    this.others = []
    this.typist = null
    this.current = null
    this.reads += 1
    clearTimeout(this.typistTimer)
    clearTimeout(this.retryTimer)
  }

  /** What comes from now on may leave a hole behind it. */
  private lostTouch(): void {
    if (!this.isWhole) return
    this.isWhole = false
    this.anchor = this.log.newest() ?? this.anchor
  }

  /** Waits for the first page while that is on its way, and otherwise asks for what is missing. */
  private async readHistory(turn: number): Promise<void> {
    const { first } = this
    if (first !== null && (await first.rows) === null) {
      // Somebody else has asked meanwhile, or nobody listens any more.
      if (turn !== this.reads) return
      this.first = null
    }
    if (!this.isWhole) await this.catchUp()
  }

  /** The server has sent the whole first page. */
  private onFirstPage(count: number): void {
    const rows = this.first?.complete(count) ?? null
    if (rows === null) return
    this.first = null
    this.log.merge(rows)
    this.hasEarlier = rows.length === PAGE
    if (this.hasEarlier) this.log.forgetBefore(rows[0])
    this.isWhole = true
    this.changed()
  }

  /** Reads back from the newest to the anchor, so that no hole is left in the middle, whatever came live meanwhile. */
  private async catchUp(): Promise<void> {
    const { anchor } = this
    let before: ChatMessage | undefined
    for (let page = 0; page < CATCH_UP_PAGES; page += 1) {
      const rows = await this.backend.messages(this.id, { limit: PAGE, ...(before === undefined ? {} : { before }) })
      const isStart = rows.length < PAGE
      const oldest = rows[0]
      this.log.merge(rows)
      if (isStart || anchor === null) this.hasEarlier = !isStart
      // A late change of long ago may have come before its neighbours.
      if (!isStart && anchor === null) this.log.forgetBefore(oldest)
      this.isWhole = isStart || anchor === null || (oldest !== undefined && inOrder(oldest, anchor) <= 0)
      this.changed()
      if (this.isWhole) return
      before = oldest
    }
    // Too much to read at once: what is older than this comes when somebody scrolls up to it.
    this.log.forgetBefore(before)
    this.isWhole = true
    this.hasEarlier = true
  }

  private open(): void {
    const topic = `chat:${this.id}`
    const { role, name, tab } = this.self
    this.feed = this.link.feed(
      topic,
      {
        bind: (channel, bringsRows) => this.bind(channel, bringsRows),
        joined: (channel) => void channel.track({ role, name }),
        ready: () => {
          this.lostTouch()
          this.first?.expectWithin(FIRST_PAGE_MS)
          void this.read()
        },
        snapshot: (rows) => this.onFirstPage(rows),
        gap: (words) => {
          // Nothing was shown yet that could have got a hole.
          if (this.first?.isPending) return this.first.giveUp()
          this.lost = words
          this.lostTouch()
          void this.read()
        },
        down: () => {
          this.lostTouch()
          this.first?.startOver()
          this.others = []
          this.typist = null
          this.changed()
        },
      },
      { presenceKey: `${role}-${tab}` },
    )
  }

  private bind(channel: RealtimeChannel, bringsRows: boolean): void {
    this.first?.giveUp()
    this.first = bringsRows && !this.isLoaded ? new FirstPage() : null
    const snapshot = this.first === null ? {} : { snapshot: { limit: PAGE, order: 'created_at.desc,id.desc' } }
    const messages = { schema: 'public', table: 'chat_messages', filter: `session_id=eq.${this.id}`, ...snapshot }
    const session = { schema: 'public', table: 'live_chat_sessions', filter: `id=eq.${this.id}` }
    channel
      .on('postgres_changes', { event: '*', ...messages }, (change) => this.onMessage(change as never))
      .on('postgres_changes', { event: 'UPDATE', ...session }, ({ new: row }) => this.mergeSession(row as ChatSession))
      .on('broadcast', { event: 'typing' }, ({ payload }) => this.onTyping(payload as Meta))
      .on('presence', { event: 'sync' }, () => this.onPresence(channel.presenceState<Meta>()))
  }

  private onMessage(change: RealtimePostgresChangesPayload<ChatMessage>): void {
    if (change.eventType === 'DELETE') {
      if (change.old.id !== undefined && this.log.remove(change.old.id)) this.changed()
      return
    }
    if (change.eventType === 'INSERT' && this.first?.isPending) return this.first.add(change.new)
    // What is older than the page that was read comes with its neighbours, when somebody scrolls up to it.
    const oldest = this.hasEarlier ? this.log.oldest() : undefined
    if (oldest !== undefined && inOrder(change.new, oldest) < 0) return
    // The first page may come again after a break: that is nothing new.
    if (!this.log.merge([change.new])) return
    if (change.new.sender_type !== this.self.role && change.eventType === 'INSERT') this.typist = null
    this.changed()
  }

  private onTyping({ role, name }: Meta): void {
    if (role === this.self.role) return
    this.typist = name ?? (role === 'agent' ? 'Support' : 'Visitor')
    clearTimeout(this.typistTimer)
    this.typistTimer = setTimeout(() => {
      this.typist = null
      this.changed()
    }, TYPING_LASTS_MS)
    this.changed()
  }

  private onPresence(state: Record<string, Meta[]>): void {
    const everybody = Object.values(state).flat()
    this.others = everybody.filter(({ role }) => role !== this.self.role).map(({ name }) => ({ name: name ?? null }))
    this.changed()
  }

  private changed(): void {
    this.current = null
    const view = this.view()
    for (const listener of [...this.listeners]) listener(view)
  }
}
