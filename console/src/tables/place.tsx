export function TablesPlace() {
  return <div class="empty page">Tables</div>
}
