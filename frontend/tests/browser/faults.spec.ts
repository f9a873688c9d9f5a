/** What goes wrong in the middle of a conversation, and that nothing is lost or doubled by it. */

import type { Browser, BrowserContext } from '@playwright/test'

import { freePort } from './cluster.ts'
import { type Options, Relay } from './relay.ts'
import { AgentDesk, type Stack, Visitor, expect, test } from './stack.ts'

type Make = { visitor: () => Promise<Visitor>; agent: () => Promise<AgentDesk> }

/** A visitor and an agent who have each said something. */
async function talking({ visitor, agent }: Make, name: string): Promise<{ ann: AgentDesk; vera: Visitor; id: string }> {
  const [ann, vera] = await Promise.all([agent(), visitor()])
  const id = await vera.start(name, `It is ${name}`)
  await ann.pick(name)
  await ann.say('Ann here')
  await vera.sees('Ann here')
  await ann.sees(`It is ${name}`)
  return { ann, vera, id }
}

/** Both pages and the table say the same, in the same order. */
async function agree({ cluster }: Stack, id: string, ann: AgentDesk, vera: Visitor, said: number): Promise<void> {
  for (const person of [ann, vera]) await expect(person.log.locator('[data-message]')).toHaveCount(said)
  for (const person of [ann, vera]) {
    await expect(person.log.locator('[data-delivery=queued], [data-delivery=sending], [data-delivery=failed]')).toHaveCount(0)
  }
  const { rows } = await cluster.pool.query<{ body: string }>('select body from chat_messages where session_id = $1 order by created_at, id', [id])
  const stored = rows.map(({ body }) => body)
  await expect(async () => {
    expect(await ann.said()).toEqual(stored)
    expect(await vera.said()).toEqual(stored)
  }).toPass()
  expect(stored).toHaveLength(said)
  expect(new Set(stored).size).toBe(said)
}

test('the relay is killed and comes back', async ({ visitor, agent, stack }) => {
  const { ann, vera, id } = await talking({ visitor, agent }, 'Rita')
  await stack.relay.kill()
  await expect(vera.page.getByText('Connection lost, reconnecting')).toBeVisible()
  await expect(ann.page.getByText('Connection lost, reconnecting')).toBeVisible()
  await vera.say('Did the relay fall over?')
  await ann.say('It will be back')
  await stack.relay.start()
  await ann.sees('Did the relay fall over?')
  await vera.sees('It will be back')
  await expect(vera.page.getByText('Connection lost')).toBeHidden()
  await vera.say('There it is')
  await ann.sees('There it is')
  await agree(stack, id, ann, vera, 5)
})

test('Postgres is restarted', async ({ visitor, agent, stack }) => {
  const { ann, vera, id } = await talking({ visitor, agent }, 'Paula')
  const restarted = stack.cluster.restart()
  await vera.sayAll(['one', 'two', 'three'])
  await restarted
  await ann.say('four')
  for (const text of ['one', 'two', 'three']) await ann.sees(text)
  await vera.sees('four')
  await vera.say('five')
  await ann.sees('five')
  await agree(stack, id, ann, vera, 7)
})

test('both are offline for half a minute and write twenty messages each', async ({ visitor, agent, stack }) => {
  const { ann, vera, id } = await talking({ visitor, agent }, 'Olga')
  for (const person of [ann, vera]) await person.context.setOffline(true)
  for (const person of [ann, vera]) await expect(person.page.getByText('You are offline')).toBeVisible()
  const until = Date.now() + 30_000
  const twenty = (who: string): string[] => Array.from({ length: 20 }, (_, n) => `${who} ${n + 1}`)
  await Promise.all([vera.sayAll(twenty('visitor')), ann.sayAll(twenty('agent'))])
  for (const person of [ann, vera]) await expect(person.page.getByText('20 messages wait')).toBeVisible()
  // The half minute is the scenario: longer than the heartbeat, so the server lets go of both.
  await vera.page.waitForTimeout(Math.max(0, until - Date.now()))
  for (const person of [ann, vera]) await person.context.setOffline(false)
  await agree(stack, id, ann, vera, 42)
  const order = (await vera.said()).filter((text) => text.startsWith('visitor'))
  expect(order).toEqual(twenty('visitor'))
})

test('what waits outlives a reload', async ({ visitor, agent, stack }) => {
  const { ann, vera, id } = await talking({ visitor, agent }, 'Lola')
  // Only writing is cut off, so that the page itself can be loaded again.
  await vera.context.route('**/chat/v1/sessions/*/messages', (route) => (route.request().method() === 'POST' ? route.abort() : route.continue()))
  await vera.say('Kept for later')
  await expect(vera.message('Kept for later')).toContainText('Waiting to be sent')
  await vera.page.reload()
  await vera.page.getByRole('button', { name: 'Open chat' }).click()
  await expect(vera.message('Kept for later')).toContainText('Waiting to be sent')
  await vera.context.unroute('**/chat/v1/sessions/*/messages')
  await ann.sees('Kept for later')
  await agree(stack, id, ann, vera, 3)
})

