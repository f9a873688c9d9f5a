/** The agents' dashboard: sign in with the access code, then every chat on one screen. */

import { type FormEvent, useCallback, useState } from 'react'

import { Dashboard } from '../components/Dashboard.tsx'
import { type Credentials, isSupabase } from '../services/connect.ts'
import { useTitle } from '../ui/hooks.ts'
import { Icon } from '../ui/Icon.tsx'
import { useConnection } from './Connecting.tsx'

const KEY = 'relay.agent'

export function AgentPage() {
  const [credentials, setCredentials] = useState<Credentials | null>(kept)
  const [wrong, setWrong] = useState<string | null>(null)
  const refuse = useCallback((words: string) => {
    keep(null)
    setCredentials(null)
    setWrong(words)
  }, [])
  const { connected, problem } = useConnection('agent', credentials, refuse)

  if (connected !== null) {
    return (
      <Dashboard
        service={connected.service}
        user={connected.user}
        name={credentials?.name ?? 'Agent'}
        onLeave={() => {
          void connected.signOut()
          keep(null)
          setCredentials(null)
        }}
      />
    )
  }
  return (
    <SignIn
      problem={wrong ?? problem}
      busy={credentials !== null && problem === null}
      onSignIn={(next) => {
        setWrong(null)
        keep(next)
        setCredentials(next)
      }}
    />
  )
}

interface SignInProps {
  problem: string | null
  busy: boolean
  onSignIn: (credentials: Credentials) => void
}

function SignIn({ problem, busy, onSignIn }: SignInProps) {
  useTitle('Agent dashboard')
  const [code, setCode] = useState('')
  const [name, setName] = useState('Ann')
  const [email, setEmail] = useState('')
  const submit = (event: FormEvent): void => {
    event.preventDefault()
    onSignIn({ code: code.trim(), name: name.trim() || 'Agent', ...(isSupabase ? { email } : {}) })
  }
  return (
    <main className="grid min-h-dvh place-items-center p-5">
      <form onSubmit={submit} className="w-full max-w-sm rounded-3xl border border-line bg-card p-7 shadow-lift">
        <span className="grid size-11 place-items-center rounded-2xl bg-accent text-white">
          <Icon name="chat" className="size-6" />
        </span>
        <h1 className="mt-4 text-2xl font-semibold tracking-tight">Agent dashboard</h1>
        <p className="mt-1 text-sm text-soft">
          {isSupabase ? 'Sign in with your address and password.' : <>Sign in with the access code that <code>relay demo</code> printed.</>}
        </p>
        {isSupabase && (
          <>
            <label className="label mt-5" htmlFor="email">
              Email
            </label>
            <input id="email" className="field" type="email" required value={email} onChange={(event) => setEmail(event.target.value)} />
          </>
        )}
        <label className="label mt-5" htmlFor="code">
          {isSupabase ? 'Password' : 'Access code'}
        </label>
        <input
          id="code"
          className="field"
          type="password"
          autoComplete="current-password"
          required
          autoFocus
          value={code}
          onChange={(event) => setCode(event.target.value)}
          aria-describedby={problem === null ? undefined : 'sign-in-problem'}
        />
        <label className="label mt-4" htmlFor="name">
          Your name, as visitors see it
        </label>
        <input id="name" className="field" required maxLength={200} value={name} onChange={(event) => setName(event.target.value)} />
        {problem !== null && (
          <p id="sign-in-problem" role="alert" className="mt-4 rounded-xl bg-rose-mist px-3.5 py-2.5 text-sm text-rose-ink">
            {problem}
          </p>
        )}
        <button type="submit" className="button-main mt-5 w-full py-3" disabled={busy}>
          {busy ? 'Signing in …' : 'Sign in'}
        </button>
      </form>
    </main>
  )
}

/** What the landing page passed on in the address, or an earlier sign-in of this tab. */
function kept(): Credentials | null {
  const code = new URLSearchParams(location.hash.slice(1)).get('code')
  if (code !== null) {
    history.replaceState(null, '', location.pathname)
    const credentials = { code, name: 'Ann' }
    keep(credentials)
    return credentials
  }
  try {
    return JSON.parse(sessionStorage.getItem(KEY) ?? 'null') as Credentials | null
  } catch {
    return null
  }
}

function keep(credentials: Credentials | null): void {
  try {
    if (credentials === null) sessionStorage.removeItem(KEY)
    // A password is not kept: the SDK keeps the session.
    else sessionStorage.setItem(KEY, JSON.stringify(credentials, isSupabase ? ['name'] : ['code', 'name']))
  } catch {
    // Storage is forbidden here: the next visit asks again.
  }
}
