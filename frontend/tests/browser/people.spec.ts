/** Who may see what, who does what at the same time, and what makes a chat pleasant. */

import { randomUUID } from 'node:crypto'

import { Visitor, expect, test } from './stack.ts'

test('a visitor does not get to see the session of another', async ({ visitor, agent, stack }) => {
  const [ann, vera] = await Promise.all([agent(), visitor()])
  const id = await vera.start('Sina', 'My card number is secret')
  await ann.pick('Sina')
  await ann.sees('My card number is secret')

  // Somebody who knows the id, and puts it where their own would be.
  const mallory = await visitor()
  const frames: string[] = []
  mallory.page.on('websocket', (socket) => socket.on('framereceived', ({ payload }) => frames.push(String(payload))))
  await mallory.page.evaluate((id) => localStorage.setItem('relay.chat.session', id), id)
  await mallory.page.reload()
  await mallory.page.getByRole('button', { name: 'Open chat' }).click()
  await expect(mallory.page.getByRole('button', { name: 'Start chat' })).toBeVisible()

  await vera.say('And my address is secret too')
  await ann.sees('And my address is secret too')
  await mallory.start('Mallory', 'Can I see other chats?')
  await expect(mallory.message('Can I see other chats?')).toHaveAttribute('data-delivery', 'sent')
  await expect(mallory.page.getByText('secret')).toHaveCount(0)
  expect(frames.length).toBeGreaterThan(0)
  expect(frames.filter((frame) => frame.includes('secret'))).toEqual([])
  expect(stack.url).toContain('127.0.0.1')
})

test('a wrong access code is refused', async ({ page, stack }) => {
  await page.goto(`${stack.url}/agent`)
  await page.getByLabel('Access code').fill('guess')
  await page.getByRole('button', { name: 'Sign in' }).click()
  await expect(page.getByRole('alert')).toHaveText('This access code is not right.')
})

test('of two agents who take a chat at once, one has it', async ({ visitor, agent }) => {
  const [ann, bea, vera] = await Promise.all([agent('Ann'), agent('Bea'), visitor()])
  await vera.start('Zora', 'Who takes me?')
  await Promise.all([ann.pick('Zora'), bea.pick('Zora')])
  const take = { name: 'Take chat' }
  await Promise.all([ann, bea].map((desk) => desk.page.getByRole('button', take).dispatchEvent('click')))
  await expect(async () => {
    const words = await Promise.all([ann.assignment.innerText(), bea.assignment.innerText()])
    expect(words.filter((text) => text === 'This chat is yours.')).toHaveLength(1)
    expect(words.filter((text) => /^(Ann|Bea) has this chat\./.test(text))).toHaveLength(1)
  }).toPass()
  const annWon = (await ann.assignment.innerText()) === 'This chat is yours.'
  const [winner, loser] = annWon ? [ann, bea] : [bea, ann]
  await expect(loser.assignment).toContainText(`${annWon ? 'Ann' : 'Bea'} has this chat.`)
  await expect(vera.log.getByText('Agent joined')).toBeVisible()
  await winner.say('I do')
  await vera.sees('I do')
  await loser.sees('I do')
})

test('typing, presence and receipts are seen on both sides', async ({ visitor, agent }) => {
  const ann = await agent()
  const vera = await visitor()
  await expect(vera.state).toHaveText('We are online')
  await vera.start('Ines', 'Hello')
  await expect(vera.state).toHaveText('Waiting for an agent')
  await expect(vera.message('Hello')).toHaveAttribute('data-delivery', 'sent')
  await ann.pick('Ines')
  await expect(vera.state).toHaveText('Online, in this chat')
  await expect(vera.message('Hello')).toHaveAttribute('data-delivery', 'read')
  await expect(ann.page.getByTestId('visitor-state')).toHaveText('Online')
  await ann.field.pressSequentially('One mo')
  await expect(vera.log.getByText('Ann is typing')).toBeVisible()
  await vera.field.pressSequentially('Su')
  await expect(ann.log.getByText('Ines is typing')).toBeVisible()
  await ann.field.press('Enter')
  await vera.sees('One mo')
  await expect(vera.log.getByText('Ann is typing')).toBeHidden()
  await vera.context.close()
  await expect(ann.page.getByTestId('visitor-state')).toHaveText('Offline')
})

