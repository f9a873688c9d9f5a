/** The relay's chat API, `/chat/v1`. */

import { type ChatBackend, ChatError, type Page, kindOf } from './ChatBackend.ts'
import type { Agent, ChatMessage, ChatSession, Draft, Introduction } from './types.ts'

/** Longer than a restart of the database takes, shorter than anybody's patience. */
const PATIENCE_MS = 15_000

export class RelayBackend implements ChatBackend {
  constructor(
    private readonly url: string,
    private readonly token: (fresh?: boolean) => Promise<string>,
  ) {}

  createSession(id: string, introduction: Introduction): Promise<ChatSession> {
    return this.post('/sessions', { id, ...introduction })
  }

  async session(id: string): Promise<ChatSession | null> {
    try {
      return await this.ask<ChatSession>('GET', `/sessions/${id}`)
    } catch (error) {
      if (error instanceof ChatError && error.status === 404) return null
      throw error
    }
  }

  openSessions(): Promise<ChatSession[]> {
    return this.ask('GET', '/sessions?status=open')
  }

  messages(sessionId: string, { before, limit }: Page): Promise<ChatMessage[]> {
    const query = new URLSearchParams({ limit: String(limit), ...(before === undefined ? {} : { before: before.id }) })
    return this.ask('GET', `/sessions/${sessionId}/messages?${query}`)
  }

  send({ id, sessionId, body, senderName }: Draft): Promise<ChatMessage> {
    return this.post(`/sessions/${sessionId}/messages`, { id, body, sender_name: senderName })
  }

  assign(sessionId: string): Promise<ChatSession> {
    return this.post(`/sessions/${sessionId}/assign`, {})
  }

  close(sessionId: string): Promise<ChatSession> {
    return this.post(`/sessions/${sessionId}/close`, {})
  }

  rate(sessionId: string, rating: number, feedback: string): Promise<ChatSession> {
    return this.post(`/sessions/${sessionId}/rating`, { rating, feedback })
  }

  async markRead(sessionId: string): Promise<void> {
    await this.post(`/sessions/${sessionId}/read`, {})
  }

  agents(): Promise<Agent[]> {
    return this.ask('GET', '/agents')
  }

  private post<T>(path: string, body: unknown): Promise<T> {
    return this.ask('POST', path, body)
  }

  private async ask<T>(method: string, path: string, body?: unknown): Promise<T> {
    let response = await this.request(method, path, body, false)
    // The token may have run out while this computer slept.
    if (response.status === 401) response = await this.request(method, path, body, true)
    const text = await response.text()
    if (!response.ok) throw new ChatError(kindOf(response.status), problem(text, response), response.status)
    return (text === '' ? undefined : JSON.parse(text)) as T
  }

  private async request(method: string, path: string, body: unknown, fresh: boolean): Promise<Response> {
    const token = await this.token(fresh)
    try {
      return await fetch(`${this.url}/chat/v1${path}`, {
        method,
        headers: {
          authorization: `Bearer ${token}`,
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        },
        signal: AbortSignal.timeout(PATIENCE_MS),
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      })
    } catch (error) {
      throw new ChatError('unreachable', error instanceof Error ? error.message : String(error))
    }
  }
}

/** The words of an `application/problem+json` body. */
function problem(text: string, response: Response): string {
  try {
    const { detail, title } = JSON.parse(text) as { detail?: string; title?: string }
    return detail ?? title ?? response.statusText
  } catch {
    return response.statusText || `status ${response.status}`
  }
}