test('an answer that gets lost does not store a message twice', async ({ visitor, agent, stack }) => {
  const { ann, vera, id } = await talking({ visitor, agent }, 'Dora')
  let lost = 0
  await vera.context.route('**/chat/v1/sessions/*/messages', async (route) => {
    if (route.request().method() !== 'POST' || lost === 2) return route.continue()
    lost += 1
    // The message arrives; the word that it did does not.
    await route.fetch()
    return route.abort()
  })
  await vera.say('Only once, please')
  await ann.sees('Only once, please')
  await expect(vera.message('Only once, please')).toHaveAttribute('data-delivery', 'read')
  await expect(async () => expect(lost).toBe(2)).toPass()
  await vera.say('And on')
  await ann.sees('And on')
  await agree(stack, id, ann, vera, 4)
})

test('a refused message says why, and can be tried again or given up', async ({ visitor, agent, stack }) => {
  const { ann, vera } = await talking({ visitor, agent }, 'Rosa')
  const refuse = { status: 422, contentType: 'application/problem+json', body: JSON.stringify({ title: 'Too blunt', detail: 'This is too blunt.' }) }
  await vera.context.route('**/chat/v1/sessions/*/messages', (route) => (route.request().method() === 'POST' ? route.fulfill(refuse) : route.continue()))
  await vera.say('Grr')
  await expect(vera.message('Grr')).toContainText('This is too blunt.')
  await vera.say('Hmpf')
  await expect(vera.message('Hmpf')).toContainText('Not sent')
  await vera.message('Grr').getByRole('button', { name: 'Discard' }).click()
  await expect(vera.message('Grr')).toHaveCount(0)
  await vera.context.unroute('**/chat/v1/sessions/*/messages')
  await vera.message('Hmpf').getByRole('button', { name: 'Try again' }).click()
  await ann.sees('Hmpf')
  await expect(ann.message('Grr')).toHaveCount(0)
  expect(stack.url).toContain('127.0.0.1')
})

/** What is done with a relay of its own on the same database. */
async function onRelay({ browser, stack }: { browser: Browser; stack: Stack }, options: Options, use: (make: Make) => Promise<void>): Promise<void> {
  const relay = new Relay(await freePort(), stack.cluster, options)
  await relay.start()
  const contexts: BrowserContext[] = []
  const context = async (): Promise<BrowserContext> => {
    const context = await browser.newContext()
    contexts.push(context)
    return context
  }
  try {
    await use({
      visitor: async () => Visitor.open(await context(), relay.url),
      agent: async () => AgentDesk.open(await context(), relay.url, 'Ann'),
    })
  } finally {
    for (const context of contexts) await context.close()
    await relay.stop()
  }
}

test('tokens run out and are replaced', async ({ browser, stack }) => {
  await onRelay({ browser, stack }, { tokenLifetime: '4s', slot: 'short_lived' }, async (make) => {
    const { ann, vera } = await talking(make, 'Tom')
    const renewed = (person: Visitor | AgentDesk): Promise<unknown> => person.page.waitForResponse('**/demo/token')
    for (const round of ['first', 'second']) {
      await Promise.all([renewed(ann), renewed(vera)])
      await vera.say(`After the ${round} token`)
      await ann.sees(`After the ${round} token`)
    }
    // Now no new token is to be had, and the old one runs out.
    await vera.context.route('**/demo/token', (route) => route.abort())
    await expect(vera.page.getByText('Connection lost, reconnecting')).toBeVisible()
    await ann.say('Are you still there?')
    await vera.say('I wrote this meanwhile')
    await vera.context.unroute('**/demo/token')
    await vera.sees('Are you still there?')
    await ann.sees('I wrote this meanwhile')
  })
})

test('a gap that the server announces is told, and closed', async ({ browser, stack }) => {
  await onRelay({ browser, stack }, { forgetful: true, slot: 'forgetful' }, async (make) => {
    const { ann, vera, id } = await talking(make, 'Greta')
    // More than this relay holds in memory for one transaction.
    await stack.cluster.pool.query(
      `insert into chat_messages (session_id, sender_type, sender_name, body)
       select $1, 'agent', 'Ann', 'Page ' || n || ' ' || repeat('x', 9900) from generate_series(1, 130) n`,
      [id],
    )
    await expect(vera.page.getByText('Some live updates were lost on the way')).toBeVisible()
    for (const person of [ann, vera]) await person.sees('Page 130 ')
    // Back to what both already had: nothing is left out in the middle.
    for (const person of [ann, vera]) await expect(person.log.locator('[data-message]')).toHaveCount(132)
    await vera.page.getByRole('button', { name: 'Dismiss' }).click()
    await expect(vera.page.getByText('Some live updates were lost')).toBeHidden()
  })
})