test('what arrives behind a minimised chat is counted until it is read', async ({ visitor, agent }) => {
  const [ann, vera] = await Promise.all([agent(), visitor()])
  await vera.start('Mina', 'Back in a minute')
  await ann.pick('Mina')
  await vera.page.keyboard.press('Escape')
  const launcher = vera.page.getByRole('button', { name: 'Open chat' })
  await expect(launcher).toBeFocused()
  await ann.sayAll(['First', 'Second'])
  await expect(vera.page.getByRole('button', { name: 'Open chat, 2 unread messages' })).toBeVisible()
  await expect(vera.page).toHaveTitle(/^\(2\)/)
  await expect(ann.message('Second')).toHaveAttribute('data-delivery', 'sent')
  await vera.page.keyboard.press('Enter')
  await vera.sees('Second')
  await expect(ann.message('Second')).toHaveAttribute('data-delivery', 'read')
  await expect(vera.page).toHaveTitle(/^Your order/)
})

test('a chat is closed and rated', async ({ visitor, agent, stack }) => {
  const [ann, vera] = await Promise.all([agent(), visitor()])
  const id = await vera.start('Cleo', 'All good now')
  await ann.pick('Cleo')
  await ann.page.getByRole('button', { name: 'Take chat' }).click()
  await ann.page.getByRole('button', { name: 'Close chat' }).click()
  await expect(vera.log.getByText('This chat was closed.')).toBeVisible()
  await vera.page.getByLabel('4 of 5: Good').check({ force: true })
  await vera.page.getByLabel('Anything to add?').fill('quick')
  await vera.page.getByRole('button', { name: 'Send rating' }).click()
  await expect(vera.page.getByText('You rated this chat 4 of 5')).toBeVisible()
  await expect(ann.assignment).toHaveText('Closed · rated 4 of 5: “quick”')
  expect(await stack.cluster.row('select status, rating, feedback from live_chat_sessions where id = $1', [id])).toEqual({
    status: 'closed',
    rating: 4,
    feedback: 'quick',
  })
  await vera.page.getByRole('button', { name: 'Start a new chat' }).click()
  await vera.start('Cleo', 'One more thing')
  await expect(ann.chat('Cleo')).toHaveCount(2)
})

test('emoji are picked with the keyboard', async ({ visitor }) => {
  const vera = await visitor()
  await vera.start('Emil', 'Hi')
  await vera.page.getByRole('button', { name: 'Emoji' }).focus()
  await vera.page.keyboard.press('Enter')
  await vera.page.keyboard.press('ArrowDown')
  await vera.page.keyboard.press('ArrowDown')
  await expect(vera.page.getByRole('button', { name: 'thumbs up' })).toBeFocused()
  await vera.page.keyboard.press('Enter')
  await expect(vera.field).toHaveValue('👍')
  await expect(vera.field).toBeFocused()
  await vera.page.keyboard.press('Enter')
  await vera.sees('👍')
})

test('the last fifty messages are there, earlier ones on request', async ({ visitor, stack }) => {
  const vera = await visitor()
  const id = await vera.start('Hilda', 'The first')
  await expect(vera.message('The first')).toHaveAttribute('data-delivery', 'sent')
  await vera.page.keyboard.press('Escape')
  await stack.cluster.pool.query(
    `insert into chat_messages (id, session_id, sender_type, sender_name, body, created_at)
     select gen_random_uuid(), $1, 'agent', 'Ann', 'Line ' || lpad(n::text, 3, '0'), now() + n * interval '1 microsecond'
     from generate_series(1, 119) n`,
    [id],
  )
  const asked: string[] = []
  vera.context.on('request', (request) => {
    // The page that is open already asks as it needs to.
    if (request.frame().page() === vera.page) return
    if (request.method() === 'GET' && request.url().includes(`/chat/v1/sessions/${id}`)) asked.push(new URL(request.url()).pathname)
  })
  const again = await Visitor.open(vera.context, stack.url)
  const lastFifty = async (): Promise<void> => {
    await again.sees('Line 119')
    await expect(again.log.locator('[data-message]')).toHaveCount(50)
    await expect(again.message('Line 119')).toBeInViewport()
    await expect(again.page.getByRole('button', { name: 'Show earlier messages' })).toBeVisible()
  }
  await lastFifty()
  await again.page.reload()
  await again.page.getByRole('button', { name: 'Open chat' }).click()
  await lastFifty()
  // The messages came with the join, both times; only the session's row was asked for.
  expect(asked).toEqual([`/chat/v1/sessions/${id}`, `/chat/v1/sessions/${id}`])
  const earlier = again.page.getByRole('button', { name: 'Show earlier messages' })
  await earlier.click()
  await expect(again.log.locator('[data-message]')).toHaveCount(100)
  await expect(again.message('Line 070')).toBeInViewport()
  await earlier.click()
  await expect(again.log.locator('[data-message]')).toHaveCount(120)
  const said = await again.said()
  expect(said).toEqual(['The first', ...Array.from({ length: 119 }, (_, n) => `Line ${String(n + 1).padStart(3, '0')}`)])
  await expect(earlier).toBeHidden()
})

