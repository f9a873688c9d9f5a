/** The chats by what they need: waiting first, then one's own, the colleagues', and what was closed meanwhile. */

import type { DeskItem } from '../services/Desk.ts'
import { ago, count } from '../ui/words.ts'
import { useMinute } from '../ui/useMinute.ts'

interface Props {
  items: readonly DeskItem[]
  isLoaded: boolean
  openId: string | null
  me: string | null
  nameOf: (agent: string) => string
  onOpen: (id: string) => void
}

export function SessionList({ items, isLoaded, openId, me, nameOf, onOpen }: Props) {
  const now = useMinute()
  const groups: [string, DeskItem[]][] = [
    ['Waiting', items.filter(({ session }) => session.status === 'waiting')],
    ['Yours', items.filter(({ session }) => session.status === 'active' && session.assigned_agent_id === me)],
    ['With others', items.filter(({ session }) => session.status === 'active' && session.assigned_agent_id !== me)],
    ['Closed just now', items.filter(({ session }) => session.status === 'closed')],
  ]
  if (!isLoaded) return <p className="p-5 text-sm text-faint">Loading the chats …</p>
  if (items.length === 0) return <p className="p-5 text-sm text-faint">No open chats.</p>
  return (
    <>
      {groups
        .filter(([, group]) => group.length > 0)
        .map(([title, group]) => (
          <section key={title} aria-label={title}>
            <h2 className="flex items-baseline gap-2 px-4 pt-4 pb-1.5 text-xs font-semibold tracking-wide text-faint uppercase">
              {title} <span className="font-normal">{group.length}</span>
            </h2>
            <ul>
              {group.map((item) => (
                <Item key={item.session.id} item={item} isOpen={item.session.id === openId} me={me} nameOf={nameOf} now={now} onOpen={onOpen} />
              ))}
            </ul>
          </section>
        ))}
    </>
  )
}

interface ItemProps extends Pick<Props, 'me' | 'nameOf' | 'onOpen'> {
  item: DeskItem
  isOpen: boolean
  now: number
}

function Item({ item: { session, unread, last }, isOpen, me, nameOf, now, onOpen }: ItemProps) {
  const name = session.visitor_name ?? 'Visitor'
  const agent = session.assigned_agent_id
  return (
    <li>
      <button
        type="button"
        onClick={() => onOpen(session.id)}
        aria-current={isOpen ? 'true' : undefined}
        data-session={session.id}
        className={`flex w-full items-center gap-3 border-l-[3px] px-4 py-3 text-left -outline-offset-2 ${isOpen ? 'border-accent bg-accent-mist' : 'border-transparent hover:bg-paper'}`}
      >
        <Avatar name={name} />
        <span className="min-w-0 flex-1">
          <span className="flex items-baseline gap-2">
            <span className={`truncate ${unread > 0 ? 'font-semibold' : 'font-medium'}`}>{name}</span>
            <span className="ml-auto shrink-0 text-xs text-faint">{ago(session.last_message_at, now)}</span>
          </span>
          <span className="flex items-center gap-2">
            <span className={`truncate text-sm ${unread > 0 ? 'text-ink' : 'text-soft'}`}>
              {last === null ? (session.subject ?? 'New chat') : `${last.sender_type === 'agent' ? '↩ ' : ''}${last.body}`}
            </span>
            {unread > 0 && (
              <span
                className="ml-auto grid h-5 min-w-5 shrink-0 place-items-center rounded-full bg-accent px-1.5 text-xs font-semibold text-white"
                aria-label={count(unread, 'unread message')}
              >
                {unread > 9 ? '9+' : unread}
              </span>
            )}
          </span>
          {session.status === 'active' && agent !== null && agent !== me && (
            <span className="block truncate text-xs text-faint">with {nameOf(agent)}</span>
          )}
          {session.status === 'closed' && session.rating !== null && (
            <span className="block text-xs text-faint">rated {session.rating} of 5</span>
          )}
        </span>
      </button>
    </li>
  )
}

export function Avatar({ name }: { name: string }) {
  const letters = name.split(/\s+/).map((part) => [...part][0] ?? '').slice(0, 2).join('').toUpperCase()
  return (
    <span aria-hidden="true" className="grid size-10 shrink-0 place-items-center rounded-full bg-accent-mist text-sm font-semibold text-accent-deep">
      {letters}
    </span>
  )
}
