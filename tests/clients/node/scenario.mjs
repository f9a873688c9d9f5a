// supabase-js as it is shipped, against a running relay: subscribe, filter, row level security, token refresh, token expiry,
// reconnect after a restart. Prints TAP; exits 1 when anything failed.
//
//   node scenario.mjs supabase-newest|supabase-vsn1
//
// RELAY_URL     http://host:port of the relay (the SDK appends /realtime/v1)
// DATABASE_URL  a superuser's, with SUPABASE_COMPAT.sql and ENABLE_REALTIME_CHAT.sql applied
// JWT_SECRET    the relay's HS256 secret
// PSQL          psql, when it is not on the PATH
//
// To have the relay restarted it prints "# restart the relay" and waits for a line on its input.

import { execFile } from 'node:child_process'
import { createHmac, randomUUID } from 'node:crypto'
import { createInterface } from 'node:readline'
import { promisify } from 'node:util'
import { WebSocket } from 'ws'

const PATIENCE_MS = 30_000
// The SDK's own schedule for reconnecting reaches ten seconds between attempts.
const RECONNECT_MS = 90_000

const { RELAY_URL, DATABASE_URL, JWT_SECRET, PSQL = 'psql' } = process.env
const name = process.argv[2]
const sdk = await import(name)
const vsn = { 'supabase-newest': '2.0.0', 'supabase-vsn1': '1.0.0' }[name]

// ---- tools

function token(claims, lifetimeS = 3600) {
  const encode = (value) => Buffer.from(JSON.stringify(value)).toString('base64url')
  const body = `${encode({ alg: 'HS256', typ: 'JWT' })}.${encode({ exp: Math.floor(Date.now() / 1000) + lifetimeS, ...claims })}`
  return `${body}.${createHmac('sha256', JWT_SECRET).update(body).digest('base64url')}`
}

const tokenOf = (user, lifetimeS) => token({ role: 'authenticated', sub: user }, lifetimeS)

const run = promisify(execFile)
const sql = (text) => run(PSQL, ['-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', DATABASE_URL, '-c', text])

