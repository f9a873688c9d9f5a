/** What this is, on one screen; and the two sides next to each other. */

import { useState } from 'react'

import { useTitle } from '../ui/hooks.ts'
import { Icon, type IconName } from '../ui/Icon.tsx'

export function LandingPage() {
  useTitle('relay · a chat to try')
  const [code] = useState(() => new URLSearchParams(location.hash.slice(1)).get('code'))
  const [both, setBoth] = useState(() => new URLSearchParams(location.hash.slice(1)).has('both'))
  const agent = code === null ? '/agent' : `/agent#code=${encodeURIComponent(code)}`
  const inspector = code === null ? '/inspector' : `/inspector#code=${encodeURIComponent(code)}`
  if (both) return <SideBySide agent={agent} inspector={inspector} onBack={() => setBoth(false)} />
  return (
    <div className="grid min-h-dvh grid-rows-[1fr_auto]">
      <main className="mx-auto flex w-full max-w-5xl flex-col justify-center px-5 py-10 sm:px-8">
        <p className="flex items-center gap-2.5 font-semibold tracking-tight">
          <span className="grid size-9 place-items-center rounded-xl bg-accent text-white">
            <Icon name="relay" />
          </span>
          relay
        </p>
        <h1 className="mt-6 max-w-2xl text-4xl leading-[1.1] font-semibold tracking-tight text-balance sm:text-5xl">A support chat that lives in Postgres</h1>
        <p className="mt-4 max-w-2xl text-lg text-pretty text-soft">
          A visitor writes, Postgres commits, and the relay pushes the row to everyone whose row security lets them read it. Nothing is
          polled, and nothing reaches the other side that is not stored.
        </p>
        <Path />
        <div className="mt-8 grid gap-4 sm:grid-cols-2">
          <Card icon="user" title="The visitor" href="/visitor?open" action="Open the visitor’s page">
            A shop with a chat in its corner. What is written shows at once, waits while the network is gone, and arrives exactly once.
          </Card>
          <Card icon="chat" title="The agent" href={agent} action="Open the dashboard">
            Every chat on one screen, live: new visitors, unread messages, who types, who is here, which colleague has which chat.
          </Card>
        </div>
        <div className="mt-6 flex flex-wrap items-center gap-x-5 gap-y-3">
          <button type="button" className="button-main px-6 py-3.5 text-base" onClick={() => setBoth(true)}>
            Try both side by side
          </button>
          <a href={inspector} className="text-sm font-medium text-accent-deep underline underline-offset-4">
            Look at the changes as they come: the inspector
          </a>
        </div>
      </main>
      <footer className="border-t border-line px-5 py-4 text-center text-sm text-faint">
        Things to try: go offline and write · open the visitor twice · restart Postgres or the relay in the middle of a chat
      </footer>
    </div>
  )
}

function Path() {
  const steps: [IconName, string][] = [
    ['user', 'visitor writes'],
    ['database', 'Postgres commits'],
    ['relay', 'relay pushes'],
    ['chat', 'agent reads'],
  ]
  return (
    <ol className="mt-8 flex flex-wrap items-center gap-x-2 gap-y-2 text-sm text-soft">
      {steps.map(([icon, words], index) => (
        <li key={words} className="flex items-center gap-2">
          {index > 0 && (
            <span aria-hidden="true" className="text-faint">
              →
            </span>
          )}
          <span className="flex items-center gap-2 rounded-full border border-line bg-card px-3.5 py-1.5">
            <Icon name={icon} className="size-4 text-accent" />
            {words}
          </span>
        </li>
      ))}
    </ol>
  )
}

function Card({ icon, title, href, action, children }: { icon: IconName; title: string; href: string; action: string; children: string }) {
  return (
    <section className="flex flex-col rounded-3xl border border-line bg-card p-6">
      <h2 className="flex items-center gap-2.5 font-semibold">
        <Icon name={icon} className="size-5 text-accent" />
        {title}
      </h2>
      <p className="mt-2 flex-1 text-[0.9375rem] text-soft">{children}</p>
      <a href={href} target="_blank" rel="noreferrer" className="mt-4 flex items-center gap-1.5 text-sm font-medium text-accent-deep underline underline-offset-4">
        {action}
        <Icon name="out" className="size-4" />
      </a>
    </section>
  )
}

function SideBySide({ agent, inspector, onBack }: { agent: string; inspector: string; onBack: () => void }) {
  const sides = [
    ['Visitor', '/visitor?open'],
    ['Agent', agent],
  ] as const
  return (
    <div className="flex h-dvh flex-col">
      <header className="flex items-center gap-3 border-b border-line bg-card px-4 py-2.5">
        <button type="button" onClick={onBack} className="button-quiet py-1.5">
          <Icon name="back" className="size-4" />
          Back
        </button>
        <h1 className="truncate font-semibold">Both sides of one chat</h1>
        <a href={inspector} target="_blank" rel="noreferrer" className="ml-auto text-sm font-medium text-accent-deep underline underline-offset-4">
          Inspector
        </a>
      </header>
      <main className="grid min-h-0 flex-1 grid-rows-2 gap-px bg-line lg:grid-cols-2 lg:grid-rows-1">
        {sides.map(([name, address]) => (
          <section key={name} aria-label={name} className="flex min-h-0 flex-col bg-paper">
            <h2 className="flex items-center gap-2 border-b border-line bg-paper px-4 py-1.5 text-xs font-semibold tracking-wide text-faint uppercase">
              {name}
              <a href={address} target="_blank" rel="noreferrer" aria-label={`${name} in a tab of its own`} className="ml-auto">
                <Icon name="out" className="size-4" />
              </a>
            </h2>
            <iframe title={name} src={address} className="min-h-0 w-full flex-1 border-0" />
          </section>
        ))}
      </main>
    </div>
  )
}
