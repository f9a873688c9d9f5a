/** The service, as React likes to read it. */

import { useCallback, useEffect, useRef, useState, useSyncExternalStore } from 'react'

import type { ConversationView } from '../services/Conversation.ts'
import type { DeskView } from '../services/Desk.ts'
import type { PresentAgent } from '../services/Lobby.ts'
import type { ChatStatus, RealtimeChatService } from '../services/RealtimeChatService.ts'

export function useStatus(service: RealtimeChatService): ChatStatus {
  const subscribe = useCallback((changed: () => void) => service.onStatusChange(changed), [service])
  return useSyncExternalStore(subscribe, () => service.getStatus())
}

/** Null until there is a session. */
export function useConversation(service: RealtimeChatService, sessionId: string | null): ConversationView | null {
  const [view, setView] = useState<ConversationView | null>(null)
  useEffect(() => {
    setView(null)
    return sessionId === null ? undefined : service.subscribeToConversation(sessionId, setView)
  }, [service, sessionId])
  return view
}

export function useDesk(service: RealtimeChatService): DeskView {
  const [view, setView] = useState<DeskView>({ items: [], isLoaded: false })
  useEffect(() => service.subscribeToDesk(setView), [service])
  return view
}

export function usePresentAgents(service: RealtimeChatService): readonly PresentAgent[] {
  const [agents, setAgents] = useState<readonly PresentAgent[]>([])
  useEffect(() => service.subscribeToAgents(setAgents), [service])
  return agents
}

/** Whether somebody is looking at this page. */
export function useIsVisible(): boolean {
  const subscribe = useCallback((changed: () => void) => {
    document.addEventListener('visibilitychange', changed)
    return () => document.removeEventListener('visibilitychange', changed)
  }, [])
  return useSyncExternalStore(subscribe, () => document.visibilityState === 'visible')
}

/** Marks what arrives as read while somebody looks at it. */
export function useReading(service: RealtimeChatService, view: ConversationView | null, isLookedAt: boolean): void {
  const isVisible = useIsVisible()
  const newest = view?.messages.findLast((message) => message.read_at === null && message.delivery === 'sent')
  const unread = view?.unread ?? 0
  const sessionId = view?.session?.id ?? null
  const failures = useRef(0)
  useEffect(() => {
    if (!isLookedAt || !isVisible || unread === 0 || sessionId === null) return undefined
    let timer: ReturnType<typeof setTimeout> | undefined
    const mark = (): void => {
      service.markRead(sessionId).then(
        () => (failures.current = 0),
        () => {
          failures.current += 1
          timer = setTimeout(mark, Math.min(1000 * 2 ** failures.current, 15_000))
        },
      )
    }
    mark()
    return () => clearTimeout(timer)
  }, [service, sessionId, unread, newest?.id, isLookedAt, isVisible])
}

/** The page's title, with what waits in front. */
export function useTitle(title: string, unread = 0): void {
  useEffect(() => {
    document.title = unread > 0 ? `(${unread}) ${title}` : title
  }, [title, unread])
}
