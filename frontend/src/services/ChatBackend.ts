/**
 * The REST side of a chat: what is asked and written. Changes come back over realtime, never from here alone, so any back
 * end that writes the same tables will do: the relay's chat API, or Supabase's own REST.
 */

import type { Agent, ChatMessage, ChatSession, Draft, Introduction } from './types.ts'

/** A page of history. A time alone would not do: all messages of one transaction share it. */
export interface Page {
  before?: Pick<ChatMessage, 'id' | 'created_at'>
  limit: number
}

export interface ChatBackend {
  /** Opens a session under an id chosen here; doing it twice opens one. */
  createSession(id: string, introduction: Introduction): Promise<ChatSession>
  /** One session, or null when there is none that the caller may see. */
  session(id: string): Promise<ChatSession | null>
  /** Sessions that are not closed, the most recently active first. */
  openSessions(): Promise<ChatSession[]>
  /** The newest messages, or the newest before one of them; oldest first. Ordered by `created_at`, then `id`. */
  messages(sessionId: string, page: Page): Promise<ChatMessage[]>
  /** Stores a message; sending it again stores nothing and answers the same row. */
  send(draft: Draft): Promise<ChatMessage>
  /** Gives a session to the caller. */
  assign(sessionId: string): Promise<ChatSession>
  close(sessionId: string): Promise<ChatSession>
  rate(sessionId: string, rating: number, feedback: string): Promise<ChatSession>
  /** Marks what the other side wrote as read. */
  markRead(sessionId: string): Promise<void>
  /** Everybody who answers. */
  agents(): Promise<Agent[]>
}

/**
 * What went wrong with a request. `unreachable`: nobody knows whether it arrived, so it is tried again. `refused`: trying
 * again will not help. `busy`: trying later will.
 */
export class ChatError extends Error {
  constructor(
    readonly kind: 'unreachable' | 'refused' | 'busy',
    message: string,
    readonly status = 0,
  ) {
    super(message)
    this.name = 'ChatError'
  }
}

/** What an HTTP status says about trying again. */
export function kindOf(status: number): ChatError['kind'] {
  if (status === 0 || status === 502 || status === 504) return 'unreachable'
  // 401 is a token that ran out on the way; the next attempt carries a new one.
  if (status === 401 || status === 408 || status === 425 || status === 429 || status >= 500) return 'busy'
  return 'refused'
}
