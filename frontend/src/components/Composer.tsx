/** Where one writes: Enter sends, Shift+Enter starts a line, the emoji are a button away. */

import { type KeyboardEvent, type RefObject, useEffect, useRef, useState } from 'react'

import { Icon } from '../ui/Icon.tsx'
import { EmojiPicker } from './EmojiPicker.tsx'

interface Props {
  label: string
  placeholder: string
  onSend: (text: string) => void
  onTyping: () => void
  field?: RefObject<HTMLTextAreaElement>
}

/** As many characters as the table takes. */
export const LONGEST = 10_000

export function Composer({ label, placeholder, onSend, onTyping, field }: Props) {
  const [text, setText] = useState('')
  const [picks, setPicks] = useState(false)
  const own = useRef<HTMLTextAreaElement>(null)
  const input = field ?? own

  useEffect(() => {
    const element = input.current
    if (element === null) return
    element.style.height = 'auto'
    element.style.height = `${Math.min(element.scrollHeight, 144)}px`
  }, [text, input])

  const send = (): void => {
    if (text.trim() === '') return
    onSend(text)
    setText('')
    setPicks(false)
    input.current?.focus()
  }

  const keyed = (event: KeyboardEvent): void => {
    // While an input method composes, Enter belongs to it.
    if (event.key !== 'Enter' || event.shiftKey || event.nativeEvent.isComposing) return
    event.preventDefault()
    send()
  }

  const insert = (emoji: string): void => {
    const element = input.current
    const at = element?.selectionStart ?? text.length
    setText(text.slice(0, at) + emoji + text.slice(element?.selectionEnd ?? at))
    requestAnimationFrame(() => {
      element?.focus()
      element?.setSelectionRange(at + emoji.length, at + emoji.length)
    })
  }

  return (
    <form
      className="relative border-t border-line bg-card px-3 pt-2.5 pb-[max(0.625rem,env(safe-area-inset-bottom))]"
      onSubmit={(event) => {
        event.preventDefault()
        send()
      }}
    >
      {picks && <EmojiPicker onPick={insert} onClose={() => setPicks(false)} />}
      <div className="flex items-end gap-1.5 rounded-2xl border border-line bg-paper p-1.5 focus-within:border-accent">
        <button
          type="button"
          aria-label="Emoji"
          aria-expanded={picks}
          onClick={() => setPicks(!picks)}
          className="grid size-9 shrink-0 place-items-center rounded-xl text-soft hover:bg-line/60"
        >
          <Icon name="smile" />
        </button>
        <textarea
          ref={input}
          rows={1}
          value={text}
          maxLength={LONGEST}
          aria-label={label}
          placeholder={placeholder}
          onChange={(event) => {
            setText(event.target.value)
            if (event.target.value !== '') onTyping()
          }}
          onKeyDown={keyed}
          className="min-h-9 w-full resize-none bg-transparent px-1 py-[0.4375rem] text-base leading-[1.375rem] outline-none placeholder:text-faint sm:text-[0.9375rem]"
        />
        <button
          type="submit"
          aria-label="Send"
          disabled={text.trim() === ''}
          className="grid size-9 shrink-0 place-items-center rounded-xl bg-accent text-white transition-opacity hover:bg-accent-deep disabled:opacity-40"
        >
          <Icon name="send" />
        </button>
      </div>
    </form>
  )
}
