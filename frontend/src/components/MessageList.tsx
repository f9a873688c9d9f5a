/** A conversation to read: by day, by person, with how far one's own words have come. It follows new messages unless somebody reads further up. */

import { Fragment, type ReactNode, useEffect, useLayoutEffect, useRef, useState } from 'react'

import type { ConversationView } from '../services/Conversation.ts'
import type { Role, ShownMessage } from '../services/types.ts'
import { Icon, type IconName } from '../ui/Icon.tsx'
import { dayOf, deliveryWords, timeOf } from '../ui/words.ts'

interface Props {
  view: ConversationView
  own: Role
  onEarlier: () => Promise<void>
  onRetry: (id: string) => void
  onDiscard: (id: string) => void
  children?: ReactNode
}

/** Closer to the end than this, new messages are followed. */
const NEAR_PX = 80

export function MessageList({ view, own, onEarlier, onRetry, onDiscard, children }: Props) {
  const box = useRef<HTMLDivElement>(null)
  const follows = useRef(true)
  const height = useRef(0)
  const [missed, setMissed] = useState(0)
  const { messages, session } = view
  const last = messages.at(-1)

  useLayoutEffect(() => {
    const element = box.current
    if (element === null) return
    const mine = last !== undefined && last.sender_type === own
    if (follows.current || (mine && last.delivery !== 'sent' && last.delivery !== 'read')) {
      element.scrollTop = element.scrollHeight
      setMissed(0)
    } else if (last !== undefined) {
      setMissed((count) => count + 1)
    }
  }, [last?.id, own])

  // What grows above stays where it is; what grows below is followed.
  useEffect(() => {
    const element = box.current
    if (element === null) return undefined
    const watcher = new ResizeObserver(() => {
      if (follows.current) element.scrollTop = element.scrollHeight
    })
    watcher.observe(element)
    for (const child of element.children) watcher.observe(child)
    return () => watcher.disconnect()
  }, [])

  const scrolled = (): void => {
    const element = box.current
    if (element === null) return
    follows.current = element.scrollHeight - element.scrollTop - element.clientHeight < NEAR_PX
    if (follows.current) setMissed(0)
  }

  const earlier = async (): Promise<void> => {
    const element = box.current
    if (element === null) return
    height.current = element.scrollHeight - element.scrollTop
    await onEarlier()
    requestAnimationFrame(() => (element.scrollTop = element.scrollHeight - height.current))
  }

  const toEnd = (): void => {
    const element = box.current
    element?.scrollTo({ top: element.scrollHeight })
    setMissed(0)
  }

  const firstAnswer = messages.findIndex(({ sender_type }) => sender_type === 'agent')
  const joined = session !== null && session.status !== 'waiting' && (firstAnswer >= 0 || session.assigned_agent_id !== null)
  const name = messages[firstAnswer]?.sender_name ?? (own === 'visitor' ? view.otherName : null)

  return (
    <div className="relative min-h-0 flex-1">
      <div
        ref={box}
        onScroll={scrolled}
        tabIndex={0}
        role="log"
        aria-label="Messages"
        aria-live="polite"
        className="h-full overflow-y-auto overscroll-contain px-4 py-4"
      >
        <div className="mx-auto flex min-h-full max-w-3xl flex-col justify-end">
          {view.hasEarlier && (
            <button type="button" onClick={() => void earlier()} className="button-quiet mx-auto mb-3 py-1.5">
              Show earlier messages
            </button>
          )}
          {!view.isLoaded && messages.length === 0 && (
            <p className="m-auto text-sm text-faint">Loading the conversation …</p>
          )}
          {view.isLoaded && messages.length === 0 && <p className="m-auto text-sm text-faint">Nothing was said yet.</p>}
          {messages.map((message, index) => (
            <Fragment key={message.id}>
              {dayChanges(messages, index) && <Line>{dayOf(message.created_at)}</Line>}
              {joined && index === firstAnswer && <Joined name={name} />}
              <Bubble
                message={message}
                isOwn={message.sender_type === own}
                isFirst={startsGroup(messages, index)}
                isLast={startsGroup(messages, index + 1)}
                onRetry={onRetry}
                onDiscard={onDiscard}
              />
            </Fragment>
          ))}
          {joined && firstAnswer < 0 && <Joined name={name} />}
          {session?.status === 'closed' && <Line>This chat was closed.</Line>}
          {view.typing !== null && <Typing name={view.typing} />}
          {children}
        </div>
      </div>
      {missed > 0 && (
        <button
          type="button"
          onClick={toEnd}
          className="absolute bottom-3 left-1/2 -translate-x-1/2 rounded-full bg-ink px-3.5 py-1.5 text-xs font-medium text-white shadow-lift"
        >
          New messages ↓
        </button>
      )}
    </div>
  )
}

