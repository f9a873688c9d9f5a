// supabase-js as it is shipped, watching two tables for as long as its input is open. What it is told goes to its output,
// a line each: C and a change as its callback got it, N and a notice of the server, S and a status.
//
// RELAY_URL  http://host:port of the relay
// TOKEN      whose eyes it has

import { createClient } from 'supabase-newest'
import { WebSocket } from 'ws'

const { RELAY_URL, TOKEN } = process.env
const say = (kind, text) => process.stdout.write(`${kind}${text}\n`)

// The SDK does not hand over the ids of changes, so the socket it is given reads along.
let id = null
class Reading extends WebSocket {
  constructor(...args) {
    super(...args)
    this.on('message', (text, isBinary) => {
      id = isBinary ? null : (JSON.parse(text)[4]?.data?.id ?? null)
    })
  }
}

const client = createClient(RELAY_URL, TOKEN, {
  accessToken: async () => TOKEN,
  realtime: { transport: Reading, params: { resume: 'the-tab-of-the-sdk', eventsPerSecond: 10_000 } },
})
await client.realtime.setAuth()

const row = (record) => (Object.keys(record).length > 0 ? record : null)
const channel = client.channel('chaos')
for (const table of ['marks', 'states']) {
  channel.on('postgres_changes', { event: '*', schema: 'public', table }, (change) =>
    say('C', JSON.stringify({
      id, table: change.table, type: change.eventType, record: row(change.new), old_record: row(change.old),
    })))
}
channel.on('system', {}, (payload) => say('N', JSON.stringify(payload)))
channel.subscribe((status) => say('S', status))

process.stdin.resume()
process.stdin.on('end', () => process.exit(0))
