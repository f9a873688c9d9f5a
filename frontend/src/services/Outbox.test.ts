import 'fake-indexeddb/auto'

import { expect, test } from 'vitest'

import { type Entry, Outbox, type Told } from './Outbox.ts'

const entry = (id: string, order: number, sessionId = 's'): Entry => ({
  kind: 'message',
  id,
  sessionId,
  draft: { id, sessionId, body: id, senderType: 'visitor', senderName: null },
  at: '2026-01-01T00:00:00Z',
  order,
})
const ids = (outbox: Outbox, sessionId?: string): string[] => outbox.list(sessionId).map(({ id }) => id)

test('what was put in is there on the next visit, in its order', async () => {
  const first = new Outbox('order')
  await first.open()
  await first.put(entry('b', 2))
  await first.put(entry('a', 1))
  await first.put(entry('c', 3))
  await first.remove('b')
  first.close()
  const second = new Outbox('order')
  await second.open()
  expect(ids(second)).toEqual(['a', 'c'])
  second.close()
})

test('people on one browser have boxes of their own', async () => {
  const [vera, victor] = [new Outbox('vera'), new Outbox('victor')]
  await Promise.all([vera.open(), victor.open()])
  await vera.put(entry('hers', 1))
  expect(ids(victor)).toEqual([])
  vera.close()
  victor.close()
})

test('sessions are kept apart', async () => {
  const outbox = new Outbox('sessions')
  await outbox.open()
  await outbox.put(entry('one', 1, 'a'))
  await outbox.put(entry('two', 2, 'b'))
  expect(ids(outbox, 'b')).toEqual(['two'])
  outbox.close()
})

test('tabs tell each other what they put in and take out', async () => {
  const told: Told[] = []
  let heard = (): void => {}
  const hears = (count: number): Promise<void> =>
    new Promise((resolve) => {
      heard = () => told.length >= count && resolve()
      heard()
    })
  const [tab, other] = [new Outbox('tabs'), new Outbox('tabs', (what) => { told.push(what); heard() })]
  await Promise.all([tab.open(), other.open()])
  await tab.put(entry('x', 1))
  await hears(1)
  expect(ids(other)).toEqual(['x'])
  await tab.remove('x', true)
  await hears(2)
  expect(ids(other)).toEqual([])
  expect(told[1]).toEqual({ gone: 'x', sessionId: 's', discarded: true })
  tab.close()
  other.close()
})

test('numbers grow', () => {
  const outbox = new Outbox('numbers')
  const [a, b] = [outbox.next(), outbox.next()]
  expect(b).toBeGreaterThan(a)
  outbox.close()
})
