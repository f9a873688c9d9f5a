/**
 * The chat, for any user interface and for none: sessions, messages, presence and the state of the connection.
 *
 * It promises: what was written is shown at once, kept until the database has it, and stored once; what the database
 * stores is shown once, in order, and also when the connection was gone meanwhile; what may be missing is said. Every
 * `subscribe…` returns its own end, and after the last nothing runs on.
 *
 * The REST side is a `ChatBackend`; the realtime side is supabase-js on the relay or on Supabase.
 */

import { type ChatBackend, ChatError } from './ChatBackend.ts'
import { Conversation, type ConversationView, type Self } from './Conversation.ts'
import { Desk, type DeskView } from './Desk.ts'
import { uuid } from './ids.ts'
import type { Link } from './Link.ts'
import { Lobby, type PresentAgent } from './Lobby.ts'
import { type Entry, Outbox, type QueuedMessage, type Told } from './Outbox.ts'
import type { Agent, ChatSession, Draft, Introduction, Role, ShownMessage } from './types.ts'

/** What the connection is like. */
export interface ChatStatus {
  /** Whether everything that is subscribed is being received. */
  isOnline: boolean
  activeChannels: number
  /** Messages that wait for the network. */
  queued: number
  phase: 'connecting' | 'online' | 'reconnecting' | 'offline'
  /** What the server said when changes may have been lost; they were read again. */
  gap: string | null
}

export interface ChatServiceOptions {
  link: Link
  backend: ChatBackend
  role: Role
  /** The `sub` of the token. */
  user: string
  name: string | null
  /** Runs at the end, for what was made for this service. */
  stop?: () => void
}

export interface SessionView {
  session: ChatSession | null
  otherIsHere: boolean
  otherName: string | null
  typing: string | null
}

/** How long to wait before an unanswered message is sent again. */
const RETRY_MS = [500, 1000, 2000, 4000, 8000]
const NOTICE_MS = 12_000

export class RealtimeChatService {
  private readonly conversations = new Map<string, Conversation>()
  private readonly listeners = new Set<(status: ChatStatus) => void>()
  private readonly desk: Desk
  private readonly lobby: Lobby
  private readonly outbox: Outbox
  private readonly self: Self
  private readonly flushing = new Set<string>()
  private readonly link: Link
  private readonly backend: ChatBackend
  private readonly stop: () => void
  private opened: Promise<void>
  private failures = 0
  private wasOnline = false
  private gap: string | null = null
  private gapTimer: ReturnType<typeof setTimeout> | undefined
  private retryTimer: ReturnType<typeof setTimeout> | undefined
  private told: ChatStatus | null = null
  private disposed = false

  constructor({ link, backend, role, user, name, stop }: ChatServiceOptions) {
    this.stop = stop ?? (() => {})
    this.link = link
    this.backend = backend
    this.self = { role, name, tab: uuid() }
    this.desk = new Desk(link, backend, (words) => this.noteGap(words))
    this.lobby = new Lobby(link, { ...this.self, user })
    this.outbox = new Outbox(`${role}-${user}`, (what) => this.onOtherTab(what))
    this.opened = this.outbox.open().then(() => {
      for (const entry of this.outbox.list()) this.show(entry)
      this.flushAll()
    })
    link.onChange(() => this.onLink())
  }

  /** Calls back with the session's messages now and whenever they change. */
  subscribeToSessionMessages(
    sessionId: string,
    listener: (messages: readonly ShownMessage[], view: ConversationView) => void,
  ): () => void {
    return this.subscribeToConversation(sessionId, (view) => listener(view.messages, view))
  }

  /** Calls back with the session's row, and who is there, now and whenever they change. */
  subscribeToSession(sessionId: string, listener: (view: SessionView) => void): () => void {
    return this.subscribeToConversation(sessionId, ({ session, otherIsHere, otherName, typing }) =>
      listener({ session, otherIsHere, otherName, typing }),
    )
  }

  /** Both of the above in one. */
  subscribeToConversation(sessionId: string, listener: (view: ConversationView) => void): () => void {
    const conversation = this.conversation(sessionId)
    const end = conversation.listen(listener)
    return () => {
      end()
      if (!conversation.isListened && this.outbox.list(sessionId).length === 0) this.conversations.delete(sessionId)
    }
  }

  /** Calls back with every open session, for agents. */
  subscribeToDesk(listener: (view: DeskView) => void): () => void {
    return this.desk.listen(listener)
  }

  /** Calls back with the agents who are at their desks. */
  subscribeToAgents(listener: (agents: readonly PresentAgent[]) => void): () => void {
    return this.lobby.listen(listener)
  }

