export function InspectorPage() {
  return <p>soon</p>
}