test('a chat that is opened again has what was said meanwhile', async ({ visitor, agent }) => {
  const [ann, vera, otto] = await Promise.all([agent(), visitor(), visitor()])
  const joins: string[] = []
  ann.page.on('websocket', (socket) =>
    socket.on('framesent', ({ payload }) => {
      if (String(payload).includes('phx_join') && String(payload).includes(`:chat:${id}"`)) joins.push(String(payload))
    }),
  )
  const id = await vera.start('Wanda', 'First')
  await otto.start('Otis', 'Me too')
  // So that the page's socket is one that is listened to.
  await ann.page.reload()
  await ann.pick('Wanda')
  await ann.sees('First')
  await ann.pick('Otis')
  await ann.sees('Me too')
  await vera.say('Second')
  await expect(ann.chat('Wanda')).toContainText('Second')
  await ann.pick('Wanda')
  await ann.sees('Second')
  expect(await ann.said()).toEqual(['First', 'Second'])
  // Where the relay continues it sends no page, so none is waited for.
  expect(joins.map((join) => join.includes('"snapshot"'))).toEqual([true, false])
})

test('it fits a phone', async ({ visitor, agent }) => {
  const phone = { viewport: { width: 360, height: 640 }, hasTouch: true, isMobile: true }
  const [ann, vera] = await Promise.all([agent('Ann', phone), visitor(phone)])
  await vera.start('Phil', 'From the bus')
  await ann.pick('Phil')
  await ann.say(`A long word: ${'x'.repeat(300)}`)
  await vera.sees('A long word')
  for (const { page, field } of [ann, vera]) {
    await expect(field).toBeInViewport()
    const over = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)
    expect(over).toBeLessThanOrEqual(0)
  }
  const box = await vera.page.getByRole('dialog', { name: 'Chat with support' }).boundingBox()
  expect(box).toMatchObject({ x: 0, y: 0, width: 360, height: 640 })
  await ann.page.getByRole('button', { name: 'Back to the chats' }).click()
  await expect(ann.chat('Phil')).toBeVisible()
})

test('the start page opens both sides next to each other', async ({ page, stack }) => {
  await page.goto(`${stack.url}/#code=open%20sesame`)
  await expect(page.getByRole('heading', { name: 'A support chat that lives in Postgres' })).toBeInViewport()
  await expect(page.getByRole('link', { name: 'Open the dashboard' })).toBeInViewport()
  await page.getByRole('button', { name: 'Try both side by side' }).click()
  const visitor = page.frameLocator('iframe[title=Visitor]')
  const agent = page.frameLocator('iframe[title=Agent]')
  await visitor.getByLabel('Your name').fill('Bob')
  await visitor.getByLabel('Your message').fill('Next to each other')
  await visitor.getByRole('button', { name: 'Start chat' }).click()
  await agent.getByRole('button', { name: 'Bob' }).click()
  await expect(agent.getByRole('log').getByText('Next to each other')).toBeVisible()
})

test('the inspector shows changes, their lag, and who is present', async ({ page, agent, stack }) => {
  await agent('Ann')
  await page.goto(`${stack.url}/inspector`)
  await page.getByLabel('… or the demo’s access code').fill('open sesame')
  await page.getByLabel('Filter').fill('visitor_name=eq.Isa')
  await page.getByLabel('Table').fill('live_chat_sessions')
  await page.getByRole('button', { name: 'Connect' }).click()
  await expect(page.getByTestId('inspector-state')).toContainText('Receiving every change of public.live_chat_sessions where visitor_name=eq.Isa')
  const id = randomUUID()
  const insert = 'insert into live_chat_sessions (id, visitor_id, visitor_name) values ($1, gen_random_uuid(), $2)'
  await stack.cluster.pool.query(insert, [randomUUID(), 'Not Isa'])
  await stack.cluster.pool.query(insert, [id, 'Isa'])
  await stack.cluster.pool.query(`update live_chat_sessions set status = 'closed' where id = $1`, [id])
  const rows = page.locator('[data-arrival]')
  await expect(rows).toHaveCount(2)
  await expect(rows.first()).toContainText('UPDATE')
  await expect(rows.first()).toContainText(' ms')
  await expect(rows.last()).toContainText('INSERT')
  await rows.first().click()
  await expect(page.locator('pre')).toContainText('"status": "waiting"')
  await expect(page.getByRole('img', { name: 'Lag and rate of the last minute: 2 changes' })).toBeVisible()
  await page.getByRole('button', { name: 'Look' }).click()
  await expect(page.getByLabel('Channels and presence')).toContainText('"name":"Ann"')
  await page.getByLabel('Filter').fill('nothing')
  await page.getByRole('button', { name: 'Connect again' }).click()
  await expect(page.getByRole('alert').or(page.getByTestId('inspector-state')).first()).toBeVisible()
})
