/** A small choice of emoji; arrow keys move, Escape closes. */

import { type KeyboardEvent, useEffect, useRef } from 'react'

const EMOJI: [string, string][] = [
  ['🙂', 'slightly smiling'], ['😀', 'grinning'], ['😄', 'laughing eyes'], ['😂', 'tears of joy'], ['😊', 'blushing'], ['😉', 'winking'],
  ['😍', 'heart eyes'], ['🤔', 'thinking'], ['😅', 'relieved sweat'], ['😢', 'crying'], ['😮', 'surprised'], ['😡', 'angry'],
  ['👍', 'thumbs up'], ['👎', 'thumbs down'], ['👋', 'waving hand'], ['🙏', 'thank you'], ['👏', 'clapping'], ['💪', 'strong'],
  ['❤️', 'red heart'], ['🎉', 'party'], ['✨', 'sparkles'], ['🔥', 'fire'], ['✅', 'check mark'], ['❌', 'cross mark'],
  ['📦', 'parcel'], ['🚚', 'delivery van'], ['💳', 'card'], ['🧾', 'receipt'], ['📷', 'camera'], ['📎', 'paper clip'],
]
const COLUMNS = 6

export function EmojiPicker({ onPick, onClose }: { onPick: (emoji: string) => void; onClose: () => void }) {
  const grid = useRef<HTMLDivElement>(null)

  useEffect(() => {
    grid.current?.querySelector('button')?.focus()
  }, [])

  const keyed = (event: KeyboardEvent): void => {
    if (event.key === 'Escape') {
      event.stopPropagation()
      onClose()
      return
    }
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: COLUMNS, ArrowUp: -COLUMNS }[event.key]
    if (step === undefined) return
    event.preventDefault()
    const buttons = [...(grid.current?.querySelectorAll('button') ?? [])]
    const here = buttons.indexOf(document.activeElement as HTMLButtonElement)
    buttons[(here + step + buttons.length) % buttons.length]?.focus()
  }

  return (
    <div
      ref={grid}
      role="group"
      aria-label="Choose an emoji"
      onKeyDown={keyed}
      className="arrive absolute bottom-full left-3 z-10 mb-2 grid grid-cols-6 gap-0.5 rounded-2xl border border-line bg-card p-2 shadow-lift"
    >
      {EMOJI.map(([emoji, name]) => (
        <button
          key={emoji}
          type="button"
          aria-label={name}
          onClick={() => onPick(emoji)}
          className="grid size-10 place-items-center rounded-lg font-emoji text-xl hover:bg-paper"
        >
          {emoji}
        </button>
      ))}
    </div>
  )
}
