/** The few pictures the pages use, drawn here so that no font or sprite is fetched. All are decoration: the text says it. */

const PATHS = {
  chat: 'M5 6.5A2.5 2.5 0 0 1 7.5 4h9A2.5 2.5 0 0 1 19 6.5v6a2.5 2.5 0 0 1-2.5 2.5H11l-4 3.5V15A2.5 2.5 0 0 1 5 12.5z',
  send: 'M4.5 12h13M12.5 6l6 6-6 6',
  down: 'M6 9.5l6 6 6-6',
  back: 'M14.5 6l-6 6 6 6',
  close: 'M7 7l10 10M17 7L7 17',
  smile: 'M12 20a8 8 0 1 0 0-16 8 8 0 0 0 0 16zM9 10v.4M15 10v.4M8.8 14c1.8 2 4.6 2 6.4 0',
  check: 'M5.5 12.5l4 4 9-9',
  checks: 'M2.5 12.8l3.8 3.8 8.2-8.4M11 16l.6.6 9-9',
  clock: 'M12 20a8 8 0 1 0 0-16 8 8 0 0 0 0 16zM12 8v4.2l2.6 1.6',
  alert: 'M12 8.5v4.2M12 15.8v.2M12 4l8.5 15h-17z',
  star: 'M12 4.2l2.4 4.9 5.4.8-3.9 3.8.9 5.4-4.8-2.6-4.8 2.6.9-5.4-3.9-3.8 5.4-.8z',
  user: 'M12 12a3.6 3.6 0 1 0 0-7.2 3.6 3.6 0 0 0 0 7.2zM5.5 19.5c.6-3.2 3.2-5 6.5-5s5.9 1.8 6.5 5',
  database: 'M5 6.5c0-1.4 3.1-2.5 7-2.5s7 1.1 7 2.5-3.1 2.5-7 2.5-7-1.1-7-2.5zM5 6.5v11c0 1.4 3.1 2.5 7 2.5s7-1.1 7-2.5v-11M5 12c0 1.4 3.1 2.5 7 2.5s7-1.1 7-2.5',
  relay: 'M4 12h4l2-5 4 10 2-5h4',
  out: 'M13.5 5H19v5.5M19 5l-8 8M17 13.5V19H5V7h5.5',
} as const

export type IconName = keyof typeof PATHS

export function Icon({ name, className = 'size-5', filled = false }: { name: IconName; className?: string; filled?: boolean }) {
  return (
    <svg
      className={className}
      viewBox="0 0 24 24"
      fill={filled ? 'currentColor' : 'none'}
      stroke="currentColor"
      strokeWidth="1.8"
      strokeLinecap="round"
      strokeLinejoin="round"
      aria-hidden="true"
    >
      <path d={PATHS[name]} />
    </svg>
  )
}
