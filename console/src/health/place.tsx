export function HealthPlace() {
  return <div class="empty page">Health</div>
}
