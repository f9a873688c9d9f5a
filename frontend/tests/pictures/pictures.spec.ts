/** Takes the pictures of the README: `npm run pictures`. */

import { fileURLToPath } from 'node:url'

import { expect, test } from '../browser/stack.ts'

const to = (name: string): string => fileURLToPath(new URL(`../../pictures/${name}.png`, import.meta.url))

test('both pages and the inspector', async ({ context, stack }) => {
  const page = await context.newPage()
  await page.goto(`${stack.url}/#code=open%20sesame`)
  await page.screenshot({ path: to('start') })
  const inspector = await context.newPage()
  await inspector.goto(`${stack.url}/inspector#code=open%20sesame`)
  await inspector.getByRole('button', { name: 'Connect' }).click()
  await expect(inspector.getByTestId('inspector-state')).toContainText('Receiving')
  await inspector.getByRole('button', { name: 'Look' }).click()

  await page.bringToFront()
  await page.getByRole('button', { name: 'Try both side by side' }).click()
  const visitor = page.frameLocator('iframe[title=Visitor]')
  const agent = page.frameLocator('iframe[title=Agent]')
  const visitorSays = async (text: string): Promise<void> => {
    await visitor.getByLabel('Message to support').fill(text)
    await visitor.getByLabel('Message to support').press('Enter')
    await expect(agent.getByRole('log').getByText(text)).toBeVisible()
  }
  const agentSays = async (text: string): Promise<void> => {
    await agent.getByLabel('Message to Vera').fill(text)
    await agent.getByLabel('Message to Vera').press('Enter')
    await expect(visitor.getByRole('log').getByText(text)).toBeVisible()
  }
  await visitor.getByLabel('Your name').fill('Vera')
  await visitor.getByLabel('Your message').fill('Hello! Does the lamp come with a bulb?')
  await visitor.getByRole('button', { name: 'Start chat' }).click()
  await agent.getByRole('button', { name: 'Vera' }).click()
  await agentSays('Hello Vera. It does, and with a spare one.')
  await visitorSays('Wonderful. And when will it be here?')
  await agentSays('It left the depot this morning: tomorrow before noon 📦')
  await visitorSays('Great, thank you!')
  await agent.getByLabel('Message to Vera').pressSequentially('You are welcome')
  await expect(visitor.getByRole('log').getByText('Ann is typing')).toBeVisible()
  await page.screenshot({ path: to('chat') })

  await inspector.bringToFront()
  // Five messages, and a receipt for each.
  await expect(inspector.locator('[data-arrival]')).toHaveCount(10)
  await inspector.screenshot({ path: to('inspector') })
})
