export function ClientsPlace() {
  return <div class="empty page">Clients</div>
}
