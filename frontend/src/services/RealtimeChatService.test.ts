import 'fake-indexeddb/auto'

import { afterEach, beforeEach, describe, expect, test } from 'vitest'

import { ChatError } from './ChatBackend.ts'
import type { ConversationView } from './Conversation.ts'
import type { DeskView } from './Desk.ts'
import { type ChatStatus, RealtimeChatService } from './RealtimeChatService.ts'
import { MemoryBackend, TestLink, message, session, until } from './testing.ts'
import type { Role } from './types.ts'

let link: TestLink
let backend: MemoryBackend
const made: RealtimeChatService[] = []

function service(role: Role = 'visitor', user: string = crypto.randomUUID()): RealtimeChatService {
  const chat = new RealtimeChatService({ link: link.asLink(), backend, role, user, name: role === 'agent' ? 'Ann' : null })
  made.push(chat)
  return chat
}

/** What a listener was told last. */
function watch(chat: RealtimeChatService, id = 's'): { view: () => ConversationView; bodies: () => string[]; end: () => void } {
  let last: ConversationView | null = null
  const end = chat.subscribeToConversation(id, (view) => (last = view))
  const view = (): ConversationView => {
    if (last === null) throw new Error('nothing was told')
    return last
  }
  return { view, bodies: () => view().messages.map(({ body }) => body), end }
}

const unreachable = (): ChatError => new ChatError('unreachable', 'no network')

beforeEach(() => {
  link = new TestLink()
  backend = new MemoryBackend()
  backend.sessions.set('s', session())
})

afterEach(async () => {
  await Promise.all(made.splice(0).map((chat) => chat.dispose()))
})

describe('history', () => {
  test('is read after the channel is joined, and merged with what came live', async () => {
    const old = message({ body: 'old' })
    backend.rows.push(old)
    const chat = watch(service())
    expect(backend.calls).toEqual([])
    link.at('chat:s').change('chat_messages', 'INSERT', message({ body: 'live' }))
    link.at('chat:s').join()
    await until(() => chat.view().isLoaded)
    expect(chat.bodies()).toEqual(['old', 'live'])
    expect(backend.calls.filter((call) => call === 'messages')).toHaveLength(1)
  })

  test('is the last fifty, and more when asked', async () => {
    backend.rows.push(...Array.from({ length: 70 }, () => message()))
    const visitor = service()
    const chat = watch(visitor)
    link.at('chat:s').join()
    await until(() => chat.view().isLoaded)
    expect(chat.view()).toMatchObject({ hasEarlier: true })
    expect(chat.bodies()).toHaveLength(50)
    await visitor.loadEarlier('s')
    expect(chat.bodies()).toEqual(backend.rows.map(({ body }) => body))
    expect(chat.view().hasEarlier).toBe(false)
  })

  test('has one end: a late change of long ago does not stand alone above it', async () => {
    backend.rows.push(...Array.from({ length: 70 }, () => message()))
    const chat = watch(service())
    const channel = link.at('chat:s')
    channel.change('chat_messages', 'INSERT', backend.rows[3]!)
    channel.join()
    await until(() => chat.view().isLoaded)
    channel.change('chat_messages', 'INSERT', backend.rows[5]!)
    expect(chat.bodies()).toEqual(backend.rows.slice(20).map(({ body }) => body))
  })

  test('after a reconnect leaves no hole, however much was missed and whatever came live first', async () => {
    backend.rows.push(message({ body: 'before' }))
    const chat = watch(service())
    const channel = link.at('chat:s')
    channel.join()
    await until(() => chat.view().isLoaded)
    channel.handlers.down?.(null)
    backend.rows.push(...Array.from({ length: 120 }, () => message()))
    // Live again, and the newest is faster than history.
    channel.change('chat_messages', 'INSERT', backend.rows.at(-1)!)
    channel.join()
    await until(() => chat.bodies().length === 121)
    expect(chat.bodies()).toEqual(backend.rows.map(({ body }) => body))
  })

  test('is read again after an announced gap, which is then told', async () => {
    const visitor = service()
    const chat = watch(visitor)
    const channel = link.at('chat:s')
    channel.join()
    await until(() => chat.view().isLoaded)
    backend.rows.push(message({ body: 'missed' }))
    channel.handlers.gap?.('Changes may be missing')
    expect(visitor.getStatus().gap).toBeNull()
    await until(() => visitor.getStatus().gap === 'Changes may be missing')
    expect(chat.bodies()).toEqual(['missed'])
    visitor.dismissGap()
    expect(visitor.getStatus().gap).toBeNull()
  })

  test('of a session that is not for us is empty, and not asked for for ever', async () => {
    backend.trouble = () => new ChatError('refused', 'no', 404)
    const chat = watch(service(), 'somebody-elses')
    link.at('chat:somebody-elses').join()
    await until(() => chat.view().isLoaded)
    expect(chat.view().session).toBeNull()
  })
})

