import { signal } from '@preact/signals'

/** The text of the one live region of the page: states, never rows. */
const said = signal('')

export function announce(text: string): void {
  // The same text twice is said twice.
  said.value = said.value === text ? `${text}\u00a0` : text
}

export function LiveRegion() {
  return (
    <div class="unseen" role="status" aria-live="polite">
      {said}
    </div>
  )
}
