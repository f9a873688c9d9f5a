import { afterEach, beforeEach, expect, test, vi } from 'vitest'

import { type Grant, TokenKeeper, claimsOf } from './TokenKeeper.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

function endpoint(life: number): { ask: () => Promise<Grant>; count: () => number; broken: (is: boolean) => void } {
  let [count, broken] = [0, false]
  return {
    ask: () => {
      count += 1
      return broken ? Promise.reject(new Error('down')) : Promise.resolve({ token: `t${count}`, expires_in: life })
    },
    count: () => count,
    broken: (is) => void (broken = is),
  }
}

test('a token is asked for once and kept', async () => {
  const { ask, count } = endpoint(100)
  const keeper = new TokenKeeper(ask)
  expect(await Promise.all([keeper.current(), keeper.current()])).toEqual(['t1', 't1'])
  expect(await keeper.current()).toBe('t1')
  expect(count()).toBe(1)
  keeper.stop()
})

test('it is replaced before it runs out, and that is told', async () => {
  const renewed: string[] = []
  const keeper = new TokenKeeper(endpoint(100).ask, (token) => renewed.push(token))
  await keeper.current()
  await vi.advanceTimersByTimeAsync(79_000)
  expect(renewed).toEqual(['t1'])
  await vi.advanceTimersByTimeAsync(2_000)
  expect(renewed).toEqual(['t1', 't2'])
  keeper.stop()
})

test('while no new one is to be had the old one does, until it has run out', async () => {
  const { ask, broken } = endpoint(100)
  const keeper = new TokenKeeper(ask)
  await keeper.current()
  broken(true)
  await vi.advanceTimersByTimeAsync(90_000)
  expect(await keeper.current()).toBe('t1')
  await vi.advanceTimersByTimeAsync(11_000)
  await expect(keeper.current()).rejects.toThrow('down')
  broken(false)
  await vi.advanceTimersByTimeAsync(3_000)
  expect(await keeper.current()).toMatch(/^t\d+$/)
  keeper.stop()
})

test('a refused one is replaced at once', async () => {
  const keeper = new TokenKeeper(endpoint(100).ask)
  await keeper.current()
  expect(await keeper.current(true)).toBe('t2')
  keeper.stop()
})

test('a stopped keeper asks no more', async () => {
  const { ask, count } = endpoint(1)
  const keeper = new TokenKeeper(ask)
  await keeper.current()
  keeper.stop()
  await vi.advanceTimersByTimeAsync(60_000)
  expect(count()).toBe(1)
})

test('claims are read, with letters beyond ASCII; nonsense has none', () => {
  const body = Buffer.from(JSON.stringify({ sub: 'u', name: 'Zoë' })).toString('base64url')
  expect(claimsOf(`x.${body}.y`)).toEqual({ sub: 'u', name: 'Zoë' })
  expect(claimsOf('nonsense')).toEqual({})
})
