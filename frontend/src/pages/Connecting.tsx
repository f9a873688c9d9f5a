/** Makes a service while it is shown, and tries until there is one. */

import { type ReactNode, useEffect, useState } from 'react'

import { type Connected, type Credentials, WrongCode, connect } from '../services/connect.ts'
import type { Role } from '../services/types.ts'

export interface Connection {
  connected: Connected | null
  problem: string | null
}

const RETRY_MS = 1500

export function useConnection(role: Role, credentials: Credentials | null, onWrong?: (words: string) => void): Connection {
  const [connection, setConnection] = useState<Connection>({ connected: null, problem: null })
  useEffect(() => {
    if (credentials === null) return undefined
    let ended = false
    let made: Connected | null = null
    let timer: ReturnType<typeof setTimeout> | undefined
    const attempt = async (): Promise<void> => {
      try {
        made = await connect(role, credentials)
        if (ended) await made.service.dispose()
        else setConnection({ connected: made, problem: null })
      } catch (error) {
        const words = error instanceof Error ? error.message : String(error)
        if (ended) return
        if (error instanceof WrongCode) {
          onWrong?.(words)
          return
        }
        setConnection({ connected: null, problem: words })
        timer = setTimeout(() => void attempt(), RETRY_MS)
      }
    }
    void attempt()
    return () => {
      ended = true
      clearTimeout(timer)
      setConnection({ connected: null, problem: null })
      void made?.service.dispose()
    }
  }, [role, credentials, onWrong])
  return connection
}

export function Unreachable({ children }: { children: ReactNode }) {
  return (
    <p role="status" className="fixed right-5 bottom-5 max-w-xs rounded-2xl border border-line bg-card px-4 py-3 text-sm text-soft shadow-lift">
      {children}
    </p>
  )
}
