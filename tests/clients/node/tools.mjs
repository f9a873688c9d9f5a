// What scenarios are written with: the SDK under test, users with tokens, rows, inboxes to wait on, and a run that
// prints TAP.

import { execFile } from 'node:child_process'
import { createHmac, randomUUID } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { createInterface } from 'node:readline'
import { promisify } from 'node:util'
import { WebSocket } from 'ws'

const PATIENCE_MS = 120_000
// The SDK's own schedule for reconnecting reaches ten seconds between attempts.
export const RECONNECT_MS = 180_000

const { RELAY_URL, DATABASE_URL, JWT_SECRET, PSQL = 'psql' } = process.env

const [, , name] = process.argv
const listed = (await readFile(new URL('../versions.txt', import.meta.url), 'utf8')).split('\n')
  .map((line) => line.split('\t')).find((fields) => fields[0] === name)

export const sdk = await import(name)
export const [, , version, , vsn] = listed
/** What this SDK cannot do, by the words of `versions.txt`. */
export const lacks = new Set(listed[5].split(' ').filter((word) => word !== '-'))
/** What of it is installed. */
export const installed = JSON.parse(await readFile(new URL(`node_modules/${name}/package.json`, import.meta.url)))

// ---- users and rows

function token(claims, lifetimeS = 3600) {
  const encode = (value) => Buffer.from(JSON.stringify(value)).toString('base64url')
  const body = `${encode({ alg: 'HS256', typ: 'JWT' })}.${encode({ exp: Math.floor(Date.now() / 1000) + lifetimeS, ...claims })}`
  return `${body}.${createHmac('sha256', JWT_SECRET).update(body).digest('base64url')}`
}

export const tokenOf = (user, lifetimeS) => token({ role: 'authenticated', sub: user }, lifetimeS)

const run = promisify(execFile)
export const sql = (text) => run(PSQL, ['-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', DATABASE_URL, '-c', text])

/** A visitor's open session; its id. */
export async function session(visitor) {
  const id = randomUUID()
  await sql(`insert into live_chat_sessions (id, visitor_id) values ('${id}', '${visitor}')`)
  return id
}

/** A message written into a session; its id. */
export async function write(session, body) {
  const id = randomUUID()
  await sql(`insert into chat_messages (id, session_id, sender_type, body) values ('${id}', '${session}', 'visitor', '${body}')`)
  return id
}

// ---- waiting and comparing

/** What arrived, in order, and a way to wait for the next of it. */
export class Inbox {
  #items = []
  #waiting = []

  put(item) {
    const waiter = this.#waiting.shift()
    if (waiter) waiter(item)
    else this.#items.push(item)
  }

