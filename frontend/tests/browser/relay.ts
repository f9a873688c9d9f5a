/**
 * The built relay as `relay demo` runs it: its chat API, its tokens and the built pages, on a database of the tests'. It is
 * killed when the test process is gone.
 */

import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, mkdirSync, openSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

import type { Cluster } from './cluster.ts'

export const CODE = 'open sesame'

const SECRET = 'a-secret-for-tests-of-at-least-thirty-two-bytes'
const PAGES = fileURLToPath(new URL('../../dist/', import.meta.url))
const PROGRAM = process.env['RELAY_BIN'] ?? fileURLToPath(new URL('../../../target/debug/relay', import.meta.url))

export interface Options {
  /** How long tokens live. */
  tokenLifetime?: string
  /** The replication slot; each relay on a database needs its own. */
  slot?: string
  /** Whether it keeps what it has read in memory only, and little of it. */
  forgetful?: boolean
}

export class Relay {
  /** Where the pages are. */
  readonly url: string
  private child: ChildProcess | null = null
  private readonly place: string

  constructor(
    readonly port: number,
    private readonly cluster: Cluster,
    private readonly options: Options = {},
  ) {
    this.url = `http://127.0.0.1:${port}`
    this.place = join(tmpdir(), `relay-browser-${process.pid}-${port}`)
  }

  async start(): Promise<void> {
    if (!existsSync(PROGRAM)) throw new Error(`${PROGRAM} is missing; run cargo build`)
    mkdirSync(this.place, { recursive: true })
    const { tokenLifetime = '1h', slot = 'relay', forgetful = false } = this.options
    const log = openSync(this.log, 'a')
    const script = `exec 3<&0; (cat <&3 >/dev/null; kill -KILL $$) & exec "$0" "$@" 3<&- </dev/null`
    const demo = ['demo', '--listen', `127.0.0.1:${this.port}`, '--database', this.cluster.url, '--pages', PAGES]
    this.child = spawn('sh', ['-c', script, PROGRAM, ...demo, '--code', CODE, '--token-lifetime', tokenLifetime], {
      cwd: tmpdir(),
      stdio: ['pipe', log, log],
      env: {
        PATH: process.env['PATH'],
        RUST_LOG: 'relay=info',
        // Where a demo says that it runs.
        XDG_RUNTIME_DIR: this.place,
        RELAY_POSTGRES__URL: this.cluster.relayUrl,
        RELAY_POSTGRES__SLOT: slot,
        ...(forgetful
          ? // Small enough for a test to lose one.
            { RELAY_POSTGRES__MAX_TRANSACTION: '1 MiB' }
          : { RELAY_LOG__DIR: join(this.place, 'changes') }),
        RELAY_AUTH__JWT_SECRET: SECRET,
      },
    })
    await this.ready()
  }

  /** Ends it as the system would. */
  async kill(): Promise<void> {
    const child = this.child
    if (child === null) return
    this.child = null
    const ended = new Promise((resolve) => child.once('exit', resolve))
    child.stdin?.end()
    await ended
  }

  /** Ends it for good. */
  async stop(): Promise<void> {
    await this.kill()
    rmSync(this.place, { recursive: true, force: true })
  }

  /** Until it streams. */
  async ready(): Promise<void> {
    for (;;) {
      if (this.child?.exitCode != null) throw new Error(`the relay exited\n${readFileSync(this.log, 'utf8').slice(-3000)}`)
      const answer = await fetch(`${this.url}/readyz`).catch(() => null)
      if (answer?.status === 200) return
      await new Promise((resolve) => setTimeout(resolve, 25))
    }
  }

  private get log(): string {
    return join(this.place, 'log')
  }
}
