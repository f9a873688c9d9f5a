/** The state of things in words. Good news is quiet; what a person should know stands out. */

import type { ChatStatus } from '../services/RealtimeChatService.ts'
import { Icon } from '../ui/Icon.tsx'
import { connectionWords } from '../ui/words.ts'

export function StatusLine({ status, onDismiss }: { status: ChatStatus; onDismiss: () => void }) {
  const words = connectionWords(status)
  const calm = status.phase === 'connecting'
  return (
    <div role="status" aria-live="polite">
      {words !== null && (
        <p
          className={`flex items-start gap-2 border-b px-4 py-2 text-[0.8125rem] leading-snug ${
            calm ? 'border-line bg-paper text-soft' : 'border-amber-ink/10 bg-amber-mist text-amber-ink'
          }`}
        >
          <Icon name={calm ? 'clock' : 'alert'} className="mt-px size-4 shrink-0" />
          {words}
        </p>
      )}
      {status.gap !== null && (
        <p className="flex items-start gap-2 border-b border-amber-ink/10 bg-amber-mist px-4 py-2 text-[0.8125rem] leading-snug text-amber-ink">
          <Icon name="alert" className="mt-px size-4 shrink-0" />
          <span className="flex-1" title={status.gap}>
            Some live updates were lost on the way. Everything was read again from the database.
          </span>
          <button type="button" aria-label="Dismiss" onClick={onDismiss}>
            <Icon name="close" className="size-4" />
          </button>
        </p>
      )}
    </div>
  )
}
