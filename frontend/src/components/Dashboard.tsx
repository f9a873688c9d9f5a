/** What an agent works with: the chats on the left, the one they are in on the right. On a phone, one at a time. */

import { useEffect, useMemo, useState } from 'react'

import type { RealtimeChatService } from '../services/RealtimeChatService.ts'
import type { Agent } from '../services/types.ts'
import { useDesk, usePresentAgents, useStatus, useTitle } from '../ui/hooks.ts'
import { Icon } from '../ui/Icon.tsx'
import { count } from '../ui/words.ts'
import { AgentConversation } from './AgentConversation.tsx'
import { SessionList } from './SessionList.tsx'
import { StatusLine } from './StatusLine.tsx'

interface Props {
  service: RealtimeChatService
  user: string
  name: string
  onLeave: () => void
}

export function Dashboard({ service, user, name, onLeave }: Props) {
  const status = useStatus(service)
  const { items, isLoaded } = useDesk(service)
  const present = usePresentAgents(service)
  const assigned = items.map(({ session }) => session.assigned_agent_id)
  const known = useAgents(service, status.isOnline, assigned)
  const [openId, setOpenId] = useState<string | null>(null)
  const unread = items.reduce((sum, item) => sum + (item.session.status === 'closed' ? 0 : item.unread), 0)
  const waiting = items.filter(({ session }) => session.status === 'waiting').length
  useTitle('Agent dashboard', unread)

  const me = known.find((agent) => agent.user_id === user)?.id ?? null
  const nameOf = useMemo(() => {
    const names = new Map(known.map((agent) => [agent.id, present.find((p) => p.user === agent.user_id)?.name ?? agent.display_name]))
    return (id: string) => names.get(id) ?? 'another agent'
  }, [known, present])
  const open = items.find(({ session }) => session.id === openId) ?? null
  const colleagues = present.filter((agent) => agent.user !== user)

  return (
    <div className="flex h-dvh flex-col">
      <header className="flex items-center gap-3 border-b border-line bg-card px-4 py-3">
        <span className="grid size-9 shrink-0 place-items-center rounded-xl bg-accent text-white">
          <Icon name="chat" />
        </span>
        <div className="min-w-0 flex-1">
          <h1 className="truncate leading-tight font-semibold">Agent dashboard</h1>
          <p className="flex items-center gap-1.5 truncate text-[0.8125rem] text-soft" data-testid="agent-state">
            <span className={`size-2 shrink-0 rounded-full ${status.isOnline ? 'bg-emerald-600' : 'bg-amber-500'}`} />
            {name}, {status.isOnline ? 'online' : 'not connected'}
            {colleagues.length > 0 && <span className="hidden sm:inline"> · with {colleagues.map((agent) => agent.name).join(', ')}</span>}
          </p>
        </div>
        <button type="button" className="button-quiet py-1.5" onClick={onLeave}>
          Sign out
        </button>
      </header>
      <StatusLine status={status} onDismiss={() => service.dismissGap()} />
      <p className="sr-only" role="status" aria-live="polite">
        {waiting === 0 ? '' : `${count(waiting, 'chat')} waiting`}
      </p>
      <div className="flex min-h-0 flex-1">
        <nav
          aria-label="Chats"
          className={`w-full shrink-0 overflow-y-auto border-r border-line bg-card md:block md:w-80 ${open === null ? 'block' : 'hidden'}`}
        >
          <SessionList items={items} isLoaded={isLoaded} openId={openId} me={me} nameOf={nameOf} onOpen={setOpenId} />
        </nav>
        <main className={`min-w-0 flex-1 flex-col md:flex ${open === null ? 'hidden' : 'flex'}`}>
          {open === null ? (
            <div className="m-auto max-w-xs p-6 text-center text-soft">
              <Icon name="chat" className="mx-auto size-10 text-faint/60" />
              <p className="mt-3 font-medium text-ink">{waiting > 0 ? `${count(waiting, 'visitor')} waiting` : 'All quiet'}</p>
              <p className="mt-1 text-sm">{waiting > 0 ? 'Pick a chat on the left to answer it.' : 'New chats appear on the left by themselves.'}</p>
            </div>
          ) : (
            <AgentConversation
              key={open.session.id}
              service={service}
              session={open.session}
              me={me}
              nameOf={nameOf}
              onBack={() => setOpenId(null)}
            />
          )}
        </main>
      </div>
    </div>
  )
}

/** Everybody who answers, asked for on connecting and when somebody unknown has a chat. */
function useAgents(service: RealtimeChatService, isOnline: boolean, assigned: readonly (string | null)[]): readonly Agent[] {
  const [agents, setAgents] = useState<readonly Agent[]>([])
  const unknown = assigned.filter((id) => id !== null && !agents.some((agent) => agent.id === id))
  const strangers = [...new Set(unknown)].sort().join()
  useEffect(() => {
    if (!isOnline) return undefined
    let ended = false
    service.agents().then(
      (list) => {
        if (!ended) setAgents(list)
      },
      // Names are a nicety; the next connection asks again.
      () => {},
    )
    return () => {
      ended = true
    }
  }, [service, isOnline, strangers])
  return agents
}