  onStatusChange(listener: (status: ChatStatus) => void): () => void {
    this.listeners.add(listener)
    listener(this.getStatus())
    return () => this.listeners.delete(listener)
  }

  getStatus(): ChatStatus {
    const isOnline = this.link.isOnline
    const lost = this.wasOnline ? 'reconnecting' : 'connecting'
    const next: ChatStatus = {
      isOnline,
      activeChannels: this.link.activeChannels,
      queued: this.outbox.list().filter((entry) => entry.kind === 'message' && entry.problem === undefined).length,
      phase: isOnline ? 'online' : this.link.isReachable ? lost : 'offline',
      gap: this.gap,
    }
    // The same object as long as it says the same, as React's stores want it.
    if (this.told === null || !sameStatus(this.told, next)) this.told = next
    return this.told
  }

  /** Opens a session. It can be used at once, also offline; the database gets it before its first message. */
  startSession(introduction: Introduction): ChatSession {
    const id = uuid()
    const at = new Date().toISOString()
    const session: ChatSession = {
      id,
      visitor_id: null,
      visitor_name: introduction.name ?? null,
      visitor_email: introduction.email ?? null,
      status: 'waiting',
      assigned_agent_id: null,
      subject: introduction.subject ?? null,
      rating: null,
      feedback: null,
      created_at: at,
      // Older than whatever the database will say.
      updated_at: new Date(0).toISOString(),
      last_message_at: at,
      closed_at: null,
    }
    if (introduction.name !== undefined) this.self.name = introduction.name
    this.conversation(id).mergeSession(session)
    void this.outbox.put({ kind: 'session', id, sessionId: id, introduction, at, order: this.outbox.next() })
    void this.flush(id)
    return session
  }

  /** Shows a message at once and sends it, now or when the network is back. Returns its id. */
  sendMessage(sessionId: string, text: string): string {
    const body = text.trim()
    if (body === '') return ''
    const conversation = this.conversation(sessionId)
    const { role, name } = this.self
    const senderName = name ?? (role === 'visitor' ? (conversation.view().session?.visitor_name ?? null) : null)
    const draft: Draft = { id: uuid(), sessionId, body, senderType: role, senderName }
    const at = new Date().toISOString()
    conversation.typingEnded()
    void this.outbox.put({ kind: 'message', id: draft.id, sessionId, draft, at, order: this.outbox.next() })
    conversation.add(draft, at, this.link.isReachable)
    void this.flush(sessionId)
    this.changed()
    return draft.id
  }

  /** Sends a message again that the server refused. */
  retry(id: string): void {
    const entry = this.outbox.get(id)
    if (entry === undefined) return
    if (entry.kind === 'message') {
      const { problem: _, ...again } = entry
      void this.outbox.put(again)
    }
    this.conversation(entry.sessionId).mark(id, 'sending')
    void this.flush(entry.sessionId)
    this.changed()
  }

  /** Gives a message up that the server refused. */
  discard(id: string): void {
    const entry = this.outbox.get(id)
    if (entry === undefined) return
    this.conversation(entry.sessionId).discard(id)
    void this.outbox.remove(id, true)
    this.changed()
  }

  loadEarlier(sessionId: string): Promise<void> {
    return this.conversation(sessionId).loadEarlier()
  }

  /** Says that somebody types here; cheap to call on every key. */
  setTyping(sessionId: string): void {
    this.conversations.get(sessionId)?.typing()
  }

  /** Tells the other side that everything so far was read. */
  async markRead(sessionId: string): Promise<void> {
    if (this.self.role === 'agent') this.desk.markRead(sessionId)
    await this.backend.markRead(sessionId)
  }

  async assign(sessionId: string): Promise<ChatSession> {
    return this.keep(await this.backend.assign(sessionId))
  }

  async close(sessionId: string): Promise<ChatSession> {
    return this.keep(await this.backend.close(sessionId))
  }

  async rate(sessionId: string, rating: number, feedback = ''): Promise<ChatSession> {
    return this.keep(await this.backend.rate(sessionId, rating, feedback))
  }

  agents(): Promise<Agent[]> {
    return this.backend.agents()
  }

  dismissGap(): void {
    clearTimeout(this.gapTimer)
    this.gap = null
    this.changed()
  }

  /** Ends everything: channels, socket, timers. What is queued stays for the next visit. */
  async dispose(): Promise<void> {
    this.disposed = true
    clearTimeout(this.retryTimer)
    clearTimeout(this.gapTimer)
    for (const conversation of this.conversations.values()) conversation.shut()
    this.desk.shut()
    this.lobby.shut()
    this.listeners.clear()
    await this.opened.catch(() => {})
    this.outbox.close()
    this.stop()
    await this.link.dispose()
  }

