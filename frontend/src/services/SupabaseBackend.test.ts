import { createClient } from '@supabase/supabase-js'
import { expect, test } from 'vitest'

import { ChatError } from './ChatBackend.ts'
import { SupabaseBackend } from './SupabaseBackend.ts'
import { message, session } from './testing.ts'
import type { Draft } from './types.ts'

type Answer = [status: number, body: unknown]

/** Only REST is spoken here; Node 20 has no WebSocket, and the SDK wants one. */
const realtime = { transport: class {} as unknown as typeof WebSocket }

/** A back end whose requests are written down and answered in turn. */
function backend(...answers: Answer[]): { chat: SupabaseBackend; asked: () => string[] } {
  const asked: string[] = []
  const answer: typeof fetch = (input, init) => {
    const url = new URL(String(input))
    asked.push(`${init?.method ?? 'GET'} ${url.pathname}${decodeURIComponent(url.search)}`)
    const [status, body] = answers.shift() ?? [500, { message: 'not expected' }]
    return Promise.resolve(new Response(JSON.stringify(body), { status, headers: { 'content-type': 'application/json' } }))
  }
  const client = createClient('http://supabase.test', 'key', { global: { fetch: answer }, accessToken: () => Promise.resolve('t'), realtime })
  return { chat: new SupabaseBackend(client, 'visitor', () => Promise.resolve('u')), asked: () => asked }
}

const draft: Draft = { id: 'm', sessionId: 's', body: 'Hello', senderType: 'visitor', senderName: null }

test('a message that is there already is answered, not stored again', async () => {
  const row = message({ id: 'm' })
  const { chat, asked } = backend([409, { code: '23505', message: 'duplicate key' }], [200, row])
  expect(await chat.send(draft)).toEqual(row)
  expect(asked().map((request) => request.split('?')[0])).toEqual(['POST /rest/v1/chat_messages', 'GET /rest/v1/chat_messages'])
})

test('what row security refuses is refused for good, and a server in trouble is tried again', async () => {
  const { chat } = backend([403, { code: '42501', message: 'violates row-level security' }], [503, { message: 'starting up' }])
  await expect(chat.send(draft)).rejects.toMatchObject({ kind: 'refused', status: 403 })
  await expect(chat.send(draft)).rejects.toMatchObject({ kind: 'busy' })
})

test('no network is told apart from a refusal', async () => {
  const client = createClient('http://supabase.test', 'key', {
    global: { fetch: () => Promise.reject(new TypeError('Failed to fetch')) },
    accessToken: () => Promise.resolve('t'),
    realtime,
  })
  const chat = new SupabaseBackend(client, 'visitor', () => Promise.resolve('u'))
  const failed = await chat.send(draft).catch((error: unknown) => error)
  expect(failed).toBeInstanceOf(ChatError)
  expect(failed).toMatchObject({ kind: 'unreachable' })
})

test('history is read before a message, not before its time alone', async () => {
  const [older, newer] = [message(), message()]
  const { chat, asked } = backend([200, [newer, older]])
  const page = await chat.messages('s', { before: { id: 'b', created_at: '2026-01-01T00:00:00+00:00' }, limit: 2 })
  expect(page).toEqual([older, newer])
  expect(asked()[0]).toContain('or=(created_at.lt."2026-01-01T00:00:00+00:00",and(created_at.eq."2026-01-01T00:00:00+00:00",id.lt.b))')
  expect(asked()[0]).toContain('order=created_at.desc,id.desc&limit=2')
})

test('a chat is taken only while it is free', async () => {
  const { chat, asked } = backend([200, { id: 'a' }], [200, null])
  await expect(chat.assign('s')).rejects.toMatchObject({ status: 409 })
  expect(asked()[1]).toContain('assigned_agent_id=is.null')
  const free = backend([200, { id: 'a' }], [200, session({ status: 'active' })])
  expect(await free.chat.assign('s')).toMatchObject({ status: 'active' })
})
