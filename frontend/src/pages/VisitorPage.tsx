/** A page as any shop has one, with the chat in its corner. */

import { ChatWidget } from '../components/ChatWidget.tsx'
import type { Credentials } from '../services/connect.ts'
import { Icon } from '../ui/Icon.tsx'
import { Unreachable, useConnection } from './Connecting.tsx'

const NOBODY: Credentials = {}
const TITLE = 'Your order · Harbour & Pine'

const STEPS = [
  ['Ordered', 'Monday', true],
  ['Packed', 'Tuesday', true],
  ['On its way', 'Wednesday', true],
  ['Delivered', 'expected Thursday', false],
] as const

export function VisitorPage() {
  const { connected, problem } = useConnection('visitor', NOBODY)
  const startsOpen = new URLSearchParams(location.search).has('open')
  return (
    <div className="min-h-dvh">
      <header className="border-b border-line bg-card">
        <div className="mx-auto flex max-w-3xl items-center gap-3 px-5 py-4">
          <span className="grid size-9 place-items-center rounded-xl bg-ink text-sm font-semibold text-white">H&amp;P</span>
          <span className="font-semibold tracking-tight">Harbour &amp; Pine</span>
          <span className="ml-auto text-sm text-faint">a shop made up for this demo</span>
        </div>
      </header>
      <main className="mx-auto max-w-3xl px-5 py-10">
        <p className="text-sm text-faint">Order 4711</p>
        <h1 className="mt-1 text-3xl font-semibold tracking-tight">Your desk lamp is on its way</h1>
        <ol className="mt-8 grid gap-3 sm:grid-cols-4">
          {STEPS.map(([name, when, done]) => (
            <li key={name} className={`rounded-2xl border p-4 ${done ? 'border-accent/25 bg-accent-mist' : 'border-line bg-card'}`}>
              <span className={`grid size-7 place-items-center rounded-full ${done ? 'bg-accent text-white' : 'border border-line text-faint'}`}>
                <Icon name={done ? 'check' : 'clock'} className="size-4" />
              </span>
              <p className="mt-3 font-medium">{name}</p>
              <p className="text-sm text-soft">{when}</p>
            </li>
          ))}
        </ol>
        <section className="mt-8 rounded-2xl border border-line bg-card p-5">
          <h2 className="font-semibold">Something not right?</h2>
          <p className="mt-1 max-w-prose text-[0.9375rem] text-soft">
            Write to us with the button in the corner. You can close this page and come back: the conversation waits for you.
          </p>
        </section>
      </main>
      {connected !== null && <ChatWidget service={connected.service} title={TITLE} startsOpen={startsOpen} />}
      {connected === null && problem !== null && <Unreachable>The chat cannot be reached. {problem}</Unreachable>}
    </div>
  )
}
