import tailwindcss from '@tailwindcss/vite'
import { defineConfig } from 'vitest/config'

// Where `npm run dev` finds a relay; `relay demo` listens here.
const relay = process.env['RELAY_URL'] ?? 'http://127.0.0.1:4000'

export default defineConfig({
  plugins: [tailwindcss()],
  esbuild: { jsx: 'automatic' },
  build: { target: 'es2022', sourcemap: false, chunkSizeWarningLimit: 700 },
  server: {
    proxy: {
      '/realtime': { target: relay, ws: true },
      '/chat/v1': relay,
      '/demo': relay,
      '/metrics': relay,
      '/healthz': relay,
      '/readyz': relay,
    },
  },
  test: { include: ['src/**/*.test.ts'], environment: 'node' },
})
