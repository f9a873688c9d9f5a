/**
 * A stand-in for the relay's chat API and token endpoint while they are not there: the same routes, on the same tables, as
 * the caller's role. For development and the browser tests only.
 */

import { createHmac, timingSafeEqual } from 'node:crypto'
import type { IncomingMessage } from 'node:http'

import pg from 'pg'

export interface Settings {
  databaseUrl: string
  secret: string
  code: string
  /** Seconds a token lives; tests shorten it. */
  lifetime: number
}

export interface Reply {
  status: number
  body?: unknown
}

interface Claims {
  role: string
  sub?: string
  exp?: number
}

export class Refused extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message)
  }
}

const SESSION = `s.id, s.visitor_id, s.visitor_name, s.visitor_email, s.status, s.assigned_agent_id, s.subject, s.rating, s.feedback,
  s.created_at::text, s.updated_at::text, s.last_message_at::text, s.closed_at::text`
const MESSAGE = `m.id, m.session_id, m.sender_type, m.sender_id, m.sender_name, m.body, m.client_id, m.read_at::text, m.created_at::text`

export class ChatApi {
  private readonly pool: pg.Pool

  constructor(readonly settings: Settings) {
    this.pool = new pg.Pool({ connectionString: settings.databaseUrl, max: 8 })
    // A restart of Postgres ends idle connections; the next request opens new ones.
    this.pool.on('error', () => {})
  }

  close(): Promise<void> {
    return this.pool.end()
  }

  async handle(request: IncomingMessage, path: string, query: URLSearchParams): Promise<Reply> {
    const body = request.method === 'POST' ? ((await read(request)) as Record<string, unknown>) : {}
    if (path === '/demo/token') return { status: 200, body: await this.grant(body) }
    const claims = this.verify(request)
    const [, id, what] = /^\/chat\/v1\/sessions(?:\/([^/]+))?(?:\/([^/]+))?$/.exec(path) ?? []
    const route = `${request.method} ${path.startsWith('/chat/v1/sessions') ? [id && ':id', what].filter(Boolean).join('/') : path}`
    const rows = (text: string, values: unknown[]): Promise<Record<string, unknown>[]> => this.as(claims, text, values)
    const one = async (text: string, values: unknown[]): Promise<Reply> => {
      const [row] = await rows(text, values)
      if (row === undefined) throw new Refused(404, 'There is no such chat.')
      return { status: 200, body: row }
    }
    switch (route) {
      case 'POST ': {
        const values = [body['id'], body['name'] ?? null, body['email'] ?? null, body['subject'] ?? null]
        await rows(
          `insert into live_chat_sessions (id, visitor_name, visitor_email, subject) values ($1, $2, $3, $4) on conflict do nothing`,
          values,
        )
        return { ...(await one(`select ${SESSION} from live_chat_sessions s where s.id = $1`, [body['id']])), status: 201 }
      }
      case 'GET ':
        return {
          status: 200,
          body: await rows(
            `select ${SESSION} from live_chat_sessions s where (s.status <> 'closed') = ($1 = 'open') order by s.last_message_at desc limit 200`,
            [query.get('status') ?? 'open'],
          ),
        }
      case 'GET :id':
        return one(`select ${SESSION} from live_chat_sessions s where s.id = $1`, [id])
      case 'GET :id/messages':
        return {
          status: 200,
          body: await rows(
            `select * from (select ${MESSAGE} from chat_messages m
               where m.session_id = $1 and ($2::uuid is null
                 or (m.created_at, m.id) < (select b.created_at, b.id from chat_messages b where b.id = $2)) order by m.created_at desc, m.id desc limit $3) page
             order by page.created_at::timestamptz, page.id`,
            [id, query.get('before'), Number(query.get('limit') ?? 50)],
          ),
        }
      case 'POST :id/messages': {
        const sender = await this.senderType(claims)
        const values = [body['id'], id, sender, body['sender_name'] ?? null, body['body']]
        // Without ON CONFLICT: the rows that conflict are judged by the reading policy, which is another question.
        await rows(
          `insert into chat_messages (id, client_id, session_id, sender_type, sender_name, body) values ($1, $1, $2, $3, $4, $5) on conflict do nothing`,
          values,
        )
        return { ...(await one(`select ${MESSAGE} from chat_messages m where m.id = $1`, [body['id']])), status: 201 }
      }
      case 'POST :id/assign': {
        const [taken] = await rows(
          `update live_chat_sessions s set status = 'active', assigned_agent_id = a.id from support_agents a
           where a.user_id = auth.uid() and s.id = $1 and s.assigned_agent_id is null and s.status = 'waiting' returning ${SESSION}`,
          [id],
        )
        if (taken === undefined) throw new Refused(409, 'Somebody else has taken this chat already.')
        return { status: 200, body: taken }
      }
      case 'POST :id/close':
        return one(`update live_chat_sessions s set status = 'closed' where s.id = $1 returning ${SESSION}`, [id])
      case 'POST :id/rating':
        return one(`update live_chat_sessions s set rating = $2, feedback = $3 where s.id = $1 returning ${SESSION}`, [
          id,
          body['rating'],
          body['feedback'] ?? null,
        ])
      case 'POST :id/read': {
        const other = (await this.senderType(claims)) === 'agent' ? 'visitor' : 'agent'
        await rows(`update chat_messages set read_at = now() where session_id = $1 and sender_type = $2 and read_at is null`, [id, other])
        return { status: 204 }
      }
      case 'GET /chat/v1/agents':
        return { status: 200, body: await rows(`select id, user_id, display_name from support_agents`, []) }
      default:
        throw new Refused(404, 'There is no such route.')
    }
  }

