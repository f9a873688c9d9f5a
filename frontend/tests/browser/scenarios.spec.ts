/** The six scenarios that the chat is accepted by, each with a visitor and an agent in browsers of their own. */

import { Visitor, expect, test } from './stack.ts'

test('a message is on the page at once, and then confirmed', async ({ visitor }) => {
  const vera = await visitor()
  await vera.start('Vera', 'Good morning')
  await vera.say('Hello support')
  await vera.sees('Hello support')
  await expect(vera.message('Hello support')).toHaveAttribute('data-delivery', 'sent')
})

test('a new chat appears in an open dashboard', async ({ visitor, agent }) => {
  const [ann, vera] = await Promise.all([agent(), visitor()])
  await vera.start('Nadia', 'Where is my parcel?')
  await expect(ann.chat('Nadia')).toContainText('Where is my parcel?')
  await expect(ann.chat('Nadia').getByLabel('1 unread message')).toBeVisible()
})

test('a visitor and an agent talk', async ({ visitor, agent }) => {
  const [ann, vera] = await Promise.all([agent(), visitor()])
  await vera.start('Viktor', 'Hi')
  await ann.pick('Viktor')
  await ann.sees('Hi')
  await ann.say('Hello Viktor, how can I help?')
  await vera.sees('Hello Viktor, how can I help?')
  await expect(ann.message('Hello Viktor')).toHaveAttribute('data-delivery', 'read')
})

test('the first answer assigns and activates the session', async ({ visitor, agent, stack }) => {
  const [ann, vera] = await Promise.all([agent('Ann'), visitor()])
  const id = await vera.start('Vida', 'Are you open on Saturday?')
  await ann.pick('Vida')
  await ann.say('Yes, from nine to one.')
  await expect(vera.log.getByText('Agent joined')).toBeVisible()
  await expect(ann.assignment).toHaveText('This chat is yours.')
  const { status, name } = await stack.cluster.row(
    'select s.status, a.display_name as name from live_chat_sessions s join support_agents a on a.id = s.assigned_agent_id where s.id = $1',
    [id],
  )
  expect({ status, name }).toEqual({ status: 'active', name: 'Ann' })
})

test('what is written offline is kept, and delivered once', async ({ visitor, agent, stack }) => {
  const [ann, vera] = await Promise.all([agent(), visitor()])
  const id = await vera.start('Otto', 'Hello')
  await ann.pick('Otto')
  await expect(vera.message('Hello')).toHaveAttribute('data-delivery', /sent|read/)
  await vera.context.setOffline(true)
  await vera.say('Can you hear me?')
  await expect(vera.message('Can you hear me?')).toContainText('Waiting to be sent')
  await expect(vera.page.getByText('You are offline. 1 message waits')).toBeVisible()
  await vera.context.setOffline(false)
  await ann.sees('Can you hear me?')
  await expect(vera.message('Can you hear me?')).toHaveAttribute('data-delivery', /sent|read/)
  await expect(vera.page.getByText('You are offline')).toBeHidden()
  const { count } = await stack.cluster.row('select count(*)::int from chat_messages where session_id = $1', [id])
  expect(count).toBe(2)
})

test('two tabs of one visitor are in step', async ({ visitor, stack }) => {
  const first = await visitor()
  await first.start('Tara', 'Hello from the first tab')
  const second = await Visitor.open(first.context, stack.url)
  await second.sees('Hello from the first tab')
  await first.say('And one more')
  await second.sees('And one more')
  await second.say('Back from the second')
  await first.sees('Back from the second')
})