  /** The next item, whatever it is. */
  next(what, patience = PATIENCE_MS) {
    if (this.#items.length > 0) return Promise.resolve(this.#items.shift())
    return new Promise((resolve, reject) => {
      const waiter = (item) => {
        clearTimeout(timer)
        resolve(item)
      }
      const timer = setTimeout(() => {
        this.#waiting.splice(this.#waiting.indexOf(waiter), 1)
        reject(new Error(`waited ${patience} ms in vain for ${what}`))
      }, patience)
      this.#waiting.push(waiter)
    })
  }

  /** The next item that fits; those before it are dropped. */
  async find(what, fits, patience = PATIENCE_MS) {
    for (;;) {
      const item = await this.next(what, patience)
      if (fits(item)) return item
    }
  }
}

function alike(a, b) {
  const [left, right] = [a, b].map((value) => JSON.stringify(value, (_, v) =>
    v && typeof v === 'object' && !Array.isArray(v) ? Object.fromEntries(Object.entries(v).sort()) : v))
  return left === right
}

export function same(is, should, what) {
  if (!alike(is, should)) throw new Error(`${what}: is ${JSON.stringify(is)}, should be ${JSON.stringify(should)}`)
}

// ---- clients and channels

const clients = []

/** A client whose token can be changed. */
export function connect(user = randomUUID()) {
  let current = tokenOf(user)
  const asked = lacks.has('token-callback')
    ? { auth: { persistSession: false, autoRefreshToken: false, detectSessionInUrl: false } }
    : { accessToken: async () => current }
  // Once the SDKs themselves held back what was over this rate, and still put it into the address.
  const params = { eventsPerSecond: 10_000 }
  const realtime = lacks.has('transport') ? { params } : { params, transport: WebSocket }
  const client = sdk.createClient(RELAY_URL, token({ role: 'anon' }), { ...asked, realtime })
  clients.push(client)
  const authorise = () => (lacks.has('token-callback') ? client.realtime.setAuth(current) : client.realtime.setAuth())
  const become = async (next) => {
    current = next
    await authorise()
  }
  return { client, become, authorise }
}

/** What a channel's callback of `subscribe` was told. */
export async function join(channel, { statuses = new Inbox(), whenever = () => {} } = {}) {
  channel.subscribe((status, error) => {
    if (status === 'SUBSCRIBED') whenever()
    statuses.put(error?.message ? `${status}: ${error.message}` : status)
  })
  same(await statuses.next('SUBSCRIBED'), 'SUBSCRIBED', 'status')
  return statuses
}

/** A channel that is subscribed to the wishes: its changes, its status, what the server said about it. */
export async function subscribe({ client, authorise }, wishes) {
  await authorise()
  const [changes, system] = [new Inbox(), new Inbox()]
  const channel = client.channel(`test-${randomUUID()}`)
  watch(channel, wishes, changes, system)
  const statuses = await join(channel)
  await subscribed(system)
  return { channel, changes, statuses, system }
}

/** Puts the changes of the wishes, and what the server says of the channel, into inboxes. */
export function watch(channel, wishes, changes, system) {
  for (const wish of wishes) {
    channel.on('postgres_changes', { schema: 'public', event: '*', ...wish }, (change) => changes.put(change))
  }
  channel.on('system', {}, (payload) => system.put(payload))
}

export const subscribed = (system) =>
  system.find('the server to say it is subscribed', (it) => it.status === 'ok' && it.extension === 'postgres_changes')

/** What a channel asks for to be told who is present, and to be present as `key`. */
export const presentAs = (key) => (lacks.has('presence-switch') ? { key, enabled: true } : { key })

/** Puts what the SDK says of those present into an inbox; with it a way to wait until one sees certain people. */
export function attendance(channel, whose) {
  const told = new Inbox()
  const seen = () => Object.fromEntries(Object.entries(channel.presenceState())
    .map(([key, metas]) => [key, metas.map(({ presence_ref, ...payload }) => payload)]))
  channel.on('presence', { event: 'sync' }, () => told.put({ event: 'sync', seen: seen() }))
  for (const event of ['join', 'leave']) {
    channel.on('presence', { event }, ({ key }) => told.put({ event, key }))
  }
  const sees = (people) => told.find(`${whose} to see ${JSON.stringify(people)}`, (it) => it.seen && alike(it.seen, people))
  return { told, seen, sees }
}

/** A channel of that name where one is present as `key`: what the SDK said about others, in order. */
export async function attend({ client, authorise }, topic, key, config = {}) {
  await authorise()
  const channel = client.channel(topic, { config: { presence: presentAs(key), ...config } })
  const watching = attendance(channel, key)
  await join(channel)
  return { channel, ...watching }
}

/** A member of a topic: what it hears, its status, what the server said about it. */
export async function member(topic, broadcast = {}, who = connect(), config = {}) {
  await who.authorise()
  const [heard, system] = [new Inbox(), new Inbox()]
  const channel = who.client.channel(topic, { config: { broadcast, ...config } })
  channel.on('broadcast', { event: '*' }, (message) => heard.put(message))
  channel.on('system', {}, (payload) => system.put(payload))
  const statuses = await join(channel)
  return { channel, heard, statuses, system }
}

/** A member of a private topic. */
export const insider = (topic, broadcast, who) => member(topic, broadcast, who, { private: true })

/** Has the database send something; without `isPrivate` to everyone who is in the public topic of that name. */
export const send = (topic, event, payload = {}, isPrivate = true) =>
  sql(`select realtime.send('${JSON.stringify(payload)}', '${event}', '${topic}', ${isPrivate})`)

// ---- the run

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]()

/** Has the relay restarted, stopped or started by whoever runs this; resolves when it is done. */
export async function relay(order) {
  console.log(`# ${order} the relay`)
  const { done } = await lines.next()
  if (done) throw new Error(`nobody did ${order} the relay`)
}

/** A scenario that has nothing to show on an SDK that cannot do `feature`. */
export const needing = (feature, scenario) => Object.assign(scenario, { feature })

let number = 0

async function show(promise, scenario) {
  let verdict = 'ok'
  let said = ''
  if (lacks.has(scenario.feature)) {
    said = ` # SKIP ${name} lacks ${scenario.feature}`
  } else {
    try {
      await scenario()
    } catch (error) {
      verdict = 'not ok'
      process.exitCode = 1
      said = `\n# ${(error.stack ?? String(error)).replaceAll('\n', '\n# ')}`
    }
  }
  number += 1
  console.log(`${verdict} ${number} - ${promise}${said}`)
}

/** Runs `together` side by side, then each of `alone` by itself. */
export async function showAll(together, alone) {
  console.log(`1..${Object.keys({ ...together, ...alone }).length}`)
  await Promise.all(Object.entries(together).map(([promise, scenario]) => show(promise, scenario)))
  await leave()
  for (const [promise, scenario] of Object.entries(alone)) {
    await show(promise, scenario)
    await leave()
  }
  process.exit()
}

async function leave() {
  await Promise.all(clients.splice(0).map((client) => client.realtime.disconnect()))
}
