/** One chat as the agent sees it. */

import { useEffect, useRef, useState } from 'react'

import type { RealtimeChatService } from '../services/RealtimeChatService.ts'
import type { ChatSession } from '../services/types.ts'
import { useConversation, useReading } from '../ui/hooks.ts'
import { Icon } from '../ui/Icon.tsx'
import { Composer } from './Composer.tsx'
import { MessageList } from './MessageList.tsx'
import { Avatar } from './SessionList.tsx'

interface Props {
  service: RealtimeChatService
  /** As the list knows it, until the conversation knows better. */
  session: ChatSession
  me: string | null
  nameOf: (agent: string) => string
  onBack: () => void
}

export function AgentConversation({ service, session: listed, me, nameOf, onBack }: Props) {
  const view = useConversation(service, listed.id)
  const field = useRef<HTMLTextAreaElement>(null)
  const [problem, setProblem] = useState<string | null>(null)
  useReading(service, view, true)
  useEffect(() => {
    if (matchMedia('(pointer: fine)').matches) field.current?.focus()
  }, [])

  const { id, status, assigned_agent_id: agent, visitor_name, visitor_email, subject, rating, feedback } = listed
  const isClosed = status === 'closed'
  const isMine = agent !== null && agent === me
  const name = visitor_name ?? 'Visitor'
  const attempt = async (what: Promise<unknown>): Promise<void> => {
    setProblem(null)
    try {
      await what
    } catch (error) {
      setProblem(error instanceof Error ? error.message : String(error))
    }
  }

  return (
    <>
      <header className="flex items-center gap-3 border-b border-line bg-card px-4 py-3">
        <button type="button" aria-label="Back to the chats" onClick={onBack} className="-ml-2 grid size-9 place-items-center rounded-xl hover:bg-paper md:hidden">
          <Icon name="back" />
        </button>
        <Avatar name={name} />
        <div className="min-w-0 flex-1">
          <h2 className="truncate leading-tight font-semibold">{name}</h2>
          <p className="flex items-center gap-1.5 truncate text-[0.8125rem] text-soft" data-testid="visitor-state">
            <span className={`size-2 shrink-0 rounded-full ${view?.otherIsHere === true ? 'bg-emerald-600' : 'bg-faint/50'}`} />
            {view?.typing != null ? 'typing …' : view?.otherIsHere === true ? 'Online' : 'Offline'}
            {[visitor_email, subject].filter(Boolean).map((text) => (
              <span key={text} className="truncate"> · {text}</span>
            ))}
          </p>
        </div>
        {status === 'waiting' && (
          <button type="button" className="button-main py-2" onClick={() => void attempt(service.assign(id))}>
            Take chat
          </button>
        )}
        {status === 'active' && (
          <button type="button" className="button-quiet py-2" onClick={() => void attempt(service.close(id))}>
            Close chat
          </button>
        )}
      </header>
      <p role="status" className="border-b border-line bg-paper px-4 py-1.5 text-xs text-soft empty:hidden" data-testid="assignment">
        {isClosed ? (rating === null ? 'Closed' : `Closed · rated ${rating} of 5${feedback ? `: “${feedback}”` : ''}`) : null}
        {status === 'waiting' ? 'Nobody has taken this chat yet; your first answer takes it.' : null}
        {status === 'active' && isMine ? 'This chat is yours.' : null}
        {status === 'active' && !isMine && agent !== null ? `${nameOf(agent)} has this chat. What you write here is seen by the visitor too.` : null}
      </p>
      {problem !== null && (
        <p role="alert" className="flex items-start gap-2 bg-rose-mist px-4 py-2 text-sm text-rose-ink">
          <span className="flex-1">{problem}</span>
          <button type="button" aria-label="Dismiss" onClick={() => setProblem(null)}>
            <Icon name="close" className="size-4" />
          </button>
        </p>
      )}
      {view === null ? (
        <div className="flex-1" />
      ) : (
        <MessageList
          view={view.session === null ? { ...view, session: listed } : view}
          own="agent"
          onEarlier={() => service.loadEarlier(id)}
          onRetry={(messageId) => service.retry(messageId)}
          onDiscard={(messageId) => service.discard(messageId)}
        />
      )}
      {!isClosed && (
        <Composer
          field={field}
          label={`Message to ${name}`}
          placeholder={`Answer ${name} …`}
          onSend={(text) => service.sendMessage(id, text)}
          onTyping={() => service.setTyping(id)}
        />
      )}
    </>
  )
}
