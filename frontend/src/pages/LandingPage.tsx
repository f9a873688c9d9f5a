export function LandingPage() {
  return <p>soon</p>
}
