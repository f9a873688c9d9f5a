/** What a front-end developer opens first: what the server sends for a table, as it comes, and how late. */

import { useEffect, useMemo, useState } from 'react'

import { Channels } from '../inspector/Channels.tsx'
import { ConnectForm } from '../inspector/ConnectForm.tsx'
import { Figures } from '../inspector/Figures.tsx'
import { Inspection, type InspectionView, percentile } from '../inspector/Inspection.ts'
import { LagPlot } from '../inspector/LagPlot.tsx'
import { RowTable } from '../inspector/RowTable.tsx'
import { useTitle } from '../ui/hooks.ts'
import { Icon } from '../ui/Icon.tsx'

export function InspectorPage() {
  useTitle('Inspector')
  const [, redraw] = useState(0)
  const inspection = useMemo(() => new Inspection(() => redraw((count) => count + 1)), [])
  const [url, setUrl] = useState(location.origin)
  const [isPaused, setIsPaused] = useState(false)
  useEffect(() => () => void inspection.stop(), [inspection])
  const view = inspection.view()
  const isConnected = view.state !== 'idle'

  return (
    <div className="mx-auto max-w-[90rem] p-4 sm:p-6">
      <header className="flex flex-wrap items-center gap-3">
        <a href="/" className="grid size-10 place-items-center rounded-xl bg-accent text-white" aria-label="To the start page">
          <Icon name="relay" />
        </a>
        <div>
          <h1 className="text-xl leading-tight font-semibold tracking-tight">Inspector</h1>
          <p role="status" className="flex items-center gap-1.5 text-sm text-soft" data-testid="inspector-state">
            <Light state={view.state} /> {view.words}
          </p>
        </div>
      </header>
      <div className="mt-5 grid grid-cols-[minmax(0,1fr)] items-start gap-5 lg:grid-cols-[22rem_minmax(0,1fr)]">
        <div className="grid grid-cols-[minmax(0,1fr)] gap-5">
          <ConnectForm
            isConnected={isConnected}
            onStart={(wish) => {
              setUrl(wish.url)
              inspection.start(wish)
            }}
            onStop={() => void inspection.stop()}
          />
          <Channels channels={view.channels} isConnected={isConnected} onWatch={(topic) => inspection.watch(topic)} />
          <Figures url={url} />
        </div>
        <div className="grid min-w-0 grid-cols-[minmax(0,1fr)] gap-5">
          {view.notices.map((words, index) => (
            <p key={index} role="alert" className="flex gap-2 rounded-2xl bg-amber-mist px-4 py-3 text-sm text-amber-ink">
              <Icon name="alert" className="size-5 shrink-0" /> {words}
            </p>
          ))}
          <section className="rounded-2xl border border-line bg-card p-5" aria-label="Lag and rate">
            <Summary view={view} />
            <LagPlot recent={view.recent} isLive={isConnected} />
          </section>
          <section className="overflow-hidden rounded-2xl border border-line bg-card" aria-label="Changes">
            <div className="flex items-center gap-2 border-b border-line px-5 py-3">
              <h2 className="flex-1 font-semibold">
                Changes <span className="text-sm font-normal text-faint">the newest {view.rows.length} of {view.total}</span>
              </h2>
              <button
                type="button"
                className="button-quiet py-1.5"
                aria-pressed={isPaused}
                onClick={() => {
                  inspection.pause(!isPaused)
                  setIsPaused(!isPaused)
                }}
              >
                {isPaused ? 'Go on' : 'Pause'}
              </button>
              <button type="button" className="button-quiet py-1.5" onClick={() => inspection.clear()}>
                Clear
              </button>
            </div>
            <RowTable rows={view.rows} />
          </section>
        </div>
      </div>
    </div>
  )
}

function Light({ state }: { state: InspectionView['state'] }) {
  const colour = { idle: 'bg-faint/50', joining: 'bg-amber-500', receiving: 'bg-emerald-600', lost: 'bg-rose-600' }[state]
  return <span className={`size-2 shrink-0 rounded-full ${colour}`} />
}

function Summary({ view: { recent, total } }: { view: InspectionView }) {
  const last = recent.at(-1)
  const show = (lag: number | null | undefined): string => (lag == null ? '–' : `${lag} ms`)
  const lately = recent.filter(({ receivedAt }) => Date.now() - receivedAt < 5000).length / 5
  const figures: [string, string][] = [
    ['last lag', show(last?.lagMs)],
    ['p50', show(percentile(recent, 0.5))],
    ['p95', show(percentile(recent, 0.95))],
    ['changes/s', lately.toFixed(1)],
    ['in all', total.toLocaleString()],
  ]
  return (
    <dl className="mb-4 flex flex-wrap gap-x-10 gap-y-3">
      {figures.map(([name, value]) => (
        <div key={name}>
          <dt className="text-xs text-faint">{name}</dt>
          <dd className="text-2xl font-semibold tracking-tight tabular-nums">{value}</dd>
        </div>
      ))}
    </dl>
  )
}