/** What arrived, in order, and a way to wait for the next of it. */
class Inbox {
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

function same(is, should, what) {
  const [a, b] = [is, should].map((value) => JSON.stringify(value, (_, v) =>
    v && typeof v === 'object' && !Array.isArray(v) ? Object.fromEntries(Object.entries(v).sort()) : v))
  if (a !== b) throw new Error(`${what}: is ${a}, should be ${b}`)
}

const clients = []

/** A client whose token can be changed. */
function connect(user, lifetimeS) {
  let current = tokenOf(user, lifetimeS)
  const client = sdk.createClient(RELAY_URL, token({ role: 'anon' }), {
    accessToken: async () => current,
    realtime: { transport: WebSocket },
  })
  clients.push(client)
  const become = async (next) => {
    current = next
    await client.realtime.setAuth()
  }
  return { client, become }
}

/** A channel that is subscribed to the wishes: its changes, its status, what the server said about it. */
async function subscribe({ client }, wishes) {
  await client.realtime.setAuth()
  const changes = new Inbox()
  const statuses = new Inbox()
  const system = new Inbox()
  const channel = client.channel(`test-${randomUUID()}`)
  for (const wish of wishes) {
    channel.on('postgres_changes', { schema: 'public', event: '*', ...wish }, (change) => changes.put(change))
  }
  channel.on('system', {}, (payload) => system.put(payload))
  channel.subscribe((status, error) => statuses.put(error ? `${status}: ${error.message}` : status))
  same(await statuses.next('SUBSCRIBED'), 'SUBSCRIBED', 'status')
  await subscribed(system)
  return { channel, changes, statuses, system }
}

const subscribed = (system) =>
  system.find('the server to say it is subscribed', (it) => it.status === 'ok' && it.extension === 'postgres_changes')

/** A channel of that name where one is present as `key`: what the SDK said about others, in order. */
async function attend({ client }, topic, key) {
  await client.realtime.setAuth()
  const told = new Inbox()
  const statuses = new Inbox()
  const channel = client.channel(topic, { config: { presence: { key } } })
  const seen = () => Object.fromEntries(Object.entries(channel.presenceState())
    .map(([key, metas]) => [key, metas.map(({ presence_ref, ...payload }) => payload)]))
  channel.on('presence', { event: 'sync' }, () => told.put({ event: 'sync', seen: seen() }))
  for (const event of ['join', 'leave']) {
    channel.on('presence', { event }, ({ key }) => told.put({ event, key }))
  }
  channel.subscribe((status, error) => statuses.put(error ? `${status}: ${error.message}` : status))
  same(await statuses.next('SUBSCRIBED'), 'SUBSCRIBED', 'status')
  const sees = (people) => told.find(`${key} to see ${JSON.stringify(people)}`, (it) => {
    try {
      same(it.seen, people, 'seen')
      return true
    } catch {
      return false
    }
  })
  return { channel, told, sees }
}

/** A visitor's open session; its id. */
async function session(visitor) {
  const id = randomUUID()
  await sql(`insert into live_chat_sessions (id, visitor_id) values ('${id}', '${visitor}')`)
  return id
}

/** A message written into a session; its id. */
async function write(session, body) {
  const id = randomUUID()
  await sql(`insert into chat_messages (id, session_id, sender_type, body) values ('${id}', '${session}', 'visitor', '${body}')`)
  return id
}

// ---- what must hold

const scenarios = {
  async 'the version of the protocol is the one this SDK is here for'() {
    const { client } = connect(randomUUID())
    same(new URL(client.realtime.endpointURL()).searchParams.get('vsn'), vsn, 'vsn')
  },

  async 'an insert, an update and a delete arrive with their rows'() {
    const ann = randomUUID()
    const chat = await session(ann)
    const { changes } = await subscribe(connect(ann), [{ table: 'chat_messages', filter: `session_id=eq.${chat}` }])

    const id = await write(chat, 'hello')
    const insert = await changes.next('the insert')
    same([insert.eventType, insert.schema, insert.table, insert.errors], ['INSERT', 'public', 'chat_messages', null], 'insert')
    same([insert.new.id, insert.new.session_id, insert.new.body, insert.new.read_at], [id, chat, 'hello', null], 'its row')
    same(insert.old, {}, 'its old row')
    same(Number.isNaN(Date.parse(insert.commit_timestamp)), false, 'its time is not a time')

    await sql(`update chat_messages set body = 'hello again' where id = '${id}'`)
    const update = await changes.next('the update')
    same([update.eventType, update.new.body, update.old.body], ['UPDATE', 'hello again', 'hello'], 'update')

    await sql(`delete from chat_messages where id = '${id}'`)
    const gone = await changes.next('the delete')
    same([gone.eventType, gone.new, gone.old.id], ['DELETE', {}, id], 'delete')
  },

  async 'a filter lets through what it names, in order, and nothing else'() {
    const ann = randomUUID()
    const [one, two, three] = [await session(ann), await session(ann), await session(ann)]
    const ours = connect(ann)
    const some = await subscribe(ours, [{ event: 'INSERT', table: 'chat_messages', filter: `session_id=in.(${one},${three})` }])
    const built = sdk.postgresChangesFilter?.().eq('session_id', two).neq('body', 'a, (b)') ?? `session_id=eq.${two}`
    const other = await subscribe(ours, [{ event: 'INSERT', table: 'chat_messages', filter: built }])

    await write(two, 'to two')
    await write(one, 'to one')
    await write(three, 'to three')
    same((await some.changes.next('the first that fits')).new.body, 'to one', 'first')
    same((await some.changes.next('the second that fits')).new.body, 'to three', 'second')
    same((await other.changes.next('the one that fits')).new.body, 'to two', 'other')
  },

  async 'each user gets the rows they may read, the agent all of them'() {
    const [ann, ben, agent] = [randomUUID(), randomUUID(), randomUUID()]
    await sql(`insert into support_agents (user_id, display_name) values ('${agent}', 'Agent')`)
    const [hers, his] = [await session(ann), await session(ben)]
    const all = [{ event: 'INSERT', table: 'chat_messages' }]
    const [annSees, benSees, agentSees] = [
      await subscribe(connect(ann), all), await subscribe(connect(ben), all), await subscribe(connect(agent), all)]

    await write(his, 'from ben')
    await write(hers, 'from ann')
    await write(his, 'from ben again')
    same((await annSees.changes.next('her message')).new.body, 'from ann', 'ann')
    same((await benSees.changes.next('his message')).new.body, 'from ben', 'ben')
    same((await benSees.changes.next('his second message')).new.body, 'from ben again', 'ben')
    const bodies = []
    while (bodies.length < 3) bodies.push((await agentSees.changes.next('each message')).new.body)
    same(bodies, ['from ben', 'from ann', 'from ben again'], 'the agent')
  },

  async 'a new token counts from the moment the server confirms it'() {
    const [ann, ben] = [randomUUID(), randomUUID()]
    const [hers, his] = [await session(ann), await session(ben)]
    const somebody = connect(ann)
    const { changes, system } = await subscribe(somebody, [{ event: 'INSERT', table: 'chat_messages' }])
    await write(his, 'not yet')
    await write(hers, 'as ann')
    same((await changes.next('her message')).new.body, 'as ann', 'before')

    await somebody.become(tokenOf(ben))
    await subscribed(system)
    await write(hers, 'no more')
    await write(his, 'as ben')
    same((await changes.next('his message')).new.body, 'as ben', 'after')
  },

  async 'a channel whose token expires closes, one whose token was refreshed goes on'() {
    const ann = randomUUID()
    const chat = await session(ann)
    const wishes = [{ event: 'INSERT', table: 'chat_messages' }]
    const [expiring, refreshing] = [connect(ann, 6), connect(ann, 6)]
    const lost = await subscribe(expiring, wishes)
    const kept = await subscribe(refreshing, wishes)
    await refreshing.become(tokenOf(ann))
    await subscribed(kept.system)

    await lost.statuses.find('the channel to close', (status) => status === 'CLOSED')
    const said = await lost.system.find('why', (payload) => payload.status === 'error')
    same(/^Token has expired/.test(said.message), true, `said "${said.message}"`)
    await write(chat, 'still here')
    same((await kept.changes.next('the message')).new.body, 'still here', 'refreshed')
  },

  async 'who tracks, changes, untracks, leaves or is lost is seen by everyone'() {
    const topic = `room-${randomUUID()}`
    const ann = await attend(connect(randomUUID()), topic, 'ann')
    await ann.sees({})
    same(await ann.channel.track({ status: 'here' }), 'ok', 'tracking')
    await ann.sees({ ann: [{ status: 'here' }] })

    const bens = connect(randomUUID())
    const ben = await attend(bens, topic, 'ben')
    await ben.sees({ ann: [{ status: 'here' }] })
    same(await ben.channel.track({ n: 1 }), 'ok', 'tracking')
    for (const one of [ann, ben]) await one.sees({ ann: [{ status: 'here' }], ben: [{ n: 1 }] })

    same(await ann.channel.track({ status: 'away' }), 'ok', 'changing')
    for (const one of [ann, ben]) await one.sees({ ann: [{ status: 'away' }], ben: [{ n: 1 }] })
    same(await ann.channel.untrack(), 'ok', 'untracking')
    await ben.told.find('ann to leave', (it) => it.event === 'leave' && it.key === 'ann')
    for (const one of [ann, ben]) await one.sees({ ben: [{ n: 1 }] })

    same(await ann.channel.track({}), 'ok', 'tracking again')
    await ben.told.find('ann to join', (it) => it.event === 'join' && it.key === 'ann')
    same(await ann.channel.unsubscribe(), 'ok', 'leaving')
    await ben.told.find('ann to leave', (it) => it.event === 'leave' && it.key === 'ann')

    const cleo = await attend(connect(randomUUID()), topic, 'cleo')
    await cleo.sees({ ben: [{ n: 1 }] })
    await bens.client.realtime.disconnect()
    await cleo.told.find('ben to leave', (it) => it.event === 'leave' && it.key === 'ben')
    await cleo.sees({})
  },

  async 'who connects again soon never left'() {
    const topic = `room-${randomUUID()}`
    const ben = await attend(connect(randomUUID()), topic, 'ben')
    const anns = connect(randomUUID())
    const before = await attend(anns, topic, 'ann')
    same(await before.channel.track({ n: 1 }), 'ok', 'tracking')
    await ben.sees({ ann: [{ n: 1 }] })

    await anns.client.realtime.disconnect()
    const after = await attend(connect(randomUUID()), topic, 'ann')
    same(await after.channel.track({ n: 1 }), 'ok', 'tracking again')
    await after.sees({ ann: [{ n: 1 }] })
    same(await ben.channel.track({}), 'ok', 'tracking')
    // What comes next tells of ben alone.
    same((await ben.told.next('the join')), { event: 'join', key: 'ben' }, 'next')
    await ben.sees({ ann: [{ n: 1 }], ben: [{}] })
  },

  async 'after a restart of the relay the channel is subscribed again by itself'() {
    const ann = randomUUID()
    const chat = await session(ann)
    const { changes, statuses, system } = await subscribe(connect(ann), [{ event: 'INSERT', table: 'chat_messages' }])
    await write(chat, 'before')
    same((await changes.next('the message')).new.body, 'before', 'before')

    await restart()
    await statuses.find('the channel to come back', (status) => status === 'SUBSCRIBED', RECONNECT_MS)
    await subscribed(system)
    await write(chat, 'after')
    await changes.find('the message after it', (change) => change.new.body === 'after')
  },
}

// ---- the run

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]()

async function restart() {
  console.log('# restart the relay')
  const { done } = await lines.next()
  if (done) throw new Error('nobody restarted the relay')
}

console.log(`1..${Object.keys(scenarios).length}`)
let number = 0
for (const [promise, scenario] of Object.entries(scenarios)) {
  number += 1
  try {
    await scenario()
    console.log(`ok ${number} - ${promise}`)
  } catch (error) {
    process.exitCode = 1
    console.log(`not ok ${number} - ${promise}\n# ${error.stack.replaceAll('\n', '\n# ')}`)
  }
  for (const client of clients.splice(0)) await client.realtime.disconnect()
}
process.exit()
