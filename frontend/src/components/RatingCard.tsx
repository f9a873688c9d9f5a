/** How was it: one to five stars and a word, once. */

import { useState } from 'react'

import { Icon } from '../ui/Icon.tsx'

interface Props {
  rating: number | null
  onRate: (rating: number, feedback: string) => Promise<unknown>
  onNew: () => void
}

const WORDS = ['Bad', 'Poor', 'Fair', 'Good', 'Excellent']

export function RatingCard({ rating, onRate, onNew }: Props) {
  const [stars, setStars] = useState(0)
  const [feedback, setFeedback] = useState('')
  const [problem, setProblem] = useState<string | null>(null)
  const [busy, setBusy] = useState(false)

  const send = async (): Promise<void> => {
    setBusy(true)
    setProblem(null)
    try {
      await onRate(stars, feedback)
    } catch (error) {
      setProblem(`Your rating could not be stored: ${error instanceof Error ? error.message : String(error)}`)
    } finally {
      setBusy(false)
    }
  }

  return (
    <div className="arrive mt-2 rounded-2xl border border-line bg-card p-4 text-center">
      {rating !== null ? (
        <p className="text-sm text-soft">
          Thank you. You rated this chat <strong className="text-ink">{rating} of 5</strong>.
        </p>
      ) : (
        <form
          onSubmit={(event) => {
            event.preventDefault()
            void send()
          }}
        >
          <fieldset>
            <legend className="mx-auto text-sm font-medium">How did we do?</legend>
            <div className="mt-2 flex justify-center gap-1">
              {WORDS.map((word, index) => (
                <label key={word} title={word} className="relative cursor-pointer rounded-lg has-focus-visible:outline-2 has-focus-visible:outline-accent">
                  <input
                    type="radio"
                    name="rating"
                    className="sr-only"
                    checked={stars === index + 1}
                    onChange={() => setStars(index + 1)}
                    aria-label={`${index + 1} of 5: ${word}`}
                  />
                  <Icon name="star" filled={index < stars} className={`size-8 ${index < stars ? 'text-amber-500' : 'text-faint/60'}`} />
                </label>
              ))}
            </div>
          </fieldset>
          {stars > 0 && (
            <>
              <textarea
                className="field mt-3 text-sm"
                rows={2}
                maxLength={5000}
                placeholder="Anything to add? (optional)"
                aria-label="Anything to add? Optional."
                value={feedback}
                onChange={(event) => setFeedback(event.target.value)}
              />
              <button type="submit" className="button-main mt-2 w-full" disabled={busy}>
                Send rating
              </button>
            </>
          )}
          {problem !== null && <p role="alert" className="mt-2 text-sm text-rose-ink">{problem}</p>}
        </form>
      )}
      <button type="button" className="button-quiet mt-3 w-full" onClick={onNew}>
        Start a new chat
      </button>
    </div>
  )
}
