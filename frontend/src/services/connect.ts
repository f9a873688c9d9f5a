/**
 * Puts a service together: who one is, where the server is, and which REST is behind it.
 *
 * With `VITE_SUPABASE_URL` and `VITE_SUPABASE_ANON_KEY` at build time the same pages talk to a Supabase project, where a
 * visitor signs in anonymously and an agent by email and password. Otherwise they talk to the relay that serves them.
 */

import { createClient, isAuthRetryableFetchError } from '@supabase/supabase-js'

import { uuid } from './ids.ts'
import { Link } from './Link.ts'
import { RealtimeChatService } from './RealtimeChatService.ts'
import { RelayBackend } from './RelayBackend.ts'
import { SupabaseBackend } from './SupabaseBackend.ts'
import { type Grant, TokenKeeper, claimsOf } from './TokenKeeper.ts'
import type { Role } from './types.ts'

export interface Credentials {
  /** The agents' access code; on Supabase, the password. */
  code?: string
  /** On Supabase, the agent's address. */
  email?: string
  name?: string
}

export interface Connected {
  service: RealtimeChatService
  /** The `sub` of the token. */
  user: string
  /** Forgets who this is, where that is remembered beyond this tab. */
  signOut: () => Promise<void>
}

/** An answer of the token endpoint. */
export interface DemoGrant extends Grant {
  anon_key: string
}

const SUPABASE_URL = import.meta.env['VITE_SUPABASE_URL'] as string | undefined
const SUPABASE_KEY = import.meta.env['VITE_SUPABASE_ANON_KEY'] as string | undefined

export const isSupabase = SUPABASE_URL !== undefined && SUPABASE_KEY !== undefined

export function connect(role: Role, credentials: Credentials = {}): Promise<Connected> {
  if (SUPABASE_URL !== undefined && SUPABASE_KEY !== undefined) {
    return connectSupabase(SUPABASE_URL, SUPABASE_KEY, role, credentials)
  }
  return connectRelay(location.origin, role, credentials)
}

/** A chat on the relay at `url`. */
export async function connectRelay(url: string, role: Role, { code, name }: Credentials): Promise<Connected> {
  const session = browserUser(role)
  const first = await demoToken(url, { role, code, name, session })
  let grant: DemoGrant | null = first
  let link: Link | null = null
  const keeper = new TokenKeeper(
    () => {
      const ready = grant
      grant = null
      return ready === null ? demoToken(url, { role, code, name, session }) : Promise.resolve(ready)
    },
    () => link?.useToken(),
  )
  const token = (fresh?: boolean): Promise<string> => keeper.current(fresh)
  const user = claimsOf(first.token).sub ?? session
  link = new Link({ url, anonKey: first.anon_key, token, resume: uuid(), sendsSnapshots: true })
  const backend = new RelayBackend(url, token)
  const service = new RealtimeChatService({ link, backend, role, user, name: name ?? null, stop: () => keeper.stop() })
  return { service, user, signOut: () => Promise.resolve() }
}

/** The same chat on a Supabase project, over its own REST. */
export async function connectSupabase(
  url: string,
  key: string,
  role: Role,
  { email, code, name }: Credentials,
): Promise<Connected> {
  const signed = createClient(url, key, { auth: { storageKey: `chat-${role}` } })
  const { data } = await signed.auth.getSession()
  if (role === 'agent' && code !== undefined) {
    // Whoever signs in is asked, whoever was here before.
    const { error } = await signed.auth.signInWithPassword({ email: email ?? '', password: code })
    if (error !== null) throw isAuthRetryableFetchError(error) ? error : new WrongCode(error.message)
  } else if (data.session === null) {
    if (role === 'agent') throw new WrongCode('Please sign in.')
    const { error } = await signed.auth.signInAnonymously()
    if (error !== null) throw error
  }
  const token = async (): Promise<string> => {
    const { data, error } = await signed.auth.getSession()
    if (error !== null || data.session === null) throw error ?? new Error('signed out')
    return data.session.access_token
  }
  const user = claimsOf(await token()).sub ?? ''
  const link = new Link({ url, anonKey: key, token, resume: uuid(), probe: `${url}/rest/v1/` })
  const { data: watch } = signed.auth.onAuthStateChange(() => link.useToken())
  const stop = (): void => watch.subscription.unsubscribe()
  const backend = new SupabaseBackend(link.client, role, () => Promise.resolve(user))
  const service = new RealtimeChatService({ link, backend, role, user, name: name ?? null, stop })
  return { service, user, signOut: async () => void (await signed.auth.signOut({ scope: 'local' })) }
}

interface TokenRequest {
  role: Role
  session: string
  code?: string | undefined
  name?: string | undefined
}

/** Asks a demo relay for a token. */
export async function demoToken(url: string, request: TokenRequest): Promise<DemoGrant> {
  const response = await fetch(`${url}/demo/token`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(request),
  })
  if (response.status === 401 || response.status === 403) throw new WrongCode('This access code is not right.')
  if (response.status === 404) throw new Error('This relay gives out no demo tokens: start it with `relay demo`.')
  if (!response.ok) throw new Error(`The relay answered ${response.status}.`)
  return (await response.json()) as DemoGrant
}

/** The access code was refused; asking again with the same one will not help. */
export class WrongCode extends Error {}

/** Who this browser is, on every visit and in every tab. */
function browserUser(role: Role): string {
  const key = `relay.user.${role}`
  try {
    const kept = localStorage.getItem(key)
    if (kept !== null) return kept
    const fresh = uuid()
    localStorage.setItem(key, fresh)
    return fresh
  } catch {
    return uuid()
  }
}
