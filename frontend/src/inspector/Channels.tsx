/** The channels this page has joined, and who is present in them. */

import { type FormEvent, useState } from 'react'

import type { Watched } from './Inspection.ts'

export function Channels({ channels, isConnected, onWatch }: { channels: readonly Watched[]; isConnected: boolean; onWatch: (topic: string) => void }) {
  const [topic, setTopic] = useState('support-lobby')
  const submit = (event: FormEvent): void => {
    event.preventDefault()
    onWatch(topic.trim())
  }
  return (
    <section className="rounded-2xl border border-line bg-card p-5" aria-label="Channels and presence">
      <h2 className="font-semibold">Channels and presence</h2>
      {channels.length === 0 && <p className="mt-2 text-sm text-faint">None joined.</p>}
      <ul className="mt-2 space-y-2.5">
        {channels.map(({ topic, isJoined, problem, members }) => (
          <li key={topic} className="text-sm">
            <p className="flex items-center gap-2">
              <span className={`size-2 shrink-0 rounded-full ${isJoined ? 'bg-emerald-600' : 'bg-amber-500'}`} />
              <span className="truncate font-mono text-xs">{topic}</span>
              <span className="ml-auto shrink-0 text-xs text-faint">{isJoined ? 'joined' : (problem ?? 'joining')}</span>
            </p>
            {members.map(({ key, meta }, index) => (
              <p key={`${key}-${index}`} className="mt-1 ml-4 truncate font-mono text-[0.6875rem] text-soft" title={`${key} ${JSON.stringify(meta)}`}>
                {key} {JSON.stringify(meta)}
              </p>
            ))}
          </li>
        ))}
      </ul>
      <form onSubmit={submit} className="mt-4 flex gap-2">
        <input aria-label="Topic" className="field font-mono text-sm" value={topic} onChange={(event) => setTopic(event.target.value)} />
        <button type="submit" className="button-quiet" disabled={!isConnected}>
          Look
        </button>
      </form>
    </section>
  )
}
