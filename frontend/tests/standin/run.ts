/** For development: `npx vite-node tests/standin/run.ts` serves the built pages on port 4010 until Ctrl-C. */

import { CODE, startStack } from '../browser/stack.ts'

const stack = await startStack(Number(process.env['PORT'] ?? 4010))
console.log(`${stack.url}/#code=${encodeURIComponent(CODE)}`)
const stop = (): void => void stack.stop().then(() => process.exit(0))
process.on('SIGINT', stop)
process.on('SIGTERM', stop)