  private async senderType(claims: Claims): Promise<'agent' | 'visitor'> {
    const [row] = await this.as(claims, 'select public.is_support_agent() as agent', [])
    return row?.['agent'] === true ? 'agent' : 'visitor'
  }

  /** One statement in a transaction of the caller's role. */
  private async as(claims: Claims, text: string, values: unknown[]): Promise<Record<string, unknown>[]> {
    const client = await this.pool.connect().catch((error: Error) => {
      throw new Refused(503, error.message)
    })
    try {
      await client.query('begin')
      await client.query(`select set_config('role', $1, true), set_config('request.jwt.claims', $2, true)`, [
        claims.role,
        JSON.stringify(claims),
      ])
      const { rows } = await client.query<Record<string, unknown>>(text, values)
      await client.query('commit')
      client.release()
      return rows
    } catch (error) {
      const { code, message } = error as { code?: string; message: string }
      client.release(true)
      if (code === '42501') throw new Refused(403, message)
      if (code?.startsWith('22') || code?.startsWith('23')) throw new Refused(422, message)
      throw new Refused(503, message)
    }
  }

  private async grant({ role, code, session, name }: Record<string, unknown>): Promise<unknown> {
    if (role === 'agent') {
      if (code !== this.settings.code) throw new Refused(401, 'The access code is not right.')
      await this.pool.query(
        `insert into support_agents (user_id, display_name) values ($1, $2) on conflict (user_id) do update set display_name = $2`,
        [session, name ?? 'Agent'],
      )
    }
    const { lifetime } = this.settings
    return {
      token: this.sign({ role: 'authenticated', sub: String(session) }, lifetime),
      expires_in: lifetime,
      anon_key: this.sign({ role: 'anon' }, 24 * 3600),
    }
  }

  sign(claims: Claims, lifetime: number): string {
    const encode = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url')
    const exp = Math.floor(Date.now() / 1000) + lifetime
    const head = `${encode({ alg: 'HS256', typ: 'JWT' })}.${encode({ exp, ...claims })}`
    return `${head}.${this.signature(head)}`
  }

  private verify(request: IncomingMessage): Claims {
    const [head, body, signature] = (request.headers.authorization ?? '').replace('Bearer ', '').split('.')
    const expected = Buffer.from(this.signature(`${head}.${body}`))
    const given = Buffer.from(signature ?? '')
    if (expected.length !== given.length || !timingSafeEqual(expected, given)) throw new Refused(401, 'The token is not valid.')
    const claims = JSON.parse(Buffer.from(body ?? '', 'base64url').toString()) as Claims
    if ((claims.exp ?? 0) < Date.now() / 1000) throw new Refused(401, 'The token has expired.')
    return claims
  }

  private signature(head: string): string {
    return createHmac('sha256', this.settings.secret).update(head).digest('base64url')
  }
}

async function read(request: IncomingMessage): Promise<unknown> {
  const parts: Buffer[] = []
  for await (const part of request) parts.push(part as Buffer)
  return JSON.parse(Buffer.concat(parts).toString() || '{}')
}