function Joined({ name }: { name: string | null }) {
  return <Line>{name === null ? 'Agent joined' : `Agent joined: ${name}`}</Line>
}

function Line({ children }: { children: ReactNode }) {
  return (
    <p className="my-3 flex items-center gap-3 text-xs text-faint before:h-px before:flex-1 before:bg-line after:h-px after:flex-1 after:bg-line">
      {children}
    </p>
  )
}

interface BubbleProps {
  message: ShownMessage
  isOwn: boolean
  isFirst: boolean
  isLast: boolean
  onRetry: (id: string) => void
  onDiscard: (id: string) => void
}

const ICONS: Record<ShownMessage['delivery'], IconName> = {
  sending: 'clock',
  queued: 'clock',
  failed: 'alert',
  sent: 'check',
  read: 'checks',
}

function Bubble({ message, isOwn, isFirst, isLast, onRetry, onDiscard }: BubbleProps) {
  const { id, body, delivery, sender_name, created_at } = message
  const emojiOnly = /^(\p{Extended_Pictographic}|\p{Emoji_Component}|\s){1,12}$/u.test(body) && /\p{Extended_Pictographic}/u.test(body)
  const shape = isOwn ? 'bg-accent text-white rounded-br-md' : 'bg-card border border-line rounded-bl-md'
  // The time once for a few words in a row; what is not stored yet always says so.
  const isPlain = delivery === 'sent' || delivery === 'read'
  const says = isLast || !isPlain
  const pale = delivery === 'queued' || delivery === 'sending' ? 'opacity-75' : ''
  return (
    <div
      className={`arrive relative flex max-w-[85%] flex-col ${isOwn ? 'items-end self-end' : 'items-start self-start'} ${isFirst ? 'mt-3' : 'mt-1'}`}
      data-message={id}
      data-delivery={isOwn ? delivery : undefined}
    >
      {isFirst && !isOwn && sender_name !== null && <span className="mb-1 ml-1 text-xs text-faint">{sender_name}</span>}
      <p
        className={
          emojiOnly
            ? `px-1 font-emoji text-4xl leading-tight ${pale}`
            : `rounded-2xl px-3.5 py-2 text-[0.9375rem] leading-snug break-words whitespace-pre-wrap [overflow-wrap:anywhere] ${shape} ${pale}`
        }
      >
        {body}
      </p>
      <span className={`mt-0.5 flex items-center gap-1 px-1 text-[0.6875rem] text-faint ${says ? '' : 'sr-only'}`}>
        <time dateTime={created_at}>{timeOf(created_at)}</time>
        {isOwn && (
          <>
            <Icon name={ICONS[delivery]} className={`size-3.5 ${delivery === 'read' ? 'text-accent' : ''}`} />
            <span className={isPlain || delivery === 'sending' ? 'sr-only' : ''}>
              {deliveryWords[delivery]}
            </span>
          </>
        )}
      </span>
      {delivery === 'failed' && (
        <div className="mt-1 rounded-xl bg-rose-mist px-3 py-2 text-xs text-rose-ink" role="alert">
          <p>{message.problem}</p>
          <p className="mt-1 flex gap-3 font-medium">
            <button type="button" className="underline" onClick={() => onRetry(id)}>
              Try again
            </button>
            <button type="button" className="underline" onClick={() => onDiscard(id)}>
              Discard
            </button>
          </p>
        </div>
      )}
    </div>
  )
}

function Typing({ name }: { name: string }) {
  return (
    <p className="arrive mt-3 flex items-center gap-2 self-start text-xs text-faint">
      <span className="flex gap-1 rounded-2xl border border-line bg-card px-3 py-2.5" aria-hidden="true">
        {[0, 1, 2].map((n) => (
          <span key={n} className="typing-dot size-1.5 rounded-full bg-soft" style={{ animationDelay: `${n * 0.15}s` }} />
        ))}
      </span>
      {name} is typing …
    </p>
  )
}

function dayChanges(messages: readonly ShownMessage[], index: number): boolean {
  const [before, here] = [messages[index - 1], messages[index]]
  if (here === undefined) return false
  return before === undefined || dayOf(before.created_at) !== dayOf(here.created_at)
}

/** Whether the sender changed, or was silent for a while. */
function startsGroup(messages: readonly ShownMessage[], index: number): boolean {
  const [before, here] = [messages[index - 1], messages[index]]
  if (before === undefined || here === undefined) return true
  const pause = Date.parse(here.created_at) - Date.parse(before.created_at)
  return before.sender_type !== here.sender_type || before.sender_name !== here.sender_name || pause > 5 * 60_000
}
