/** The changes as they come, newest on top; one opens to its whole row. */

import { Fragment, useState } from 'react'

import type { Arrival } from './Inspection.ts'

const COLOURS: Record<string, string> = {
  INSERT: 'bg-accent-mist text-accent-deep',
  UPDATE: 'bg-amber-mist text-amber-ink',
  DELETE: 'bg-rose-mist text-rose-ink',
}

export function RowTable({ rows }: { rows: readonly Arrival[] }) {
  const [open, setOpen] = useState<number | null>(null)
  if (rows.length === 0) {
    return <p className="px-5 py-10 text-center text-sm text-faint">No change yet. Write to the table and it appears here.</p>
  }
  return (
    <div className="overflow-x-auto">
      <table className="w-full min-w-[44rem] table-fixed text-left text-[0.8125rem]">
        <thead className="text-xs text-faint">
          <tr className="border-b border-line [&>th]:px-3 [&>th]:py-2 [&>th]:font-medium">
            <th className="w-20">Event</th>
            <th className="w-44">Id</th>
            <th className="w-32">Committed</th>
            <th className="w-20 text-right">Lag</th>
            <th>Row</th>
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <Fragment key={row.n}>
              <tr
                data-arrival={row.n}
                className="cursor-pointer border-b border-line/70 hover:bg-paper [&>td]:px-3 [&>td]:py-1.5"
                onClick={() => setOpen(open === row.n ? null : row.n)}
              >
                <td>
                  <span className={`rounded-md px-1.5 py-0.5 text-[0.6875rem] font-semibold ${COLOURS[row.type] ?? 'bg-paper'}`}>{row.type}</span>
                </td>
                <td className="truncate font-mono text-xs" title={row.id}>
                  {place(row.id)}
                </td>
                <td className="font-mono text-xs tabular-nums" title={row.committedAt}>
                  {row.committedAt.slice(11, 23)}
                </td>
                <td className="text-right font-mono text-xs tabular-nums">{row.lagMs} ms</td>
                <td className="truncate font-mono text-xs text-soft">
                  <button type="button" aria-expanded={open === row.n} aria-label={`${row.type} ${row.id}: show the row`} className="max-w-full truncate text-left">
                    {row.table} {JSON.stringify(row.record ?? row.old)}
                  </button>
                </td>
              </tr>
              {open === row.n && (
                <tr className="border-b border-line bg-paper">
                  <td colSpan={5} className="p-3">
                    <pre className="overflow-x-auto font-mono text-xs leading-relaxed">
                      {JSON.stringify({ record: row.record, old_record: row.old, ...(row.errors === null ? {} : { errors: row.errors }) }, null, 2)}
                    </pre>
                  </td>
                </tr>
              )}
            </Fragment>
          ))}
        </tbody>
      </table>
    </div>
  )
}

/** The place in the log, without the epoch that all have in common. */
function place(id: string): string {
  const [, ...rest] = id.split(':')
  return rest.length === 0 ? id : rest.join(':')
}
