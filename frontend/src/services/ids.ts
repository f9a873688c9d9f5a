/** Ids that are chosen here. */

/** A random UUID, also on pages without https, where browsers have no `crypto.randomUUID`. */
export function uuid(): string {
  if (typeof crypto.randomUUID === 'function') return crypto.randomUUID()
  const bytes = crypto.getRandomValues(new Uint8Array(16))
  bytes[6] = (bytes[6]! & 0x0f) | 0x40
  bytes[8] = (bytes[8]! & 0x3f) | 0x80
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('')
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`
}

/**
 * The id under which the relay remembers where this tab stopped reading. It outlives a reload and no two tabs share it:
 * a duplicated tab finds the id of its original held by a lock, and takes a new one.
 */
export async function resumeId(purpose: string): Promise<string> {
  const key = `relay.resume.${purpose}`
  const kept = readSession(key)
  if (kept !== null && (await hold(`${key}.${kept}`))) return kept
  const fresh = uuid()
  await hold(`${key}.${fresh}`)
  try {
    sessionStorage.setItem(key, fresh)
  } catch {
    // Storage is forbidden here; the id lasts until the page is left.
  }
  return fresh
}

function readSession(key: string): string | null {
  try {
    return sessionStorage.getItem(key)
  } catch {
    return null
  }
}

/** Takes a lock until the page goes away; false when another tab has it. */
function hold(name: string): Promise<boolean> {
  if (!('locks' in navigator)) return Promise.resolve(true)
  return new Promise((resolve) => {
    navigator.locks
      .request(name, { ifAvailable: true }, (lock) => {
        resolve(lock !== null)
        return lock === null ? undefined : new Promise<void>(() => {})
      })
      .catch(() => resolve(true))
  })
}
