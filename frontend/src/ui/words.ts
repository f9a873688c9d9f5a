/** How times and states are said. */

import type { ChatStatus } from '../services/RealtimeChatService.ts'
import type { Delivery } from '../services/types.ts'

const clock = new Intl.DateTimeFormat(undefined, { hour: 'numeric', minute: '2-digit' })
const day = new Intl.DateTimeFormat(undefined, { weekday: 'long', day: 'numeric', month: 'long' })

export const timeOf = (at: string): string => clock.format(new Date(at))

export function dayOf(at: string): string {
  const then = new Date(at)
  const now = new Date()
  if (then.toDateString() === now.toDateString()) return 'Today'
  return day.format(then)
}

/** "now", "4 min", "2 h", or the day. */
export function ago(at: string, now = Date.now()): string {
  const minutes = Math.floor((now - Date.parse(at)) / 60_000)
  if (minutes < 1) return 'now'
  if (minutes < 60) return `${minutes} min`
  if (minutes < 24 * 60) return `${Math.floor(minutes / 60)} h`
  return day.format(new Date(at))
}

export const deliveryWords: Record<Delivery, string> = {
  sending: 'Sending',
  queued: 'Waiting to be sent',
  failed: 'Not sent',
  sent: 'Sent',
  read: 'Read',
}

export const count = (n: number, one: string, many = `${one}s`): string => `${n} ${n === 1 ? one : many}`

/** What a person should know about the connection; null when there is nothing to say. */
export function connectionWords({ phase, queued }: ChatStatus): string | null {
  const waiting =
    queued === 0
      ? 'What you write is kept and sent when the connection is back.'
      : `${count(queued, 'message')} ${queued === 1 ? 'waits' : 'wait'} and will be sent when the connection is back.`
  switch (phase) {
    case 'online':
      return null
    case 'connecting':
      return 'Connecting …'
    case 'reconnecting':
      return `Connection lost, reconnecting … ${waiting}`
    case 'offline':
      return `You are offline. ${waiting}`
  }
}
