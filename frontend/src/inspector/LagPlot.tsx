/** The last minute: each change a dot by its lag, each second a bar by its number of changes. */

import { useEffect, useState } from 'react'

import { type Arrival, WINDOW_MS } from './Inspection.ts'

const WIDTH = 720
const HEIGHT = 168
const LEFT = 44
const BOTTOM = 22
const DOTS = 600

export function LagPlot({ recent, isLive }: { recent: readonly Arrival[]; isLive: boolean }) {
  const now = useNow(isLive)
  const shown = recent.filter(({ receivedAt }) => now - receivedAt < WINDOW_MS)
  const step = Math.max(1, Math.ceil(shown.length / DOTS))
  const seconds = new Array<number>(60).fill(0)
  for (const { receivedAt } of shown) {
    const second = 59 - Math.floor((now - receivedAt) / 1000)
    if (second >= 0 && second < 60) seconds[second] = (seconds[second] ?? 0) + 1
  }
  const most = Math.max(1, ...seconds)
  const top = nice(Math.max(5, ...shown.map(({ lagMs }) => lagMs)))
  const plot = { width: WIDTH - LEFT - 36, height: HEIGHT - BOTTOM - 12 }
  const x = (at: number): number => LEFT + plot.width * (1 - (now - at) / WINDOW_MS)
  const y = (lag: number): number => 12 + plot.height * (1 - Math.max(0, Math.min(lag, top)) / top)
  const bar = plot.width / 60

  return (
    <figure>
      <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} className="w-full" role="img" aria-label={`Lag and rate of the last minute: ${shown.length} changes, at most ${most} in a second`}>
        {[0, 0.5, 1].map((share) => (
          <g key={share}>
            <line x1={LEFT} x2={LEFT + plot.width} y1={y(top * share)} y2={y(top * share)} className="stroke-line" />
            <text x={LEFT - 6} y={y(top * share) + 3.5} textAnchor="end" className="fill-faint text-[10px]">
              {top * share} ms
            </text>
          </g>
        ))}
        {seconds.map((number, second) => (
          <rect
            key={second}
            x={LEFT + bar * second + 1}
            width={bar - 2}
            y={12 + plot.height * (1 - number / most)}
            height={plot.height * (number / most)}
            rx={2}
            className="fill-accent/12"
          />
        ))}
        <text x={LEFT + plot.width + 5} y={15.5} className="fill-faint text-[10px]">
          {most}/s
        </text>
        {shown
          .filter((_, index) => index % step === 0)
          .map(({ n, receivedAt, lagMs }) => (
            <circle key={n} cx={x(receivedAt)} cy={y(lagMs)} r={2.6} className="fill-accent/70" />
          ))}
        {[60, 30, 0].map((ago) => (
          <text key={ago} x={LEFT + plot.width * (1 - ago / 60)} y={HEIGHT - 6} textAnchor={ago === 0 ? 'end' : ago === 60 ? 'start' : 'middle'} className="fill-faint text-[10px]">
            {ago === 0 ? 'now' : `${ago} s ago`}
          </text>
        ))}
      </svg>
      <figcaption className="mt-1 flex flex-wrap gap-x-4 gap-y-1 text-xs text-faint">
        <span className="flex items-center gap-1.5">
          <span className="size-2 rounded-full bg-accent/70" /> a change, by its lag
        </span>
        <span className="flex items-center gap-1.5">
          <span className="h-2.5 w-2 rounded-sm bg-accent/15" /> changes in a second
        </span>
        <span>Lag is this clock minus the commit time: on two machines it contains the difference of their clocks.</span>
      </figcaption>
    </figure>
  )
}

/** The next of 1, 2, 5, 10, 20 … */
function nice(value: number): number {
  const power = 10 ** Math.floor(Math.log10(value))
  return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= value) ?? value
}

function useNow(isLive: boolean): number {
  const [now, setNow] = useState(() => Date.now())
  useEffect(() => {
    if (!isLive) return undefined
    const timer = setInterval(() => setNow(Date.now()), 250)
    return () => clearInterval(timer)
  }, [isLive])
  return Math.max(now, Date.now() - 250)
}
