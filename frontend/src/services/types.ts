/** What the chat tables hold, as both REST back ends and the changes from the database spell it. */

export type Role = 'visitor' | 'agent'

export type SessionStatus = 'waiting' | 'active' | 'closed'

/** A row of live_chat_sessions. */
export interface ChatSession {
  id: string
  visitor_id: string | null
  visitor_name: string | null
  visitor_email: string | null
  status: SessionStatus
  assigned_agent_id: string | null
  subject: string | null
  rating: number | null
  feedback: string | null
  created_at: string
  updated_at: string
  last_message_at: string
  closed_at: string | null
}

/** A row of chat_messages. */
export interface ChatMessage {
  id: string
  session_id: string
  sender_type: Role | 'system'
  sender_id: string | null
  sender_name: string | null
  body: string
  client_id: string | null
  read_at: string | null
  created_at: string
}

/** A row of support_agents, without what nobody needs to show. */
export interface Agent {
  id: string
  user_id: string
  display_name: string
}

/** How far a message of one's own has come. */
export type Delivery = 'sending' | 'queued' | 'failed' | 'sent' | 'read'

/** A message as it is shown. */
export interface ShownMessage extends ChatMessage {
  delivery: Delivery
  /** Why it failed, in words. */
  problem?: string
}

/** What a visitor says of themselves when they start a chat. */
export interface Introduction {
  name?: string
  email?: string
  subject?: string
}

/** A message before the database has it. */
export interface Draft {
  /** Chosen here, so that sending twice stores once. */
  id: string
  sessionId: string
  body: string
  senderType: Role
  senderName: string | null
}
