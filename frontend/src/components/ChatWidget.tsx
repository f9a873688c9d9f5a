/**
 * The chat on a visitor's page: a button in the corner, and the conversation behind it. It needs a connected service and
 * nothing else of its page.
 */

import { type FormEvent, useCallback, useEffect, useRef, useState } from 'react'

import type { ConversationView } from '../services/Conversation.ts'
import type { RealtimeChatService } from '../services/RealtimeChatService.ts'
import { useConversation, usePresentAgents, useReading, useStatus, useTitle } from '../ui/hooks.ts'
import { Icon } from '../ui/Icon.tsx'
import { count } from '../ui/words.ts'
import { Composer, LONGEST } from './Composer.tsx'
import { MessageList } from './MessageList.tsx'
import { RatingCard } from './RatingCard.tsx'
import { StatusLine } from './StatusLine.tsx'

interface Props {
  service: RealtimeChatService
  /** The title of the page around it, to which the number of unread messages is added. */
  title: string
  startsOpen?: boolean
}

export function ChatWidget({ service, title, startsOpen = false }: Props) {
  const [isOpen, setIsOpen] = useState(startsOpen)
  const [sessionId, setSessionId] = useCurrentSession()
  const view = useConversation(service, sessionId)
  const launcher = useRef<HTMLButtonElement>(null)
  const unread = view?.unread ?? 0
  useReading(service, view, isOpen)
  useTitle(title, isOpen ? 0 : unread)

  // A session that the database does not have, and that does not wait to be sent, belongs to an earlier demo.
  const isGone = view !== null && view.isLoaded && view.session === null
  useEffect(() => {
    if (isGone) setSessionId(null)
  }, [isGone, setSessionId])

  const close = (): void => {
    setIsOpen(false)
    requestAnimationFrame(() => launcher.current?.focus())
  }

  if (!isOpen) {
    return (
      <button
        ref={launcher}
        type="button"
        onClick={() => setIsOpen(true)}
        aria-label={unread > 0 ? `Open chat, ${count(unread, 'unread message')}` : 'Open chat'}
        className="fixed right-5 bottom-5 z-40 grid size-15 place-items-center rounded-full bg-accent text-white shadow-lift transition-transform hover:scale-105 motion-reduce:transition-none"
      >
        <Icon name="chat" className="size-7" />
        {unread > 0 && (
          <span className="absolute -top-1 -right-1 grid h-6 min-w-6 place-items-center rounded-full border-2 border-paper bg-rose-600 px-1 text-xs font-semibold">
            {unread > 9 ? '9+' : unread}
          </span>
        )}
      </button>
    )
  }
  return (
    <section
      role="dialog"
      aria-label="Chat with support"
      onKeyDown={(event) => {
        if (event.key === 'Escape') close()
      }}
      className="arrive fixed inset-0 z-40 flex flex-col overflow-clip bg-paper sm:inset-auto sm:right-5 sm:bottom-5 sm:h-[min(40rem,calc(100dvh-2.5rem))] sm:w-[24rem] sm:rounded-3xl sm:border sm:border-line sm:shadow-lift"
    >
      <Panel service={service} view={view} sessionId={sessionId} onSession={setSessionId} onClose={close} />
    </section>
  )
}

interface PanelProps {
  service: RealtimeChatService
  view: ConversationView | null
  sessionId: string | null
  onSession: (id: string | null) => void
  onClose: () => void
}

function Panel({ service, view, sessionId, onSession, onClose }: PanelProps) {
  const status = useStatus(service)
  const agents = usePresentAgents(service)
  const field = useRef<HTMLTextAreaElement>(null)
  const isClosed = view?.session?.status === 'closed'
  const isShown = view !== null

  useEffect(() => {
    // On a phone the keyboard would cover the conversation before it is read.
    if (matchMedia('(pointer: fine)').matches) field.current?.focus()
  }, [sessionId, isShown])

  return (
    <>
      <header className="flex items-center gap-3 bg-accent px-4 py-3.5 text-white">
        <span className="relative grid size-10 shrink-0 place-items-center rounded-full bg-white/15">
          <Icon name="user" />
          <span
            className={`absolute right-0 bottom-0 size-3 rounded-full border-2 border-accent ${agents.length > 0 ? 'bg-emerald-300' : 'bg-white/50'}`}
          />
        </span>
        <div className="min-w-0 flex-1">
          <h2 className="truncate font-semibold">{nameOf(view) ?? 'Support'}</h2>
          <p className="truncate text-[0.8125rem] text-white/85" data-testid="state">
            {stateWords(view, agents.length, status.isOnline)}
          </p>
        </div>
        <button type="button" aria-label="Minimise chat" onClick={onClose} className="grid size-9 place-items-center rounded-xl outline-white hover:bg-white/15">
          <Icon name="down" />
        </button>
      </header>
      <StatusLine status={status} onDismiss={() => service.dismissGap()} />
      {sessionId === null || view === null ? (
        <Start
          field={field}
          onStart={(name, text) => {
            const session = service.startSession(name === '' ? {} : { name })
            service.sendMessage(session.id, text)
            onSession(session.id)
          }}
        />
      ) : (
        <>
          <MessageList
            view={view}
            own="visitor"
            onEarlier={() => service.loadEarlier(sessionId)}
            onRetry={(id) => service.retry(id)}
            onDiscard={(id) => service.discard(id)}
          >
            {isClosed && (
              <RatingCard
                rating={view.session?.rating ?? null}
                onRate={(rating, feedback) => service.rate(sessionId, rating, feedback)}
                onNew={() => onSession(null)}
              />
            )}
          </MessageList>
          {!isClosed && (
            <Composer
              field={field}
              label="Message to support"
              placeholder="Write a message …"
              onSend={(text) => service.sendMessage(sessionId, text)}
              onTyping={() => service.setTyping(sessionId)}
            />
          )}
        </>
      )}
    </>
  )
}