describe('sending', () => {
  test('shows a message at once, then its row, once', async () => {
    const visitor = service()
    const chat = watch(visitor)
    const id = visitor.sendMessage('s', '  Hello  ')
    expect(chat.view().messages).toMatchObject([{ id, body: 'Hello', delivery: 'sending' }])
    await until(() => chat.view().messages[0]?.delivery === 'sent')
    link.at('chat:s').change('chat_messages', 'INSERT', backend.rows[0]!)
    expect(chat.bodies()).toEqual(['Hello'])
    expect(visitor.getStatus().queued).toBe(0)
  })

  test('sends nothing that is empty', () => {
    expect(service().sendMessage('s', ' \n ')).toBe('')
  })

  test('keeps what cannot be sent, says so, and sends it in order', async () => {
    const visitor = service()
    const chat = watch(visitor)
    backend.trouble = unreachable
    link.set({ isOnline: false, isReachable: false })
    for (const text of ['one', 'two', 'three']) visitor.sendMessage('s', text)
    await until(() => chat.view().messages.every(({ delivery }) => delivery === 'queued'))
    expect(visitor.getStatus()).toMatchObject({ phase: 'offline', queued: 3, isOnline: false })
    backend.trouble = () => null
    link.set({ isOnline: true, isReachable: true })
    await until(() => visitor.getStatus().queued === 0)
    expect(backend.rows.map(({ body }) => body)).toEqual(['one', 'two', 'three'])
    expect(chat.bodies()).toEqual(['one', 'two', 'three'])
  })

  test('stores once what was sent twice because its answer was lost', async () => {
    const visitor = service()
    const chat = watch(visitor)
    backend.afterwards = unreachable
    visitor.sendMessage('s', 'once')
    await until(() => chat.view().messages[0]?.delivery === 'queued')
    backend.afterwards = () => null
    link.set({ isOnline: true })
    await until(() => visitor.getStatus().queued === 0)
    expect(backend.calls.filter((call) => call === 'send once').length).toBeGreaterThan(1)
    expect(backend.rows).toHaveLength(1)
    expect(chat.bodies()).toEqual(['once'])
  })

  test('does not go on trying what is refused, and goes on with the rest', async () => {
    const visitor = service()
    const chat = watch(visitor)
    backend.trouble = (call) => (call === 'send bad' ? new ChatError('refused', 'too blunt', 422) : null)
    const id = visitor.sendMessage('s', 'bad')
    visitor.sendMessage('s', 'good')
    await until(() => backend.rows.length === 1)
    expect(chat.view().messages).toMatchObject([{ body: 'good' }, { body: 'bad', delivery: 'failed', problem: 'too blunt' }])
    backend.trouble = () => null
    visitor.retry(id)
    await until(() => backend.rows.length === 2)
  })

  test('gives up what is discarded', async () => {
    const visitor = service()
    const chat = watch(visitor)
    backend.trouble = () => new ChatError('refused', 'no', 403)
    const id = visitor.sendMessage('s', 'never mind')
    await until(() => chat.view().messages[0]?.delivery === 'failed')
    visitor.discard(id)
    expect(chat.bodies()).toEqual([])
  })

  test('opens the session before its first message, also when both had to wait', async () => {
    const visitor = service()
    backend.trouble = unreachable
    const { id } = visitor.startSession({ name: 'Vera' })
    visitor.sendMessage(id, 'Hello')
    backend.trouble = () => null
    link.set({ isOnline: true })
    await until(() => backend.rows.length === 1)
    expect(backend.calls.filter((call) => call === 'create' || call.startsWith('send'))).toEqual(['create', 'send Hello'])
    expect(backend.rows[0]).toMatchObject({ session_id: id, sender_name: 'Vera' })
  })

  test('sends on the next visit what the last one left', async () => {
    const user = crypto.randomUUID()
    backend.trouble = unreachable
    const first = service('visitor', user)
    const chat = watch(first)
    first.sendMessage('s', 'for later')
    await until(() => chat.view().messages[0]?.delivery === 'queued')
    await first.dispose()
    backend.trouble = () => null
    const second = service('visitor', user)
    await until(() => backend.rows.length === 1)
    expect(watch(second).bodies()).toEqual(['for later'])
  })
})

