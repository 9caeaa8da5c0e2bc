export function StreamPlace() {
  return <div class="empty page">Stream</div>
}
