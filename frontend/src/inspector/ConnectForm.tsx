/** Which relay, as whom, which table. */

import { type FormEvent, useState } from 'react'

import { demoToken } from '../services/connect.ts'
import { uuid } from '../services/ids.ts'
import { claimsOf } from '../services/TokenKeeper.ts'
import type { Wish } from './Inspection.ts'

interface Props {
  isConnected: boolean
  onStart: (wish: Wish) => void
  onStop: () => void
}

const TABLES = ['chat_messages', 'live_chat_sessions', 'support_agents', '*']

export function ConnectForm({ isConnected, onStart, onStop }: Props) {
  const hash = new URLSearchParams(location.hash.slice(1))
  const [url, setUrl] = useState(location.origin)
  const [token, setToken] = useState(hash.get('token') ?? '')
  const [code, setCode] = useState(hash.get('code') ?? '')
  const [table, setTable] = useState('chat_messages')
  const [event, setEvent] = useState<Wish['event']>('*')
  const [filter, setFilter] = useState('')
  const [problem, setProblem] = useState<string | null>(null)

  const submit = async (submitted: FormEvent): Promise<void> => {
    submitted.preventDefault()
    setProblem(null)
    try {
      const given =
        token.trim() !== '' ? token.trim() : (await demoToken(url, { role: 'agent', code, name: 'Inspector', session: uuid() })).token
      setToken(given)
      const [schema, name] = table.includes('.') ? table.split('.', 2) : ['public', table]
      onStart({ url, token: given, schema: schema ?? 'public', table: name ?? table, event, filter: filter.trim() })
    } catch (error) {
      setProblem(error instanceof Error ? error.message : String(error))
    }
  }

  const claims = token === '' ? null : claimsOf(token)
  return (
    <form onSubmit={(event) => void submit(event)} className="rounded-2xl border border-line bg-card p-5">
      <h2 className="font-semibold">Connect</h2>
      <label className="label mt-3" htmlFor="url">
        Relay
      </label>
      <input id="url" className="field font-mono text-sm" value={url} onChange={(event) => setUrl(event.target.value)} />
      <label className="label mt-3" htmlFor="token">
        Token
      </label>
      <textarea
        id="token"
        rows={3}
        spellCheck={false}
        className="field resize-none font-mono text-xs break-all"
        placeholder="a JWT with role and exp, such as relay token mint makes"
        value={token}
        onChange={(event) => setToken(event.target.value)}
      />
      {claims?.role !== undefined && (
        <p className="mt-1 text-xs text-soft">
          {claims.role}
          {claims.sub !== undefined && <> · {claims.sub}</>}
          {claims.exp !== undefined && <> · until {new Date(claims.exp * 1000).toLocaleTimeString()}</>}
        </p>
      )}
      {token.trim() === '' && (
        <>
          <label className="label mt-3" htmlFor="inspector-code">
            … or the demo’s access code
          </label>
          <input id="inspector-code" className="field" type="password" value={code} onChange={(event) => setCode(event.target.value)} />
        </>
      )}
      <div className="mt-3 grid grid-cols-[1fr_6.5rem] gap-3">
        <div>
          <label className="label" htmlFor="table">
            Table
          </label>
          <input id="table" list="tables" className="field font-mono text-sm" value={table} onChange={(event) => setTable(event.target.value)} />
          <datalist id="tables">
            {TABLES.map((name) => (
              <option key={name} value={name} />
            ))}
          </datalist>
        </div>
        <div>
          <label className="label" htmlFor="event">
            Event
          </label>
          <select id="event" className="field text-sm" value={event} onChange={(chosen) => setEvent(chosen.target.value as Wish['event'])}>
            {['*', 'INSERT', 'UPDATE', 'DELETE'].map((name) => (
              <option key={name}>{name}</option>
            ))}
          </select>
        </div>
      </div>
      <label className="label mt-3" htmlFor="filter">
        Filter <span className="font-normal text-faint">(optional)</span>
      </label>
      <input id="filter" className="field font-mono text-sm" placeholder="sender_type=eq.agent" value={filter} onChange={(event) => setFilter(event.target.value)} />
      {problem !== null && (
        <p role="alert" className="mt-3 rounded-xl bg-rose-mist px-3 py-2 text-sm text-rose-ink">
          {problem}
        </p>
      )}
      <div className="mt-4 flex gap-2">
        <button type="submit" className="button-main flex-1">
          {isConnected ? 'Connect again' : 'Connect'}
        </button>
        {isConnected && (
          <button type="button" className="button-quiet" onClick={onStop}>
            Disconnect
          </button>
        )}
      </div>
    </form>
  )
}
