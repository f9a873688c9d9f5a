/** What every browser test runs on: a Postgres and a relay that serves the pages, one set for each worker. */

import { type BrowserContext, type BrowserContextOptions, type Locator, type Page, test as base, expect } from '@playwright/test'

import { Cluster, freePort } from './cluster.ts'
import { CODE, Relay } from './relay.ts'

export interface Stack {
  cluster: Cluster
  relay: Relay
  /** Where the pages are. */
  url: string
}

interface People {
  /** A visitor in a browser of their own. */
  visitor: (options?: BrowserContextOptions) => Promise<Visitor>
  /** An agent in a browser of their own, signed in. */
  agent: (name?: string, options?: BrowserContextOptions) => Promise<AgentDesk>
}

export const test = base.extend<People, { stack: Stack }>({
  stack: [
    async ({}, use) => {
      const cluster = await Cluster.start()
      const relay = new Relay(await freePort(), cluster)
      await relay.start()
      await use({ cluster, relay, url: relay.url })
      await relay.stop()
      await cluster.stop()
    },
    { scope: 'worker' },
  ],
  visitor: async ({ browser, stack }, use) => {
    const contexts: BrowserContext[] = []
    await use(async (options = {}) => {
      const context = await browser.newContext(options)
      contexts.push(context)
      return Visitor.open(context, stack.url)
    })
    for (const context of contexts) await context.close()
  },
  agent: async ({ browser, stack }, use) => {
    const contexts: BrowserContext[] = []
    await use(async (name = 'Ann', options = {}) => {
      const context = await browser.newContext(options)
      contexts.push(context)
      return AgentDesk.open(context, stack.url, name)
    })
    for (const context of contexts) await context.close()
  },
})

export { expect }

/** Somebody who talks. */
abstract class Person {
  readonly log: Locator

  constructor(
    readonly context: BrowserContext,
    readonly page: Page,
  ) {
    this.log = page.getByRole('log', { name: 'Messages' })
  }

  abstract get field(): Locator

  message(text: string): Locator {
    return this.log.locator('[data-message]').filter({ hasText: text })
  }

  async say(text: string): Promise<void> {
    await this.field.fill(text)
    await this.field.press('Enter')
  }

  async sees(text: string): Promise<void> {
    await expect(this.message(text)).toHaveCount(1)
    await expect(this.message(text)).toBeVisible()
  }

  /** Says several things; each is on the page before the next is written. */
  async sayAll(texts: readonly string[]): Promise<void> {
    for (const text of texts) {
      await this.say(text)
      await expect(this.log.locator('[data-message] > p').last()).toHaveText(text)
    }
  }

  /** What was said, from the first to the last. */
  async said(): Promise<string[]> {
    return this.log.locator('[data-message] > p').allInnerTexts()
  }
}

export class Visitor extends Person {
  static async open(context: BrowserContext, url: string): Promise<Visitor> {
    const page = await context.newPage()
    await page.goto(`${url}/visitor`)
    const visitor = new Visitor(context, page)
    await page.getByRole('button', { name: 'Open chat' }).click()
    return visitor
  }

  get field(): Locator {
    return this.page.getByLabel('Message to support')
  }

  get state(): Locator {
    return this.page.getByTestId('state')
  }

  /** Starts a chat; the answer is the session's id. */
  async start(name: string, text: string): Promise<string> {
    await this.page.getByLabel('Your name').fill(name)
    await this.page.getByLabel('Your message').fill(text)
    await this.page.getByRole('button', { name: 'Start chat' }).click()
    await this.sees(text)
    return (await this.page.evaluate(() => localStorage.getItem('relay.chat.session'))) ?? ''
  }
}

export class AgentDesk extends Person {
  private visitorName = ''

  static async open(context: BrowserContext, url: string, name: string): Promise<AgentDesk> {
    const page = await context.newPage()
    await page.goto(`${url}/agent`)
    await page.getByLabel('Access code').fill(CODE)
    await page.getByLabel('Your name').fill(name)
    await page.getByRole('button', { name: 'Sign in' }).click()
    await expect(page.getByTestId('agent-state')).toContainText('online')
    return new AgentDesk(context, page)
  }

  get field(): Locator {
    return this.page.getByLabel(`Message to ${this.visitorName}`)
  }

  get assignment(): Locator {
    return this.page.getByTestId('assignment')
  }

  chat(name: string): Locator {
    return this.page.getByRole('navigation', { name: 'Chats' }).getByRole('button', { name })
  }

  async pick(name: string): Promise<void> {
    await this.chat(name).click()
    this.visitorName = name
    await expect(this.page.getByRole('heading', { level: 2, name })).toBeVisible()
  }
}
