/**
 * The realtime side: one supabase-js client, one socket, and feeds that heal.
 *
 * The SDK reconnects its socket and rejoins its channels. What is added here: it starts again as soon as the network is
 * back, it does not wait for a dead socket to be noticed, a channel that the server closed is opened anew, and a gap that
 * the server announces is told.
 */

import { type RealtimeChannel, type SupabaseClient, createClient } from '@supabase/supabase-js'

import { type SupportedSocket, droppable } from './socket.ts'

export interface LinkOptions {
  /** Where the realtime server and REST are; the SDK appends its paths. */
  url: string
  /** What a Supabase client calls the anon key. */
  anonKey: string
  token: () => Promise<string>
  /** Under this the relay remembers where we stopped reading; another for every page, which remembers nothing itself. */
  resume: string
  /** Whether the server sends rows of a table with a join, as the relay does. */
  sendsSnapshots?: boolean
  /** Something that answers when the server can be reached. */
  probe?: string
  /** Where frames are shown as they come, for the inspector. */
  tap?: (data: unknown) => void
}

/** What a feed is told. */
export interface FeedHandlers {
  /**
   * Adds the bindings; called for every new channel. `bringsRows`: a `snapshot` that it asks for will be sent. That is not
   * so for a topic that was joined before, because there the relay continues where it was.
   */
  bind: (channel: RealtimeChannel, bringsRows: boolean) => void
  /** Once for every join, before `ready`. */
  joined?: (channel: RealtimeChannel) => void
  /** From now on nothing is missed: read the table now. After every join, and when the server began to watch anew. */
  ready: () => void
  /** All rows of a snapshot have come, so many. */
  snapshot?: (rows: number) => void
  /** Changes may have been lost: read the table again and say so. */
  gap?: (words: string) => void
  /** Nothing is received any more, and why, if the server said; it is tried again. */
  down?: (words: string | null) => void
}

export interface FeedOptions {
  presenceKey?: string
}

const RECONNECT_MS = [200, 400, 800, 1500, 3000, 5000]
const HEARTBEAT_MS = 15_000
/** How long to wait for the word that the database is watched; the relay sends it with the join's answer. */
const WATCHED_MS = 400

export class Link {
  readonly client: SupabaseClient
  private readonly feeds = new Set<Feed>()
  private readonly leaving = new Map<string, Promise<unknown>>()
  /** Topics under which the relay may remember us. */
  private readonly visited = new Set<string>()
  private readonly listeners = new Set<() => void>()
  private readonly sockets: Set<SupportedSocket>
  private reachable = true
  private disposed = false

  constructor(private readonly options: LinkOptions) {
    const { transport, open } = droppable(options.tap)
    this.sockets = open
    this.client = createClient(options.url, options.anonKey, {
      accessToken: options.token,
      realtime: {
        params: { resume: options.resume },
        heartbeatIntervalMs: HEARTBEAT_MS,
        reconnectAfterMs: (tries) => {
          const step = RECONNECT_MS[Math.min(tries, RECONNECT_MS.length) - 1] ?? 5000
          // Clients that fell off together do not come back together.
          return step * (0.75 + Math.random() / 2)
        },
        transport,
      },
    })
    globalThis.addEventListener?.('online', this.cameBack)
    globalThis.addEventListener?.('offline', this.mayBeGone)
  }

  /** Opens a channel that heals until it is closed. */
  feed(topic: string, handlers: FeedHandlers, options: FeedOptions = {}): Feed {
    const feed = new Feed(this, topic, handlers, options)
    this.feeds.add(feed)
    void feed.open()
    this.changed()
    return feed
  }

  /** Whether everything asked for is being received. */
  get isOnline(): boolean {
    return this.reachable && this.client.realtime.isConnected() && [...this.feeds].every((feed) => feed.isReady)
  }

  /** Whether the network itself is there, as far as anybody can tell. */
  get isReachable(): boolean {
    return this.reachable
  }

  get activeChannels(): number {
    return this.feeds.size
  }

  /** Calls back whenever `isOnline` or `activeChannels` may have changed. */
  onChange(listener: () => void): () => void {
    this.listeners.add(listener)
    return () => this.listeners.delete(listener)
  }

  /** Passes a new token on to every channel. */
  useToken(): void {
    void this.client.realtime.setAuth().catch(() => {})
  }

  async dispose(): Promise<void> {
    this.disposed = true
    globalThis.removeEventListener?.('online', this.cameBack)
    globalThis.removeEventListener?.('offline', this.mayBeGone)
    for (const feed of [...this.feeds]) feed.close()
    await Promise.allSettled(this.leaving.values())
    this.listeners.clear()
    await this.client.realtime.disconnect()
  }

