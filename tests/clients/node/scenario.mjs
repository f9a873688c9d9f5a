// supabase-js as it is shipped, against a running relay: row changes, filters, row level security, tokens, broadcast by
// sockets, by HTTP and from the database, presence, private channels, replay, and coming back after the relay was away.
// Prints TAP; exits 1 when anything failed.
//
//   node scenario.mjs supabase-newest|supabase-2026|…      a name in ../versions.txt
//
// RELAY_URL     http://host:port of the relay (the SDK appends /realtime/v1)
// DATABASE_URL  a superuser's, with SUPABASE_COMPAT.sql, ENABLE_REALTIME_CHAT.sql, `relay migrate` and ../policies.sql
// JWT_SECRET    the relay's HS256 secret
// PSQL          psql, when it is not on the PATH
//
// It prints "# restart the relay", "# stop the relay" or "# start the relay", and waits for a line on its input that
// says it is done.

import { randomUUID } from 'node:crypto'

import {
  attend, attendance, connect, Inbox, insider, installed, join, lacks, member, needing, presentAs, RECONNECT_MS, relay, same,
  sdk, send, session, showAll, sql, subscribe, subscribed, tokenOf, version, vsn, watch, write,
} from './tools.mjs'

const together = {
  async 'it is the SDK that is listed, and can do what is listed'() {
    same(installed.version, version, 'version')
    const { client, authorise } = connect()
    await authorise()
    const url = client.realtime.endpointURL?.() ?? client.realtime._endPointURL()
    same(new URL(url).searchParams.get('vsn'), vsn, 'vsn')
    const channel = client.channel('any')
    const missing = {
      'bytes': vsn === '1.0.0',
      'http-send': !channel.httpSend,
      'filter-builder': !sdk.postgresChangesFilter,
      'token-callback': typeof client.realtime.accessToken !== 'function',
      'presence-switch': !('enabled' in channel.params.config.presence),
      'private': !('private' in channel.params.config),
    }
    for (const [feature, isMissing] of Object.entries(missing)) same(lacks.has(feature), isMissing, feature)
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

  async 'what is written once the SDK says SUBSCRIBED arrives, asked to wait for it or not'() {
    const ann = randomUUID()
    const chat = await session(ann)
    for (const wait of [false, true]) {
      const { client, authorise } = connect(ann)
      await authorise()
      const changes = new Inbox()
      // An SDK that has not heard of the option does not pass it on.
      const channel = client.channel(`test-${randomUUID()}`, { config: { postgres_changes_options: { wait } } })
      watch(channel, [{ event: 'INSERT', table: 'chat_messages' }], changes, new Inbox())
      await join(channel)
      await write(chat, `at once ${wait}`)
      same((await changes.next('the row')).new.body, `at once ${wait}`, 'row')
    }
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
    // Others write at the same time, and the agent may read that, too.
    const these = [{ event: 'INSERT', table: 'chat_messages', filter: `session_id=in.(${hers},${his})` }]
    const all = [{ event: 'INSERT', table: 'chat_messages' }]
    const [annSees, benSees, agentSees] = [
      await subscribe(connect(ann), all), await subscribe(connect(ben), all), await subscribe(connect(agent), these)]

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
    const [expiring, refreshing] = [connect(ann), connect(ann)]
    const lost = await subscribe(expiring, wishes)
    const kept = await subscribe(refreshing, wishes)
    // One right after the other: how long that takes on a busy machine is no part of it.
    await refreshing.become(tokenOf(ann, 6))
    await refreshing.become(tokenOf(ann))
    await expiring.become(tokenOf(ann, 4))

    await lost.statuses.find('the channel to close', (status) => status === 'CLOSED')
    const said = await lost.system.find('why', (payload) => payload.status === 'error')
    same(/^Token has expired/.test(said.message), true, `said "${said.message}"`)
    await write(chat, 'still here')
    same((await kept.changes.next('the message')).new.body, 'still here', 'refreshed')
  },

  async 'a broadcast reaches the others, with self its sender too, and with ack it is answered'() {
    const topic = `room:${randomUUID()}`
    const listener = await member(topic)
    const speaker = await member(topic, { ack: true })
    const echo = await member(topic, { self: true })
    const said = { type: 'broadcast', event: 'cursor', payload: { x: 1.5, text: 'é "\u{1F600}"' } }
    same(await speaker.channel.send(said), 'ok', 'answer')
    same(await listener.heard.next('the message'), said, 'heard')
    same(await echo.heard.next('the message'), said, 'heard')
    same(await echo.channel.send({ ...said, event: 'echo' }), 'ok', 'answer')
    same((await echo.heard.next('its own')).event, 'echo', 'its own')
    same((await speaker.heard.next('the next')).event, 'echo', 'what others said, and not its own')
  },

  async 'a broadcast that is too large is answered with an error and reaches nobody'() {
    const topic = `room:${randomUUID()}`
    const listener = await member(topic)
    const speaker = await member(topic, { ack: true })
    const large = speaker.channel.send({ type: 'broadcast', event: 'large', payload: { text: 'x'.repeat(3_000_001) } })
    let answer = 'none'
    large.then((told) => (answer = told))
    if (!lacks.has('error-answer')) await large
    same(await speaker.channel.send({ type: 'broadcast', event: 'small', payload: {} }), 'ok', 'answer')
    same(answer, lacks.has('error-answer') ? 'none' : 'error', 'answer')
    same((await listener.heard.next('the small one')).event, 'small', 'heard')
  },

  'bytes arrive as bytes': needing('bytes', async () => {
    const topic = `room:${randomUUID()}`
    const listener = await member(topic)
    const speaker = await member(topic, { ack: true })
    const bytes = Uint8Array.from({ length: 256 }, (_, place) => place)
    same(await speaker.channel.send({ type: 'broadcast', event: 'bytes', payload: bytes.buffer }), 'ok', 'answer')
    const heard = await listener.heard.next('the bytes')
    same([heard.event, [...new Uint8Array(heard.payload)]], ['bytes', [...bytes]], 'heard')
  }),

  async 'what is sent before joining goes by HTTP and reaches the topic'() {
    const topic = `room:${randomUUID()}/é`
    const listener = await member(topic)
    const { client, authorise } = connect()
    await authorise()
    const said = { type: 'broadcast', event: 'batch', payload: { n: 1 } }
    same(await client.channel(topic).send(said), 'ok', 'answer')
    same(await listener.heard.next('the message'), said, 'heard')
  },

  'httpSend reaches the topic, joined or not': needing('http-send', async () => {
    const topic = `room:${randomUUID()}/é`
    const listener = await member(topic)
    const { client, authorise } = connect()
    await authorise()
    same(await client.channel(topic).httpSend('ev/1', { n: 1 }), { success: true }, 'answer')
    same(await listener.heard.next('the message'), { type: 'broadcast', event: 'ev/1', payload: { n: 1 } }, 'heard')
    const speaker = await member(topic)
    same(await speaker.channel.httpSend('ev/2', { n: 2 }), { success: true }, 'answer')
    same(await listener.heard.next('the next'), { type: 'broadcast', event: 'ev/2', payload: { n: 2 } }, 'heard')
  }),

  async 'who tracks, changes, untracks, leaves or is lost is seen by everyone'() {
    const topic = `room-${randomUUID()}`
    const ann = await attend(connect(), topic, 'ann')
    await ann.sees({})
    same(await ann.channel.track({ status: 'here' }), 'ok', 'tracking')
    await ann.sees({ ann: [{ status: 'here' }] })

    const bens = connect()
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

    const cleo = await attend(connect(), topic, 'cleo')
    await cleo.sees({ ben: [{ n: 1 }] })
    await bens.client.realtime.disconnect()
    await cleo.told.find('ben to leave', (it) => it.event === 'leave' && it.key === 'ben')
    await cleo.sees({})
  },

  async 'two tabs of one person are two, and the person stays until the last is gone'() {
    const topic = `room-${randomUUID()}`
    const ben = await attend(connect(), topic, 'ben')
    const tabs = [await attend(connect(), topic, 'ann'), await attend(connect(), topic, 'ann')]
    same(await tabs[0].channel.track({ tab: 1 }), 'ok', 'tracking')
    await ben.sees({ ann: [{ tab: 1 }] })
    same(await tabs[1].channel.track({ tab: 2 }), 'ok', 'tracking')
    for (const one of [ben, ...tabs]) await one.sees({ ann: [{ tab: 1 }, { tab: 2 }] })

    same(await tabs[0].channel.unsubscribe(), 'ok', 'leaving')
    for (const one of [ben, tabs[1]]) await one.sees({ ann: [{ tab: 2 }] })
    same(await tabs[1].channel.untrack(), 'ok', 'untracking')
    for (const one of [ben, tabs[1]]) await one.sees({})
  },

  async 'who leaves and joins again is told who is there now'() {
    const topic = `room-${randomUUID()}`
    const anns = connect()
    const ann = await attend(anns, topic, 'ann')
    const ben = await attend(connect(), topic, 'ben')
    same(await ben.channel.track({ n: 1 }), 'ok', 'tracking')
    await ann.sees({ ben: [{ n: 1 }] })
    same(await ann.channel.unsubscribe(), 'ok', 'leaving')
    same(await ben.channel.track({ n: 2 }), 'ok', 'changing')

    const again = await attend(anns, topic, 'ann')
    await again.sees({ ben: [{ n: 2 }] })
    same(await again.channel.track({}), 'ok', 'tracking')
    for (const one of [again, ben]) await one.sees({ ann: [{}], ben: [{ n: 2 }] })
  },

  async 'who tracks without having asked for presence is told who is there'() {
    const topic = `room-${randomUUID()}`
    const ben = await attend(connect(), topic, 'ben')
    same(await ben.channel.track({ n: 1 }), 'ok', 'tracking')
    // An SDK with the switch turns it on for whoever listens, so for it this is the ordinary case.
    const ann = await attend(connect(), topic, 'ann', { presence: { key: 'ann' } })
    same(await ann.channel.track({}), 'ok', 'tracking')
    await ann.sees({ ann: [{}], ben: [{ n: 1 }] })
  },

  async 'who connects again soon never left'() {
    const topic = `room-${randomUUID()}`
    const ben = await attend(connect(), topic, 'ben')
    const anns = connect()
    const before = await attend(anns, topic, 'ann')
    same(await before.channel.track({ n: 1 }), 'ok', 'tracking')
    await ben.sees({ ann: [{ n: 1 }] })

    await anns.client.realtime.disconnect()
    const after = await attend(connect(), topic, 'ann')
    same(await after.channel.track({ n: 1 }), 'ok', 'tracking again')
    await after.sees({ ann: [{ n: 1 }] })
    same(await ben.channel.track({}), 'ok', 'tracking')
    // What comes next tells of ben alone.
    same(await ben.told.next('the join'), { event: 'join', key: 'ben' }, 'next')
    await ben.sees({ ann: [{ n: 1 }], ben: [{}] })
  },

  'a private channel is for those its policies let in, and is not the public one': needing('private', async () => {
    const [ann, ben] = [randomUUID(), randomUUID()]
    const topic = `of:${ann}`
    const listener = await insider(topic, {}, connect(ann))
    const speaker = await insider(topic, { ack: true }, connect(ann))
    const outsider = await member(topic)

    const { client, authorise } = connect(ben)
    await authorise()
    const refused = client.channel(topic, { config: { private: true } })
    const told = await new Promise((resolve) => refused.subscribe((status, error) => resolve(`${status}: ${error?.message}`)))
    const why = `Unauthorized: You do not have permissions to read from this Channel topic: ${topic}`
    same(told.startsWith('CHANNEL_ERROR') && told.includes(why), true, told)
    await refused.unsubscribe()

    same(await speaker.channel.send({ type: 'broadcast', event: 'inside', payload: {} }), 'ok', 'answer')
    same((await listener.heard.next('the message')).event, 'inside', 'heard')
    await send(topic, 'outside', {}, false)
    same((await outsider.heard.next('the public one')).event, 'outside', 'heard outside')
  }),

  'who may only hear is not heard, by socket or by HTTP': needing('private', async () => {
    const topic = `hear:${randomUUID()}`
    const listener = await insider(topic)
    const speaker = await insider(topic)
    await speaker.channel.send({ type: 'broadcast', event: 'socket', payload: {} })
    if (!lacks.has('http-send')) {
      // Alone it is refused, in a batch it is left out; which of the two is sent is the SDK's choice.
      const answer = await speaker.channel.httpSend('http', {}).then(() => 'left out', (error) => error.message)
      same(['left out', 'Unauthorized'].includes(answer), true, answer)
    }
    await send(topic, 'database')
    same((await listener.heard.next('what the database says')).event, 'database', 'heard')
  }),

  'httpSend reaches a private topic': needing('http-send', async () => {
    const topic = `open:${randomUUID()}`
    const listener = await insider(topic)
    const { client, authorise } = connect()
    await authorise()
    same(await client.channel(topic, { config: { private: true } }).httpSend('e', { n: 1 }), { success: true }, 'answer')
    same(await listener.heard.next('the message'), { type: 'broadcast', event: 'e', payload: { n: 1 } }, 'heard')
  }),

  'who may no longer read a private channel is told and put out': needing('private', async () => {
    const ann = randomUUID()
    const somebody = connect(ann)
    const { statuses, system } = await insider(`of:${ann}`, {}, somebody)
    await somebody.become(tokenOf(randomUUID()))
    await statuses.find('the channel to close', (status) => status === 'CLOSED')
    const said = await system.find('why', (payload) => payload.status === 'error')
    same(said.message, `You do not have permissions to read from this Channel topic: of:${ann}`, 'said')
  }),

  'people on a private channel see each other': needing('private', async () => {
    const topic = `open:${randomUUID()}`
    const ann = await attend(connect(), topic, 'ann', { private: true })
    const ben = await attend(connect(), topic, 'ben', { private: true })
    same(await ann.channel.track({ n: 1 }), 'ok', 'tracking')
    same(await ben.channel.track({ n: 2 }), 'ok', 'tracking')
    for (const one of [ann, ben]) await one.sees({ ann: [{ n: 1 }], ben: [{ n: 2 }] })
  }),

  async 'what the database sends to a public topic arrives with an id'() {
    const topic = `room:${randomUUID()}`
    const listener = await member(topic)
    await send(topic, 'e', { n: 1.5 }, false)
    const { payload, meta, event } = await listener.heard.next('the message')
    same([event, payload.n, payload.id, meta.id.length], ['e', 1.5, meta.id, 36], 'heard')
  },

  'what the database sends to a private topic arrives with an id, and bytes as bytes': needing('private', async () => {
    const topic = `hear:${randomUUID()}`
    const listener = await insider(topic)
    await sql(`select realtime.send_binary('\\x00ff10', 'bytes', '${topic}')`)
    await send(topic, 'e', { n: 1 })
    if (!lacks.has('bytes')) {
      const heard = await listener.heard.next('the bytes')
      same([heard.event, [...new Uint8Array(heard.payload)]], ['bytes', [0, 255, 16]], 'heard')
    }
    const { event, payload, meta } = await listener.heard.next('the message')
    same([event, payload, meta.id.length], ['e', { n: 1, id: meta.id }, 36], 'heard')
  }),

  'what happens to rows is told by their trigger to those who may read them': needing('private', async () => {
    const ann = randomUUID()
    const chat = await session(ann)
    const listener = await insider(`chat:${chat}`, {}, connect(ann))
    const id = await write(chat, 'hello')
    const { event, payload } = await listener.heard.next('the insert')
    same([event, payload.operation, payload.schema, payload.table], ['INSERT', 'INSERT', 'public', 'chat_messages'], 'heard')
    same([payload.record.id, payload.record.body, payload.old_record], [id, 'hello', null], 'its row')
    await sql(`delete from chat_messages where id = '${id}'`)
    const gone = await listener.heard.next('the delete')
    same([gone.event, gone.payload.record, gone.payload.old_record.id], ['DELETE', null, id], 'its old row')
  }),

  'who asks for a replay hears the newest of what was said before, oldest first': needing('private', async () => {
    const topic = `hear:${randomUUID()}`
    for (const event of ['one', 'two', 'three']) await send(topic, event)
    const listener = await insider(topic, { replay: { since: Date.now() - 60_000, limit: 2 } })
    await send(topic, 'live')
    const heard = []
    while (heard.length < 3) heard.push(await listener.heard.next('each message'))
    same(heard.map(({ event, meta }) => [event, meta.replayed ?? false]), [['two', true], ['three', true], ['live', false]], 'heard')
  }),
}

/** Somebody in a room that asks for everything there is, tracks whenever subscribed, and does nothing else. */
async function settle(user, topic, key, chat) {
  const { client, authorise } = connect(user)
  await authorise()
  const [changes, system, heard] = [new Inbox(), new Inbox(), new Inbox()]
  const channel = client.channel(topic, { config: { broadcast: { ack: true }, presence: presentAs(key) } })
  watch(channel, [{ event: 'INSERT', table: 'chat_messages', filter: `session_id=eq.${chat}` }], changes, system)
  channel.on('broadcast', { event: 'said' }, ({ payload }) => heard.put(payload))
  const presence = attendance(channel, key)
  let times = 0
  const statuses = await join(channel, { whenever: () => channel.track({ times: ++times }) })
  await subscribed(system)
  return { channel, changes, system, heard, statuses, ...presence }
}

const alone = {
  async 'after the relay was killed and started again a channel is subscribed again by itself'() {
    const ann = randomUUID()
    const chat = await session(ann)
    const { changes, statuses, system } = await subscribe(connect(ann), [{ event: 'INSERT', table: 'chat_messages' }])
    await write(chat, 'before')
    same((await changes.next('the message')).new.body, 'before', 'before')

    await relay('restart')
    await statuses.find('the channel to come back', (status) => status === 'SUBSCRIBED', RECONNECT_MS)
    await subscribed(system)
    await write(chat, 'after')
    await changes.find('the message after it', (change) => change.new.body === 'after')
  },

  async 'when one relay stops and another starts everyone comes back by themselves and sees everyone'() {
    const [user, topic] = [randomUUID(), `room-${randomUUID()}`]
    const chat = await session(user)
    const people = [await settle(user, topic, 'ann', chat), await settle(user, topic, 'ben', chat)]
    for (const one of people) await one.sees({ ann: [{ times: 1 }], ben: [{ times: 1 }] })
    await write(chat, 'before')
    for (const one of people) same((await one.changes.next('the row')).new.body, 'before', 'before')

    await relay('stop')
    await write(chat, 'between')
    await relay('start')
    for (const one of people) {
      await one.statuses.find('the channel to come back', (status) => status === 'SUBSCRIBED', RECONNECT_MS)
      await subscribed(one.system)
    }
    for (const one of people) await one.sees({ ann: [{ times: 2 }], ben: [{ times: 2 }] })

    const [ann, ben] = people
    same(await ann.channel.send({ type: 'broadcast', event: 'said', payload: { by: 'ann' } }), 'ok', 'answer')
    same(await ben.heard.next('what ann says'), { by: 'ann' }, 'heard')
    await write(chat, 'after')
    await write(chat, 'last')
    for (const one of people) {
      const bodies = []
      while (bodies.at(-1) !== 'last') bodies.push((await one.changes.next('the rows')).new.body)
      // Whether a row is still told that was written while nobody was there depends on who was back first.
      same(bodies.filter((body) => body !== 'between'), ['after', 'last'], 'rows')
      same(bodies.filter((body) => body === 'between').length <= 1, true, 'a row was told twice')
      same(one.seen(), { ann: [{ times: 2 }], ben: [{ times: 2 }] }, 'seen in the end')
    }
  },

  'what the database sent while no relay was there is heard by replay, once': needing('private', async () => {
    const topic = `hear:${randomUUID()}`
    const { heard, statuses } = await insider(topic, { replay: { since: Date.now() - 60_000 } })
    await relay('stop')
    await send(topic, 'between')
    await relay('start')
    await statuses.find('the channel to come back', (status) => status === 'SUBSCRIBED', RECONNECT_MS)
    await send(topic, 'after')
    same((await heard.next('what was missed')).event, 'between', 'heard')
    same((await heard.next('the next')).event, 'after', 'heard')
  }),
}

await showAll(together, alone)
