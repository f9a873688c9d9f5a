import { describe, expect, test } from 'vitest'

import { MessageLog, micros } from './MessageLog.ts'
import { message } from './testing.ts'
import type { Draft } from './types.ts'

const draft = (id: string, body = id): Draft => ({ id, sessionId: 's', body, senderType: 'visitor', senderName: 'Vera' })
const bodies = (log: MessageLog): string[] => log.list().map(({ body }) => body)

describe('a message log', () => {
  test('shows a row once, however often it comes', () => {
    const log = new MessageLog('visitor')
    const row = message({ body: 'once' })
    expect(log.merge([row, row])).toBe(true)
    expect(log.merge([{ ...row }])).toBe(false)
    expect(bodies(log)).toEqual(['once'])
  })

  test('orders by time, whatever order rows come in', () => {
    const rows = [message({ body: 'a' }), message({ body: 'b' }), message({ body: 'c' })]
    const log = new MessageLog('visitor')
    log.merge([rows[2]!, rows[0]!])
    log.merge([rows[1]!])
    expect(bodies(log)).toEqual(['a', 'b', 'c'])
  })

  test('keeps the newest and what is unread when there are many', () => {
    const log = new MessageLog('agent')
    const read = (n: number): ReturnType<typeof message> => message({ body: `${n}`, sender_type: 'visitor', read_at: '2026-01-01 00:00:00+00' })
    log.merge(Array.from({ length: 4 }, (_, n) => read(n)))
    log.trim(2)
    expect(bodies(log)).toEqual(['0', '1', '2', '3'])
    log.merge([read(4)])
    log.trim(2)
    expect(bodies(log)).toEqual(['3', '4'])
    log.merge([message({ body: 'unread', sender_type: 'visitor' }), ...Array.from({ length: 4 }, (_, n) => read(n + 5))])
    log.trim(2)
    expect(bodies(log)).toEqual(['unread', '5', '6', '7', '8'])
  })

  test('orders within a millisecond, and within one time by id', () => {
    const log = new MessageLog('visitor')
    const at = (created_at: string, id: string): void => void log.merge([message({ id, body: id, created_at })])
    at('2026-01-01 00:00:00.000002+00', '3')
    at('2026-01-01T00:00:00.000001+00:00', '9')
    at('2026-01-01T00:00:00.000001+00:00', '1')
    expect(bodies(log)).toEqual(['1', '9', '3'])
  })

  test('shows drafts after what is stored, in the order they were written', () => {
    const log = new MessageLog('visitor')
    log.add(draft('d1'), '2020-01-01T00:00:00Z', 'sending')
    log.add(draft('d2'), '2019-01-01T00:00:00Z', 'sending')
    log.merge([message({ body: 'stored' })])
    expect(bodies(log)).toEqual(['stored', 'd1', 'd2'])
  })

  test.each(['id', 'client_id'] as const)('recognises the row of a draft by its %s', (key) => {
    const log = new MessageLog('visitor')
    log.add(draft('d'), '2026-01-01T00:00:00Z', 'sending')
    log.merge([message({ sender_type: 'visitor', body: 'd', [key]: 'd' })])
    expect(log.list()).toHaveLength(1)
    expect(log.list()[0]).toMatchObject({ body: 'd', delivery: 'sent' })
    expect(log.has('d')).toBe(true)
  })

  test('does not show a draft whose row was faster', () => {
    const log = new MessageLog('visitor')
    log.merge([message({ client_id: 'd', body: 'd' })])
    log.add(draft('d'), '2026-01-01T00:00:00Z', 'queued')
    expect(log.list()).toHaveLength(1)
  })

  test('never takes a receipt back', () => {
    const log = new MessageLog('visitor')
    const row = message({ sender_type: 'visitor' })
    log.merge([{ ...row, read_at: '2026-01-01T00:00:00Z' }])
    log.merge([row])
    expect(log.list()[0]?.delivery).toBe('read')
  })

  test('counts what the other side wrote and nobody read', () => {
    const log = new MessageLog('visitor')
    const row = message()
    log.merge([row, message({ sender_type: 'visitor' }), message()])
    expect(log.unread()).toBe(2)
    log.merge([{ ...row, read_at: '2026-01-01T00:00:00Z' }])
    expect(log.unread()).toBe(1)
  })

  test('gives the same list until something changes', () => {
    const log = new MessageLog('visitor')
    log.merge([message()])
    const list = log.list()
    expect(log.list()).toBe(list)
    log.add(draft('d'), '2026-01-01T00:00:00Z', 'sending')
    expect(log.list()).not.toBe(list)
  })

  test('says why a draft failed, and forgets it when it is tried again', () => {
    const log = new MessageLog('visitor')
    log.add(draft('d'), '2026-01-01T00:00:00Z', 'sending')
    log.mark('d', 'failed', 'too long')
    expect(log.list()[0]).toMatchObject({ delivery: 'failed', problem: 'too long' })
    log.mark('d', 'sending')
    expect(log.list()[0]?.problem).toBeUndefined()
    log.discard('d')
    expect(log.list()).toEqual([])
  })
})

test('a timestamp keeps its microseconds', () => {
  expect(micros('1970-01-01T00:00:00.123456+00:00')).toBe(123_456)
  expect(micros('1970-01-01 00:00:00.1+00')).toBe(100_000)
  expect(micros('1970-01-01T01:00:00+01:00')).toBe(0)
})
