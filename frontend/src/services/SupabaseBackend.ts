/** A Supabase project's own REST, through supabase-js: the same chat without the relay's chat API. */

import type { SupabaseClient } from '@supabase/supabase-js'

import { type ChatBackend, ChatError, type Page, kindOf } from './ChatBackend.ts'
import type { Agent, ChatMessage, ChatSession, Draft, Introduction, Role } from './types.ts'

const UNIQUE_VIOLATION = '23505'

export class SupabaseBackend implements ChatBackend {
  constructor(
    private readonly client: SupabaseClient,
    private readonly role: Role,
    /** The `sub` of the caller's token. */
    private readonly user: () => Promise<string>,
  ) {}

  async createSession(id: string, { name, email, subject }: Introduction): Promise<ChatSession> {
    const row = { id, visitor_name: name ?? null, visitor_email: email ?? null, subject: subject ?? null }
    return this.once('live_chat_sessions', id, row)
  }

  async session(id: string): Promise<ChatSession | null> {
    return taken(await this.client.from('live_chat_sessions').select().eq('id', id).maybeSingle<ChatSession>())
  }

  async openSessions(): Promise<ChatSession[]> {
    const query = this.client.from('live_chat_sessions').select().neq('status', 'closed')
    return taken(await query.order('last_message_at', { ascending: false }).limit(200).returns<ChatSession[]>()) ?? []
  }

  async messages(sessionId: string, { before, limit }: Page): Promise<ChatMessage[]> {
    let query = this.client.from('chat_messages').select().eq('session_id', sessionId)
    if (before !== undefined) {
      const { id, created_at } = before
      query = query.or(`created_at.lt."${created_at}",and(created_at.eq."${created_at}",id.lt.${id})`)
    }
    const newest = query.order('created_at', { ascending: false }).order('id', { ascending: false }).limit(limit)
    return (taken(await newest.returns<ChatMessage[]>()) ?? []).reverse()
  }

  async send({ id, sessionId, body, senderType, senderName }: Draft): Promise<ChatMessage> {
    const row = { id, client_id: id, session_id: sessionId, body, sender_type: senderType, sender_name: senderName }
    return this.once('chat_messages', id, row)
  }

  async assign(sessionId: string): Promise<ChatSession> {
    const user = await this.user()
    const mine = taken(
      await this.client.from('support_agents').select('id').eq('user_id', user).maybeSingle<{ id: string }>(),
    )
    if (mine === null) throw new ChatError('refused', 'You are not among the support agents.', 403)
    const free = this.client.from('live_chat_sessions').update({ assigned_agent_id: mine.id, status: 'active' })
    const row = taken(
      await free.eq('id', sessionId).is('assigned_agent_id', null).select().maybeSingle<ChatSession>(),
    )
    if (row === null) throw new ChatError('refused', 'Somebody else has taken this chat already.', 409)
    return row
  }

  close(sessionId: string): Promise<ChatSession> {
    return this.change(sessionId, { status: 'closed' })
  }

  rate(sessionId: string, rating: number, feedback: string): Promise<ChatSession> {
    return this.change(sessionId, { rating, feedback })
  }

  async markRead(sessionId: string): Promise<void> {
    const unread = this.client.from('chat_messages').update({ read_at: new Date().toISOString() })
    const others = unread.eq('session_id', sessionId).is('read_at', null)
    const fromVisitor = this.role === 'agent'
    taken(await (fromVisitor ? others.eq('sender_type', 'visitor') : others.neq('sender_type', 'visitor')))
  }

  async agents(): Promise<Agent[]> {
    const query = this.client.from('support_agents').select('id, user_id, display_name')
    return taken(await query.returns<Agent[]>()) ?? []
  }

  private async change(sessionId: string, values: Partial<ChatSession>): Promise<ChatSession> {
    const query = this.client.from('live_chat_sessions').update(values).eq('id', sessionId)
    const row = taken(await query.select().maybeSingle<ChatSession>())
    if (row === null) throw new ChatError('refused', 'There is no such chat.', 404)
    return row
  }

  /** Inserts a row whose id was chosen here; a second time it answers the row of the first. */
  private async once<T>(table: string, id: string, row: Record<string, unknown>): Promise<T> {
    const inserted = await this.client.from(table).insert(row).select().single<T>()
    if (inserted.error?.code !== UNIQUE_VIOLATION) return taken(inserted) as T
    return taken(await this.client.from(table).select().eq('id', id).single<T>()) as T
  }
}

function taken<T>(answer: { data: T; error: { message: string } | null; status: number }): T {
  if (answer.error !== null) throw new ChatError(kindOf(answer.status), answer.error.message, answer.status)
  return answer.data
}