  private conversation(id: string): Conversation {
    let conversation = this.conversations.get(id)
    if (conversation === undefined) {
      conversation = new Conversation(id, this.link, this.backend, this.self, (words) => this.noteGap(words))
      this.conversations.set(id, conversation)
      for (const entry of this.outbox.list(id)) this.show(entry)
    }
    return conversation
  }

  private keep(row: ChatSession): ChatSession {
    this.conversations.get(row.id)?.mergeSession(row)
    if (this.self.role === 'agent') this.desk.merge(row)
    return row
  }

  private show(entry: Entry): void {
    if (entry.kind !== 'message') return
    const conversation = this.conversation(entry.sessionId)
    conversation.add(entry.draft, entry.at, this.link.isReachable)
    if (entry.problem !== undefined) conversation.mark(entry.id, 'failed', entry.problem)
  }

  private flushAll(): void {
    for (const id of new Set(this.outbox.list().map((entry) => entry.sessionId))) void this.flush(id)
  }

  /** Sends what waits for a session, one after the other, so that it is stored in the order it was written. */
  private async flush(sessionId: string): Promise<void> {
    if (this.disposed || this.flushing.has(sessionId)) return
    this.flushing.add(sessionId)
    try {
      for (let entry = this.due(sessionId); entry !== undefined; entry = this.due(sessionId)) {
        if (!(await this.deliver(entry))) break
      }
    } finally {
      this.flushing.delete(sessionId)
      this.changed()
    }
  }

  private due(sessionId: string): Entry | undefined {
    if (this.disposed) return undefined
    return this.outbox.list(sessionId).find((entry) => entry.kind === 'session' || entry.problem === undefined)
  }

  /** Whether to go on with the next. */
  private async deliver(entry: Entry): Promise<boolean> {
    const conversation = this.conversation(entry.sessionId)
    try {
      if (entry.kind === 'session') this.keep(await this.backend.createSession(entry.id, entry.introduction))
      else conversation.merge([await this.backend.send(entry.draft)])
      this.failures = 0
      void this.outbox.remove(entry.id)
      if (entry.kind === 'session' && conversation.isListened) void conversation.read()
      return true
    } catch (error) {
      if (error instanceof ChatError && error.kind === 'refused') return this.refused(entry, error, conversation)
      this.waitFor(entry, conversation)
      return false
    }
  }

  private refused(entry: Entry, { message }: ChatError, conversation: Conversation): boolean {
    if (entry.kind === 'message') {
      this.fail(entry, message, conversation)
      return true
    }
    // Without its session none of its messages can be stored.
    for (const waiting of this.outbox.list(entry.sessionId)) {
      if (waiting.kind === 'message') this.fail(waiting, message, conversation)
    }
    return false
  }

  private fail(entry: QueuedMessage, problem: string, conversation: Conversation): void {
    void this.outbox.put({ ...entry, problem })
    conversation.mark(entry.id, 'failed', problem)
  }

  private waitFor(entry: Entry, conversation: Conversation): void {
    for (const waiting of this.outbox.list(entry.sessionId)) {
      if (waiting.kind === 'message' && waiting.problem === undefined) conversation.mark(waiting.id, 'queued')
    }
    clearTimeout(this.retryTimer)
    const wait = RETRY_MS[Math.min(this.failures, RETRY_MS.length - 1)] ?? 8000
    this.failures += 1
    if (!this.disposed) this.retryTimer = setTimeout(() => this.flushAll(), wait)
  }

  private onLink(): void {
    const isOnline = this.link.isOnline
    if (isOnline && this.outbox.list().length > 0) {
      this.failures = 0
      this.flushAll()
    }
    this.wasOnline ||= isOnline
    this.changed()
  }

  private onOtherTab(what: Told): void {
    if ('entry' in what) this.show(what.entry)
    else if (what.discarded) this.conversations.get(what.sessionId)?.discard(what.gone)
    this.changed()
  }

  private noteGap(words: string): void {
    this.gap = words
    clearTimeout(this.gapTimer)
    this.gapTimer = setTimeout(() => this.dismissGap(), NOTICE_MS)
    this.changed()
  }

  private changed(): void {
    if (this.disposed) return
    const status = this.getStatus()
    for (const listener of [...this.listeners]) listener(status)
  }
}

function sameStatus(a: ChatStatus, b: ChatStatus): boolean {
  return (Object.keys(a) as (keyof ChatStatus)[]).every((key) => a[key] === b[key])
}
