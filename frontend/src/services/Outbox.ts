/**
 * What was written and is not known to be stored, kept in IndexedDB so that it outlives the network, a reload and the
 * browser. Tabs of one person share it and tell each other; sending from two tabs stores once, because every entry has
 * its id.
 */

import type { Draft, Introduction } from './types.ts'

/** A session to be opened, before its messages. */
export interface QueuedSession {
  kind: 'session'
  id: string
  sessionId: string
  introduction: Introduction
  at: string
  order: number
}

/** A message to be sent. */
export interface QueuedMessage {
  kind: 'message'
  id: string
  sessionId: string
  draft: Draft
  at: string
  order: number
  /** Why the server refused it; such an entry waits for a person. */
  problem?: string
}

export type Entry = QueuedSession | QueuedMessage

/** What another tab did to the shared box. */
export type Told = { entry: Entry } | { gone: string; sessionId: string; discarded: boolean }

const STORE = 'entries'

export class Outbox {
  private readonly entries = new Map<string, Entry>()
  private database: IDBDatabase | null = null
  private opening: Promise<void> | null = null
  private readonly bus: BroadcastChannel | null
  private last = 0

  /** `owner` keeps the boxes of different people on one browser apart. */
  constructor(
    private readonly owner: string,
    told: (what: Told) => void = () => {},
  ) {
    this.bus = typeof BroadcastChannel === 'undefined' ? null : new BroadcastChannel(`relay-outbox-${owner}`)
    if (this.bus === null) return
    this.bus.onmessage = ({ data }: MessageEvent<Told>) => {
      if ('entry' in data) this.entries.set(data.entry.id, data.entry)
      else this.entries.delete(data.gone)
      told(data)
    }
  }

  /** Reads what an earlier visit left. Without IndexedDB (some private windows) the box lasts as long as the page. */
  open(): Promise<void> {
    this.opening ??= this.read()
    return this.opening
  }

  /** A number that grows with every entry, also between tabs. */
  next(): number {
    this.last = Math.max(this.last + 1, Date.now() * 1000)
    return this.last
  }

  /** Everything, in the order it was written. */
  list(sessionId?: string): Entry[] {
    const all = [...this.entries.values()]
    const wanted = sessionId === undefined ? all : all.filter((entry) => entry.sessionId === sessionId)
    return wanted.sort((a, b) => a.order - b.order)
  }

  get(id: string): Entry | undefined {
    return this.entries.get(id)
  }

  /** Keeps an entry. Resolves when it is on disk. */
  async put(entry: Entry): Promise<void> {
    this.entries.set(entry.id, entry)
    this.bus?.postMessage({ entry } satisfies Told)
    await this.write((store) => store.put(entry))
  }

  /** Lets an entry go: it was stored, or a person discarded it. */
  async remove(id: string, discarded = false): Promise<void> {
    const entry = this.entries.get(id)
    if (!this.entries.delete(id) || entry === undefined) return
    this.bus?.postMessage({ gone: id, sessionId: entry.sessionId, discarded } satisfies Told)
    await this.write((store) => store.delete(id))
  }

  close(): void {
    this.bus?.close()
    this.database?.close()
    this.database = null
  }

  private async read(): Promise<void> {
    try {
      this.database = await openDatabase(`relay-outbox-${this.owner}`)
      const kept = await done<Entry[]>(this.database.transaction(STORE).objectStore(STORE).getAll())
      for (const entry of kept) if (!this.entries.has(entry.id)) this.entries.set(entry.id, entry)
    } catch (error) {
      console.warn('what is written while offline will not outlive this page:', error)
    }
  }

  private async write(change: (store: IDBObjectStore) => IDBRequest): Promise<void> {
    // What is written while the database opens is on disk a moment later.
    await this.opening
    if (this.database === null) return
    try {
      await done(change(this.database.transaction(STORE, 'readwrite').objectStore(STORE)))
    } catch (error) {
      console.warn('could not write to the outbox:', error)
    }
  }
}

function openDatabase(name: string): Promise<IDBDatabase> {
  const request = indexedDB.open(name, 1)
  request.onupgradeneeded = () => request.result.createObjectStore(STORE, { keyPath: 'id' })
  return done(request)
}

function done<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result)
    request.onerror = () => reject(request.error ?? new Error('IndexedDB failed'))
  })
}
