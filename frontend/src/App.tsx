/** Which page an address shows. */

import { type ComponentType, Suspense, lazy } from 'react'

import { LandingPage } from './pages/LandingPage.tsx'

const PAGES: Record<string, ComponentType> = {
  '/': LandingPage,
  '/visitor': lazy(async () => ({ default: (await import('./pages/VisitorPage.tsx')).VisitorPage })),
  '/agent': lazy(async () => ({ default: (await import('./pages/AgentPage.tsx')).AgentPage })),
  '/inspector': lazy(async () => ({ default: (await import('./pages/InspectorPage.tsx')).InspectorPage })),
}

export function App() {
  const path = location.pathname.replace(/\/+$/, '') || '/'
  const Page = PAGES[path] ?? LandingPage
  return (
    <Suspense fallback={null}>
      <Page />
    </Suspense>
  )
}
