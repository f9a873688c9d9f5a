/**
 * The first page of a conversation while it comes over its channel: row by row, then the word that these were all. It is
 * given on as one, so that nobody sees it grow. What does not come whole, or not in time, has to be read another way.
 */

import type { ChatMessage } from './types.ts'

export class FirstPage {
  /** Once it is settled: all rows, oldest first, or null when it has to be read another way. */
  readonly rows: Promise<readonly ChatMessage[] | null>
  /** Whether it may still come. */
  isPending = true
  private taken: ChatMessage[] = []
  private resolve: (rows: readonly ChatMessage[] | null) => void = () => {}
  private timer: ReturnType<typeof setTimeout> | undefined

  constructor() {
    this.rows = new Promise((resolve) => (this.resolve = resolve))
  }

  add(row: ChatMessage): void {
    this.taken.push(row)
  }

  /** The server says that these were all; null when it counts others. */
  complete(count: number): readonly ChatMessage[] | null {
    const rows = count === this.taken.length ? this.taken : null
    this.settle(rows)
    return rows
  }

  /** It does not come, or nobody waits for it any more. */
  giveUp(): void {
    this.settle(null)
  }

  /** The channel is joined: now it comes within this time or not at all. */
  expectWithin(ms: number): void {
    clearTimeout(this.timer)
    this.timer = setTimeout(() => this.giveUp(), ms)
  }

  /** The channel fell: whoever joins again gets all rows again. */
  startOver(): void {
    clearTimeout(this.timer)
    this.taken = []
  }

  private settle(rows: readonly ChatMessage[] | null): void {
    clearTimeout(this.timer)
    this.isPending = false
    this.resolve(rows)
  }
}
