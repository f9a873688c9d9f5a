/** A WebSocket that can be dropped at once, without waiting for a peer that may be gone. */

export interface SupportedSocket {
  drop(): void
}

/** The browser's WebSocket for the SDK, and the ones of it that are open. */
export function droppable(tap?: (data: unknown) => void): { transport: typeof WebSocket; open: Set<SupportedSocket> } {
  const open = new Set<SupportedSocket>()

  class DroppableSocket extends WebSocket implements SupportedSocket {
    constructor(address: string | URL, protocols?: string | string[]) {
      super(address, protocols)
      open.add(this)
      this.addEventListener('close', () => open.delete(this))
      if (tap !== undefined) this.addEventListener('message', ({ data }) => tap(data))
    }

    drop(): void {
      const told = this.onclose
      this.onclose = null
      this.onmessage = null
      this.onerror = null
      open.delete(this)
      this.close()
      // The browser would wait for the peer's answer first.
      told?.call(this, new CloseEvent('close', { code: 1006, reason: 'the network is gone' }))
    }
  }

  return { transport: DroppableSocket, open }
}
