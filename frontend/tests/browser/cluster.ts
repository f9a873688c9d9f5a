/** A throwaway Postgres of the tests' own, with the shipped SQL. It is gone when the test process is. */

import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { chown, mkdtemp, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'

import pg from 'pg'

const run = promisify(execFile)
const SQL = new URL('../../../sql/', import.meta.url)

export class Cluster {
  readonly pool: pg.Pool
  readonly url: string
  readonly relayUrl: string

  private constructor(
    private readonly dir: string,
    port: number,
    private readonly keeper: ChildProcess,
  ) {
    this.url = `postgres://postgres@127.0.0.1:${port}/postgres`
    this.relayUrl = `postgres://relay@127.0.0.1:${port}/postgres`
    this.pool = new pg.Pool({ connectionString: this.url, max: 3 })
    this.pool.on('error', () => {})
  }

  static async start(): Promise<Cluster> {
    const dir = await mkdtemp(join(tmpdir(), 'relay-browser-'))
    const user = serverUser()
    if (user !== null) await chown(dir, user.uid, user.gid)
    const data = join(dir, 'data')
    await run(join(bin(), 'initdb'), ['--no-sync', '-A', 'trust', '-U', 'postgres', '-E', 'UTF8', '--locale=C.UTF-8', '-D', data], as(user))
    const port = await freePort()
    const lines = [
      `listen_addresses = '127.0.0.1'`,
      `port = ${port}`,
      `unix_socket_directories = '${dir}'`,
      'wal_level = logical',
      'fsync = off',
      'shared_buffers = 64MB',
    ]
    await writeFile(join(data, 'postgresql.auto.conf'), `${lines.join('\n')}\n`)
    const cluster = new Cluster(dir, port, keep(dir, user))
    await cluster.ctl('start', '-w', '-t', '60', '-l', join(dir, 'log'))
    for (const file of ['SUPABASE_COMPAT.sql', 'ENABLE_REALTIME_CHAT.sql', 'RELAY_ROLE.sql']) {
      await cluster.pool.query(readFileSync(new URL(file, SQL), 'utf8'))
    }
    return cluster
  }

  /** The first row of an answer. */
  async row<T extends Record<string, unknown>>(text: string, values: unknown[] = []): Promise<T> {
    const { rows } = await this.pool.query<T>(text, values)
    if (rows[0] === undefined) throw new Error(`no row: ${text}`)
    return rows[0]
  }

  async restart(): Promise<void> {
    await this.ctl('restart', '-w', '-t', '60', '-m', 'fast', '-l', join(this.dir, 'log'))
  }

  async stop(): Promise<void> {
    await this.pool.end()
    const ended = new Promise((resolve) => this.keeper.once('exit', resolve))
    this.keeper.stdin?.end()
    await ended
  }

  private async ctl(...options: string[]): Promise<void> {
    // pg_ctl hands its output to the server, so nothing here may wait for that to close.
    const child = spawn(join(bin(), 'pg_ctl'), ['-D', join(this.dir, 'data'), ...options], { ...as(serverUser()), stdio: 'ignore' })
    const code = await new Promise((resolve) => child.once('exit', resolve))
    if (code !== 0) throw new Error(`pg_ctl ${options.join(' ')}: ${readFileSync(join(this.dir, 'log'), 'utf8').slice(-2000)}`)
  }
}

/** A port of this machine nobody listens on, below the ephemeral range so that no outgoing connection takes it meanwhile. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = 15_000 + randomInt(5_000)
    const isFree = await new Promise<boolean>((resolve) => {
      const server = createServer()
      server.once('error', () => resolve(false))
      server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)))
    })
    if (isFree) return port
  }
}

/** A shell that stops the server and removes its directory once its input closes, however this process ends. */
function keep(dir: string, user: User | null): ChildProcess {
  const script = `trap '' INT TERM HUP; cat >/dev/null; "$0/pg_ctl" -D "$1/data" -m immediate stop; rm -rf "$1"`
  return spawn('sh', ['-c', script, bin(), dir], { ...as(user), detached: true, stdio: ['pipe', 'ignore', 'ignore'] })
}

interface User {
  uid: number
  gid: number
}

/** Postgres refuses to run as root; then it runs as the user `postgres`, or `nobody`. */
function serverUser(): User | null {
  if (process.getuid?.() !== 0) return null
  for (const name of ['postgres', 'nobody']) {
    try {
      const number = (flag: string): number => Number(execFileSync('id', [flag, name], { stdio: ['ignore', 'pipe', 'ignore'] }))
      return { uid: number('-u'), gid: number('-g') }
    } catch {
      // Not on this system.
    }
  }
  throw new Error('there is no user postgres or nobody to run Postgres as')
}

function as(user: User | null): { cwd: string; env: NodeJS.ProcessEnv; uid?: number; gid?: number } {
  return { cwd: '/', env: { ...process.env, LC_ALL: 'C.UTF-8' }, ...(user ?? {}) }
}

/** `PGBIN`, the PATH, or Debian's place, newest first. */
function bin(): string {
  const debian = '/usr/lib/postgresql'
  const versions = existsSync(debian) ? readdirSync(debian).sort((a, b) => Number(b) - Number(a)) : []
  const places = [process.env['PGBIN'], ...versions.map((version) => join(debian, version, 'bin')), ...(process.env['PATH'] ?? '').split(':')]
  const found = places.find((place) => place !== undefined && place !== '' && existsSync(join(place, 'initdb')))
  if (found === undefined) throw new Error('no Postgres server programs; run `make setup`')
  return found
}