describe('a conversation', () => {
  test('has one channel for all its listeners, and none after the last', () => {
    const visitor = service()
    const ends = [visitor.subscribeToSessionMessages('s', () => {}), visitor.subscribeToSession('s', () => {})]
    expect(visitor.getStatus().activeChannels).toBe(1)
    const channel = link.at('chat:s')
    ends[0]?.()
    expect(channel.isClosed).toBe(false)
    ends[1]?.()
    ends[1]?.()
    expect(channel.isClosed).toBe(true)
    expect(visitor.getStatus().activeChannels).toBe(0)
  })

  test('takes the newer of two rows of its session', async () => {
    const chat = watch(service())
    const [older, newer] = [session({ status: 'active' }), session({ status: 'closed' })]
    link.at('chat:s').change('live_chat_sessions', 'UPDATE', newer)
    link.at('chat:s').change('live_chat_sessions', 'UPDATE', older)
    expect(chat.view().session?.status).toBe('closed')
  })

  test('knows who is there and who types on the other side', () => {
    const chat = watch(service())
    const channel = link.at('chat:s')
    channel.presence({ a: [{ role: 'agent', name: 'Ann' }], v: [{ role: 'visitor', name: null }] })
    expect(chat.view()).toMatchObject({ otherIsHere: true, otherName: 'Ann', typing: null })
    channel.broadcast('typing', { role: 'visitor', name: 'Vera' })
    expect(chat.view().typing).toBeNull()
    channel.broadcast('typing', { role: 'agent', name: 'Ann' })
    expect(chat.view().typing).toBe('Ann')
    channel.change('chat_messages', 'INSERT', message())
    expect(chat.view().typing).toBeNull()
    channel.handlers.down?.(null)
    expect(chat.view().otherIsHere).toBe(false)
  })

  test('tells of typing at most now and then, and again after sending', () => {
    const visitor = service()
    watch(visitor)
    const typed = (): number => link.at('chat:s').sent.filter(({ event }) => event === 'typing').length
    visitor.setTyping('s')
    visitor.setTyping('s')
    expect(typed()).toBe(1)
    visitor.sendMessage('s', 'done')
    visitor.setTyping('s')
    expect(typed()).toBe(2)
  })
})

describe('the desk', () => {
  const desk = (chat: RealtimeChatService): (() => DeskView) => {
    let last: DeskView = { items: [], isLoaded: false }
    chat.subscribeToDesk((view) => (last = view))
    return () => last
  }

  test('shows open sessions with what is unread, and new ones as they come', async () => {
    backend.rows.push(message({ sender_type: 'visitor', body: 'Hi' }))
    const view = desk(service('agent'))
    const channel = link.at('support-desk')
    channel.join()
    await until(() => view().items[0]?.last !== null && view().isLoaded)
    expect(view().items).toMatchObject([{ unread: 1, last: { body: 'Hi' } }])
    channel.change('live_chat_sessions', 'INSERT', session({ id: 't' }))
    channel.change('chat_messages', 'INSERT', message({ session_id: 't', sender_type: 'visitor' }))
    expect(view().items.map(({ session, unread }) => [session.id, unread])).toEqual([
      ['t', 1],
      ['s', 1],
    ])
  })

  test('counts a message once that both history and the stream bring', async () => {
    const row = message({ sender_type: 'visitor' })
    backend.rows.push(row)
    const view = desk(service('agent'))
    link.at('support-desk').change('chat_messages', 'INSERT', row)
    link.at('support-desk').join()
    await until(() => view().isLoaded && view().items[0]?.last !== null)
    expect(view().items[0]?.unread).toBe(1)
  })

  test('learns after a reconnect what was closed meanwhile', async () => {
    const view = desk(service('agent'))
    link.at('support-desk').join()
    await until(() => view().items.length === 1)
    backend.sessions.set('s', session({ status: 'closed' }))
    link.at('support-desk').join()
    await until(() => view().items[0]?.session.status === 'closed')
  })

  test('lets go of chats that were closed long ago', async () => {
    const view = desk(service('agent'))
    const channel = link.at('support-desk')
    channel.join()
    await until(() => view().isLoaded && view().items.length === 1)
    for (let n = 100; n < 200; n += 1) {
      const closed = session({ id: `c${n}`, status: 'closed', updated_at: `2026-01-01 00:00:00.${n}+00` })
      channel.change('live_chat_sessions', 'INSERT', { ...closed, status: 'open' })
      channel.change('live_chat_sessions', 'UPDATE', closed)
    }
    expect(view().items.map(({ session }) => session.id)).toHaveLength(51)
    channel.change('chat_messages', 'UPDATE', message({ session_id: 'c100' }))
    expect(view().items.some(({ session }) => session.id === 'c100')).toBe(false)
    expect(view().items.some(({ session }) => session.id === 'c199')).toBe(true)
  })

  test('shows as read at once what the agent has read', async () => {
    backend.rows.push(message({ sender_type: 'visitor' }))
    const agent = service('agent')
    const view = desk(agent)
    link.at('support-desk').join()
    await until(() => view().items[0]?.unread === 1)
    const marked = agent.markRead('s')
    expect(view().items[0]?.unread).toBe(0)
    await marked
  })
})

test('the status is told when it changes, and is the same object while it does not', () => {
  const visitor = service()
  const told: ChatStatus[] = []
  const end = visitor.onStatusChange((status) => told.push(status))
  expect(visitor.getStatus()).toBe(visitor.getStatus())
  link.set({ isOnline: true })
  link.set({ isOnline: false })
  expect(told.at(-1)).toMatchObject({ isOnline: false, phase: 'reconnecting' })
  const count = told.length
  end()
  link.set({ isOnline: true })
  expect(told).toHaveLength(count)
})
