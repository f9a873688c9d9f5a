/** For unit tests: a back end in memory and a link whose other end is the test. */

import { type ChatBackend, ChatError, type Page } from './ChatBackend.ts'
import type { FeedHandlers, Link } from './Link.ts'
import { inOrder } from './MessageLog.ts'
import type { Agent, ChatMessage, ChatSession, Draft, Introduction } from './types.ts'

let clock = Date.parse('2026-01-01T00:00:00Z')

/** A row of chat_messages, one millisecond after the last. */
export function message(values: Partial<ChatMessage> = {}): ChatMessage {
  clock += 1
  return {
    id: crypto.randomUUID(),
    session_id: 's',
    sender_type: 'agent',
    sender_id: null,
    sender_name: 'Ann',
    body: `message at ${clock}`,
    client_id: null,
    read_at: null,
    created_at: new Date(clock).toISOString(),
    ...values,
  }
}

export function session(values: Partial<ChatSession> = {}): ChatSession {
  clock += 1
  const at = new Date(clock).toISOString()
  return {
    id: 's',
    visitor_id: null,
    visitor_name: null,
    visitor_email: null,
    status: 'waiting',
    assigned_agent_id: null,
    subject: null,
    rating: null,
    feedback: null,
    created_at: at,
    updated_at: at,
    last_message_at: at,
    closed_at: null,
    ...values,
  }
}

export class MemoryBackend implements ChatBackend {
  readonly sessions = new Map<string, ChatSession>()
  readonly rows: ChatMessage[] = []
  /** Every request that arrived. */
  readonly calls: string[] = []
  /** What a request meets before it arrives. */
  trouble: (call: string) => ChatError | null = () => null
  /** What happens to an answer on its way back. */
  afterwards: (call: string) => ChatError | null = () => null

  private async take<T>(call: string, act: () => T): Promise<T> {
    const before = this.trouble(call)
    if (before !== null) throw before
    this.calls.push(call)
    const answer = act()
    await Promise.resolve()
    const after = this.afterwards(call)
    if (after !== null) throw after
    return answer
  }

  createSession(id: string, { name }: Introduction): Promise<ChatSession> {
    return this.take('create', () => this.put(this.sessions.get(id) ?? session({ id, visitor_name: name ?? null })))
  }
  session(id: string): Promise<ChatSession | null> {
    return this.take('session', () => this.sessions.get(id) ?? null)
  }
  openSessions(): Promise<ChatSession[]> {
    return this.take('open', () => [...this.sessions.values()].filter(({ status }) => status !== 'closed'))
  }
  messages(sessionId: string, { before, limit }: Page): Promise<ChatMessage[]> {
    return this.take('messages', () => {
      const all = this.rows.filter((row) => row.session_id === sessionId).sort(inOrder)
      const end = before === undefined ? all.length : all.findIndex(({ id }) => id === before.id)
      return all.slice(Math.max(0, end - limit), end)
    })
  }
  send({ id, sessionId, body, senderType, senderName }: Draft): Promise<ChatMessage> {
    return this.take(`send ${body}`, () => {
      const known = this.rows.find((row) => row.id === id)
      if (known !== undefined) return known
      const row = message({ id, client_id: id, session_id: sessionId, body, sender_type: senderType, sender_name: senderName })
      this.rows.push(row)
      return row
    })
  }
  assign(id: string): Promise<ChatSession> {
    return this.change(id, { status: 'active', assigned_agent_id: 'a' })
  }
  close(id: string): Promise<ChatSession> {
    return this.change(id, { status: 'closed' })
  }
  rate(id: string, rating: number, feedback: string): Promise<ChatSession> {
    return this.change(id, { rating, feedback })
  }
  markRead(): Promise<void> {
    return this.take('read', () => {})
  }
  agents(): Promise<Agent[]> {
    return this.take('agents', () => [])
  }

