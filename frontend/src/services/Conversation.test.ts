/** The first page as a relay sends it with the join. */

import 'fake-indexeddb/auto'

import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'

import type { ConversationView } from './Conversation.ts'
import { RealtimeChatService } from './RealtimeChatService.ts'
import { MemoryBackend, type TestChannel, TestLink, message, session, until } from './testing.ts'
import type { ChatMessage } from './types.ts'

let link: TestLink
let backend: MemoryBackend
let chat: RealtimeChatService
let told: ConversationView[]
let end: () => void

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  link = new TestLink()
  link.sendsSnapshots = true
  backend = new MemoryBackend()
  backend.sessions.set('s', session())
  chat = new RealtimeChatService({ link: link.asLink(), backend, role: 'visitor', user: crypto.randomUUID(), name: null })
  told = []
  end = chat.subscribeToConversation('s', (view) => told.push(view))
})

afterEach(async () => {
  vi.useRealTimers()
  await chat.dispose()
})

const channel = (): TestChannel => link.at('chat:s')
const view = (): ConversationView => told.at(-1)!
const bodies = (): string[] => view().messages.map(({ body }) => body)
const requests = (): number => backend.calls.filter((call) => call === 'messages').length
const bring = (rows: ChatMessage[]): void => rows.forEach((row) => channel().change('chat_messages', 'INSERT', row))
const many = (count: number): ChatMessage[] => Array.from({ length: count }, () => message())

describe('the first page', () => {
  test('comes with the join, as one, and is not asked for', async () => {
    expect(channel().asked('chat_messages')).toMatchObject({ snapshot: { limit: 50, order: 'created_at.desc,id.desc' } })
    const rows = many(50)
    channel().join()
    bring(rows)
    channel().handlers.snapshot?.(50)
    await until(() => view().isLoaded)
    const live = message({ body: 'live' })
    bring([live])
    expect(bodies()).toEqual([...rows, live].map(({ body }) => body))
    expect(view()).toMatchObject({ hasEarlier: true, unread: 51 })
    expect(new Set(told.map(({ messages }) => messages.length))).toEqual(new Set([0, 50, 51]))
    expect(requests()).toBe(0)
  })

  test('of a short conversation is all of it', async () => {
    channel().join()
    bring(many(3))
    channel().handlers.snapshot?.(3)
    await until(() => view().isLoaded)
    expect(view()).toMatchObject({ hasEarlier: false, unread: 3 })
    expect(requests()).toBe(0)
  })

  test('does not end anybody’s typing', async () => {
    channel().join()
    channel().broadcast('typing', { role: 'agent', name: 'Ann' })
    bring([message()])
    channel().handlers.snapshot?.(1)
    await until(() => view().isLoaded)
    expect(view().typing).toBe('Ann')
  })

  test('is enough for a session that is stored only after the join', async () => {
    const { id } = chat.startSession({ name: 'Vera' })
    const views: ConversationView[] = []
    chat.subscribeToConversation(id, (next) => views.push(next))
    const own = link.at(`chat:${id}`)
    own.join()
    own.handlers.snapshot?.(0)
    await until(() => backend.calls.filter((call) => call === 'session').length === 2 && views.at(-1)!.isLoaded)
    expect(requests()).toBe(0)
  })

  test.each([
    ['the relay says that it cannot be read', () => channel().handlers.gap?.('The snapshot could not be read')],
    ['it does not come', () => vi.advanceTimersByTime(4000)],
    ['the relay counts other rows', () => channel().handlers.snapshot?.(7)],
  ])('is asked for when %s', async (_, happens) => {
    backend.rows.push(...many(60))
    channel().join()
    bring(backend.rows.slice(10, 12))
    happens()
    await until(() => view().isLoaded)
    expect(bodies()).toEqual(backend.rows.slice(10).map(({ body }) => body))
    expect([requests(), chat.getStatus().gap]).toEqual([1, null])
    bring([message({ body: 'live' })])
    expect(bodies().at(-1)).toBe('live')
  })

  test('that comes after it was asked for shows nothing twice and nothing older', async () => {
    backend.rows.push(...many(60))
    channel().join()
    vi.advanceTimersByTime(4000)
    await until(() => view().isLoaded)
    const count = told.length
    bring(backend.rows.slice(8))
    channel().handlers.snapshot?.(52)
    expect(told).toHaveLength(count)
    expect(bodies()).toHaveLength(50)
  })

  test('starts over when the channel falls before it is whole', async () => {
    const rows = many(4)
    channel().join()
    bring(rows.slice(0, 2))
    channel().handlers.down?.(null)
    vi.advanceTimersByTime(60_000)
    channel().join()
    bring(rows)
    channel().handlers.snapshot?.(4)
    await until(() => view().isLoaded)
    expect([bodies().length, requests()]).toEqual([4, 0])
  })

  test('is read again after a break, for what the relay could not send', async () => {
    channel().join()
    channel().handlers.snapshot?.(0)
    await until(() => view().isLoaded)
    channel().handlers.down?.(null)
    backend.rows.push(message({ body: 'missed' }))
    channel().join()
    await until(() => bodies().length === 1)
    expect(requests()).toBe(1)
  })
})

test('a server that sends no rows with a join is not asked to', () => {
  end()
  link.sendsSnapshots = false
  chat.subscribeToConversation('t', () => {})
  expect(link.at('chat:t').asked('chat_messages')).not.toHaveProperty('snapshot')
})