  changed(): void {
    for (const listener of [...this.listeners]) listener()
  }

  /** Until an earlier channel of that name has been left. */
  async free(topic: string): Promise<void> {
    await this.leaving.get(topic)
  }

  /** Whether a snapshot will be sent to whoever joins now. */
  bringsRows(topic: string): boolean {
    return this.options.sendsSnapshots === true && !this.visited.has(topic)
  }

  visit(topic: string): void {
    this.visited.add(topic)
  }

  leave(feed: Feed, topic: string, channel: RealtimeChannel | null): void {
    this.feeds.delete(feed)
    if (channel !== null) this.let(topic, channel)
    this.changed()
  }

  let(topic: string, channel: RealtimeChannel): void {
    const left = this.client.removeChannel(channel).catch(() => {})
    this.leaving.set(topic, left)
    void left.then(() => {
      if (this.leaving.get(topic) === left) this.leaving.delete(topic)
    })
  }

  private readonly cameBack = (): void => {
    this.reachable = true
    // A socket from before may look open and be dead. Whatever it missed is read again.
    this.drop()
    this.client.realtime.connect()
    this.changed()
  }

  /** Browsers say offline when there is no network at all; a relay on this computer can be reached all the same. */
  private readonly mayBeGone = (): void => {
    const probe = this.options.probe ?? `${this.options.url}/healthz`
    fetch(probe, { cache: 'no-store', mode: 'no-cors', signal: AbortSignal.timeout(3000) }).catch(() => {
      if (this.disposed || navigator.onLine) return
      this.reachable = false
      this.drop()
      this.changed()
    })
  }

  private drop(): void {
    for (const socket of [...this.sockets]) socket.drop()
  }
}

/** One channel, and the ones that follow it when the server closes it. */
export class Feed {
  isReady = false
  private channel: RealtimeChannel | null = null
  private closed = false
  private attempts = 0
  private timer: ReturnType<typeof setTimeout> | undefined

  constructor(
    private readonly link: Link,
    private readonly topic: string,
    private readonly handlers: FeedHandlers,
    private readonly options: FeedOptions,
  ) {}

  /** The channel, while it is joined. */
  get joined(): RealtimeChannel | null {
    return this.isReady ? this.channel : null
  }

  async open(): Promise<void> {
    await this.link.free(this.topic)
    await this.link.client.realtime.setAuth().catch(() => {})
    if (this.closed) return
    const { presenceKey } = this.options
    const config = presenceKey === undefined ? {} : { presence: { key: presenceKey } }
    const channel = this.link.client.channel(this.topic, { config })
    this.channel = channel
    this.handlers.bind(channel, this.link.bringsRows(this.topic))
    channel.on('system', {}, (message) => this.told(channel, message as Record<string, unknown>))
    channel.subscribe((status, error) => {
      if (this.channel !== channel || this.closed) return
      if (status === 'SUBSCRIBED') this.wait(channel)
      else this.fell(channel, status === 'CLOSED', error?.message ?? null)
    })
  }

  close(): void {
    if (this.closed) return
    this.closed = true
    this.isReady = false
    clearTimeout(this.timer)
    this.link.leave(this, this.topic, this.channel)
    this.channel = null
  }

  private told(channel: RealtimeChannel, { extension, status, message, snapshot }: Record<string, unknown>): void {
    if (this.channel !== channel || extension !== 'postgres_changes') return
    if (snapshot !== undefined) this.handlers.snapshot?.(Number((snapshot as { rows: unknown }).rows))
    else if (status === 'ok') this.isWatched(channel)
    else this.handlers.gap?.(String(message))
  }

  /** The relay watches from the join on and says so at once; a server that is slower to watch says so later. */
  private wait(channel: RealtimeChannel): void {
    clearTimeout(this.timer)
    this.timer = setTimeout(() => this.isWatched(channel), WATCHED_MS)
  }

  private isWatched(channel: RealtimeChannel): void {
    clearTimeout(this.timer)
    if (this.channel !== channel || this.closed) return
    this.attempts = 0
    this.link.visit(this.topic)
    if (!this.isReady) {
      this.isReady = true
      this.handlers.joined?.(channel)
    }
    this.handlers.ready()
    this.link.changed()
  }

  private fell(channel: RealtimeChannel, forGood: boolean, words: string | null): void {
    clearTimeout(this.timer)
    this.isReady = false
    this.handlers.down?.(words)
    if (forGood) {
      this.channel = null
      this.link.let(this.topic, channel)
      const step = RECONNECT_MS[Math.min(this.attempts, RECONNECT_MS.length - 1)] ?? 5000
      this.attempts += 1
      this.timer = setTimeout(() => void this.open(), step)
    }
    this.link.changed()
  }
}