  private change(id: string, values: Partial<ChatSession>): Promise<ChatSession> {
    return this.take('change', () => {
      const known = this.sessions.get(id)
      if (known === undefined) throw new ChatError('refused', 'There is no such chat.', 404)
      return this.put(session({ ...known, ...values, updated_at: session().updated_at }))
    })
  }

  private put(row: ChatSession): ChatSession {
    this.sessions.set(row.id, row)
    return row
  }
}

/** A channel that the test speaks on. */
export class TestChannel {
  readonly sent: { event: string; payload: unknown }[] = []
  isClosed = false
  private readonly bindings: { type: string; filter: Record<string, unknown>; call: (payload: unknown) => void }[] = []
  private state: Record<string, unknown[]> = {}

  constructor(
    readonly topic: string,
    readonly handlers: FeedHandlers,
    bringsRows: boolean,
  ) {
    handlers.bind(this as never, bringsRows)
  }

  /** What was asked for of a table. */
  asked(table: string): Record<string, unknown> | undefined {
    return this.bindings.find(({ filter }) => filter['table'] === table)?.filter
  }

  on(type: string, filter: Record<string, unknown>, call: (payload: unknown) => void): this {
    this.bindings.push({ type, filter, call })
    return this
  }

  track(payload: unknown): void {
    this.sent.push({ event: 'track', payload })
  }

  send({ event, payload }: { event: string; payload: unknown }): Promise<string> {
    this.sent.push({ event, payload })
    return Promise.resolve('ok')
  }

  presenceState(): Record<string, unknown[]> {
    return this.state
  }

  join(): void {
    this.handlers.joined?.(this as never)
    this.handlers.ready()
  }

  change(table: string, eventType: string, row: object): void {
    for (const { type, filter, call } of this.bindings) {
      const fits = type === 'postgres_changes' && filter['table'] === table && (filter['event'] === '*' || filter['event'] === eventType)
      if (fits) call(eventType === 'DELETE' ? { eventType, new: {}, old: row } : { eventType, new: row, old: {} })
    }
  }

  broadcast(event: string, payload: unknown): void {
    for (const { type, filter, call } of this.bindings) if (type === 'broadcast' && filter['event'] === event) call({ payload })
  }

  presence(state: Record<string, unknown[]>): void {
    this.state = state
    for (const { type, call } of this.bindings) if (type === 'presence') call({})
  }
}

export class TestLink {
  readonly channels = new Map<string, TestChannel>()
  isOnline = true
  isReachable = true
  /** Whether the server is one that sends rows with a join. */
  sendsSnapshots = false
  private readonly listeners = new Set<() => void>()

  get activeChannels(): number {
    return this.channels.size
  }

  feed(topic: string, handlers: FeedHandlers): { joined: TestChannel; close: () => void } {
    const channel = new TestChannel(topic, handlers, this.sendsSnapshots)
    this.channels.set(topic, channel)
    return {
      joined: channel,
      close: () => {
        channel.isClosed = true
        this.channels.delete(topic)
      },
    }
  }

  onChange(listener: () => void): () => void {
    this.listeners.add(listener)
    return () => this.listeners.delete(listener)
  }

  set(values: { isOnline?: boolean; isReachable?: boolean }): void {
    Object.assign(this, values)
    for (const listener of this.listeners) listener()
  }

  dispose(): Promise<void> {
    return Promise.resolve()
  }

  /** The channel of a topic. */
  at(topic: string): TestChannel {
    const channel = this.channels.get(topic)
    if (channel === undefined) throw new Error(`nobody joined ${topic}`)
    return channel
  }

  asLink(): Link {
    return this as unknown as Link
  }
}

/** Until something holds. Everything here happens without time passing, so a few turns of the event loop are enough. */
export async function until(holds: () => boolean): Promise<void> {
  for (let turn = 0; turn < 1000; turn += 1) {
    if (holds()) return
    await new Promise((resolve) => setImmediate(resolve))
  }
  throw new Error('it never came true')
}
