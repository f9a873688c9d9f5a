/** From the click on one page to the words on the other. Measured and printed; nothing is asserted of the time. */

import { expect, test } from './stack.ts'

const ROUNDS = 60

test('from click to the other page', async ({ visitor, agent }) => {
  const [ann, vera] = await Promise.all([agent(), visitor()])
  await vera.start('Leo', 'Let us see how fast this is')
  await ann.pick('Leo')
  await ann.sees('Let us see')
  // When each message first stood on the agent's page. Both pages read the same clock.
  await ann.page.evaluate(() => {
    const seen: Record<string, number> = {}
    Object.assign(globalThis, { seen })
    const log = document.querySelector('[role=log]')
    if (log === null) throw new Error('no log')
    new MutationObserver(() => {
      for (const element of log.querySelectorAll('[data-message] > p')) seen[element.textContent ?? ''] ??= Date.now()
    }).observe(log, { childList: true, subtree: true })
  })
  const sent: Record<string, number> = {}
  const button = vera.page.getByRole('button', { name: 'Send' })
  for (let round = 0; round < ROUNDS; round += 1) {
    const text = `Round ${round}.`
    await vera.field.fill(text)
    sent[text] = await button.evaluate((element: HTMLElement) => {
      const at = Date.now()
      element.click()
      return at
    })
    await expect(ann.message(text)).toHaveCount(1)
  }
  const seen = await ann.page.evaluate(() => (globalThis as unknown as { seen: Record<string, number> }).seen)
  const took = Object.keys(sent).map((text) => (seen[text] ?? NaN) - (sent[text] ?? NaN)).sort((a, b) => a - b)
  expect(took).toHaveLength(ROUNDS)
  const at = (share: number): number | undefined => took[Math.min(ROUNDS - 1, Math.floor(ROUNDS * share))]
  console.log(`click to the other page, ${ROUNDS} messages: p50 ${at(0.5)} ms, p95 ${at(0.95)} ms, most ${took.at(-1)} ms`)
})
