/** The built relay, as a process of its own. It is killed when the test process is gone. */

import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, openSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const SECRET = 'a-secret-for-tests-of-at-least-thirty-two-bytes'

const PROGRAM = process.env['RELAY_BIN'] ?? fileURLToPath(new URL('../../../target/debug/relay', import.meta.url))

export class Relay {
  private child: ChildProcess | null = null
  private readonly log: string

  constructor(
    readonly port: number,
    private readonly databaseUrl: string,
  ) {
    this.log = join(tmpdir(), `relay-browser-${process.pid}-${port}.log`)
  }

  async start(): Promise<void> {
    if (!existsSync(PROGRAM)) throw new Error(`${PROGRAM} is missing; run cargo build`)
    const log = openSync(this.log, 'a')
    const script = `exec 3<&0; (cat <&3 >/dev/null; kill -KILL $$) & exec "$0" run 3<&- </dev/null`
    this.child = spawn('sh', ['-c', script, PROGRAM], {
      cwd: tmpdir(),
      stdio: ['pipe', log, log],
      env: {
        PATH: process.env['PATH'],
        RUST_LOG: 'relay=info',
        RELAY_HTTP__LISTEN: `127.0.0.1:${this.port}`,
        RELAY_HTTP__DRAIN: '1s',
        // Small enough for a test to lose one.
        RELAY_POSTGRES__MAX_TRANSACTION: '1 MiB',
        RELAY_POSTGRES__URL: this.databaseUrl,
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
    rmSync(this.log, { force: true })
  }

  /** Until it streams. */
  async ready(): Promise<void> {
    for (;;) {
      if (this.child?.exitCode != null) throw new Error(`the relay exited\n${readFileSync(this.log, 'utf8').slice(-3000)}`)
      const answer = await fetch(`http://127.0.0.1:${this.port}/readyz`).catch(() => null)
      if (answer?.status === 200) return
      await new Promise((resolve) => setTimeout(resolve, 25))
    }
  }
}