interface StartProps {
  field: React.RefObject<HTMLTextAreaElement>
  onStart: (name: string, text: string) => void
}

function Start({ field, onStart }: StartProps) {
  const [name, setName] = useState('')
  const [text, setText] = useState('')
  const start = (event: FormEvent): void => {
    event.preventDefault()
    if (text.trim() !== '') onStart(name.trim(), text)
  }
  return (
    <form onSubmit={start} className="flex min-h-0 flex-1 flex-col gap-4 overflow-y-auto p-5">
      <div>
        <h3 className="text-xl font-semibold tracking-tight">Hello 👋</h3>
        <p className="mt-1 text-[0.9375rem] text-soft">Tell us what it is about. Somebody will be with you, and nothing you write is lost.</p>
      </div>
      <div>
        <label className="label" htmlFor="visitor-name">
          Your name <span className="font-normal text-faint">(optional)</span>
        </label>
        <input
          id="visitor-name"
          className="field"
          autoComplete="given-name"
          maxLength={200}
          value={name}
          onChange={(event) => setName(event.target.value)}
        />
      </div>
      <div className="flex-1">
        <label className="label" htmlFor="visitor-first">
          Your message
        </label>
        <textarea
          id="visitor-first"
          ref={field}
          rows={4}
          maxLength={LONGEST}
          className="field resize-none"
          placeholder="How can we help?"
          value={text}
          onChange={(event) => setText(event.target.value)}
          onKeyDown={(event) => {
            if (event.key === 'Enter' && !event.shiftKey && !event.nativeEvent.isComposing) start(event)
          }}
        />
      </div>
      <button type="submit" className="button-main w-full py-3" disabled={text.trim() === ''}>
        Start chat
      </button>
    </form>
  )
}

function nameOf(view: ConversationView | null): string | null {
  if (view === null) return null
  const said = view.messages.findLast(({ sender_type }) => sender_type === 'agent')?.sender_name
  return view.otherName ?? said ?? null
}

function stateWords(view: ConversationView | null, agents: number, isOnline: boolean): string {
  if (view?.session?.status === 'closed') return 'This chat is closed'
  // Who is there cannot be known from here.
  if (!isOnline) return 'Not connected'
  const desk = agents > 0 ? 'We are online' : 'We are away; leave a message'
  if (view === null || view.session === null) return desk
  const { status } = view.session
  if (view.typing !== null) return 'typing …'
  if (view.otherIsHere) return 'Online, in this chat'
  if (status === 'waiting') return agents > 0 ? 'Waiting for an agent' : desk
  return agents > 0 ? 'We are online' : 'Away; your messages will be read later'
}

const KEY = 'relay.chat.session'

/** The session this browser is in, the same in every tab. */
function useCurrentSession(): [string | null, (id: string | null) => void] {
  const [id, setId] = useState<string | null>(() => {
    try {
      return localStorage.getItem(KEY)
    } catch {
      return null
    }
  })
  useEffect(() => {
    const changed = (event: StorageEvent): void => {
      if (event.key === KEY) setId(event.newValue)
    }
    addEventListener('storage', changed)
    return () => removeEventListener('storage', changed)
  }, [])
  const keep = useCallback((next: string | null) => {
    setId(next)
    try {
      if (next === null) localStorage.removeItem(KEY)
      else localStorage.setItem(KEY, next)
    } catch {
      // Storage is forbidden here: the chat lasts as long as the page.
    }
  }, [])
  return [id, keep]
}
