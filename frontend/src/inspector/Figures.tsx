/** A few figures of the relay itself, from its /metrics, where they are served on the same address (`http.admin_listen`). */

import { useEffect, useState } from 'react'

const SHOWN: [string, string][] = [
  ['relay_connections', 'sockets'],
  ['relay_channels', 'channels'],
  ['relay_presences', 'present'],
  ['relay_changes_total', 'changes read'],
  ['relay_deliveries_total', 'deliveries'],
  ['relay_source_lag_bytes', 'bytes behind'],
]
const EVERY_MS = 2000

export function Figures({ url }: { url: string }) {
  const [figures, setFigures] = useState<ReadonlyMap<string, number> | null>(null)
  useEffect(() => {
    let ended = false
    const look = async (): Promise<void> => {
      const answer = await fetch(`${url}/metrics`, { cache: 'no-store' }).catch(() => null)
      // They are elsewhere, and asking again does not bring them.
      if (answer?.status === 404) clearInterval(timer)
      const text = answer?.ok === true ? await answer.text().catch(() => '') : ''
      if (!ended) setFigures(text === '' ? null : sums(text))
    }
    const timer = setInterval(() => void look(), EVERY_MS)
    void look()
    return () => {
      ended = true
      clearInterval(timer)
    }
  }, [url])
  if (figures === null) return null
  return (
    <section className="rounded-2xl border border-line bg-card p-5" aria-label="The relay">
      <h2 className="font-semibold">The relay</h2>
      <dl className="mt-2 grid grid-cols-2 gap-x-4 gap-y-2 text-sm">
        {SHOWN.map(([name, words]) => (
          <div key={name} className="flex justify-between gap-2">
            <dt className="text-soft">{words}</dt>
            <dd className="font-mono text-xs leading-5 tabular-nums">{(figures.get(name) ?? 0).toLocaleString()}</dd>
          </div>
        ))}
      </dl>
    </section>
  )
}

/** Every metric, its labels added up. */
function sums(text: string): ReadonlyMap<string, number> {
  const found = new Map<string, number>()
  for (const line of text.split('\n')) {
    const [, name, value] = /^([a-z_]+)(?:\{[^}]*\})? (\S+)/.exec(line) ?? []
    if (name !== undefined) found.set(name, (found.get(name) ?? 0) + Number(value))
  }
  return found
}
