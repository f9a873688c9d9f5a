import { existsSync } from 'node:fs'

import { defineConfig } from '@playwright/test'

const places = [process.env['CHROMIUM'], '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome']
const program = places.find((place) => place !== undefined && existsSync(place))
if (program === undefined) throw new Error('no Chromium; run `make setup`, or set CHROMIUM to its program')

export default defineConfig({
  projects: [
    { name: 'chat', testDir: 'tests/browser', testIgnore: '**/latency.spec.ts' },
    // Alone, after the others: what is measured would be the others.
    { name: 'latency', testDir: 'tests/browser', testMatch: '**/latency.spec.ts', dependencies: ['chat'] },
    { name: 'pictures', testDir: 'tests/pictures' },
  ],
  // Each worker has a Postgres, a relay and browsers of its own.
  workers: 2,
  fullyParallel: true,
  timeout: 300_000,
  // Machines that run the tests are busy; nothing waits longer than it must.
  expect: { timeout: 90_000 },
  forbidOnly: process.env['CI'] !== undefined,
  reporter: [['list']],
  outputDir: 'test-results',
  use: {
    viewport: { width: 1280, height: 800 },
    // Tracing slows every page; TRACE=1 turns it on to look into a failure.
    trace: process.env['TRACE'] === undefined ? 'off' : 'retain-on-failure',
    screenshot: 'only-on-failure',
    launchOptions: {
      executablePath: program,
      args: [
        ...(process.getuid?.() === 0 ? ['--no-sandbox'] : []),
        '--disable-gpu',
        '--disable-quic',
        '--no-first-run',
        '--disable-background-networking',
        '--disable-component-update',
        '--disable-sync',
      ],
    },
  },
})
