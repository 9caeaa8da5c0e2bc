import { signal } from '@preact/signals'
import { type Address, parseAddress, printAddress } from './text/url.js'

/** Where the console is; the same as the address bar. */
export const address = signal<Address>(parseAddress(location.hash))

addEventListener('hashchange', () => (address.value = parseAddress(location.hash)))

/** Goes somewhere. `replace` leaves no step in the history behind: for what changes often. */
export function go(to: Partial<Address>, replace = false): void {
  const next = { ...address.value, ...to }
  const hash = printAddress(next)
  if (hash === location.hash) return
  if (replace) history.replaceState(null, '', hash)
  else history.pushState(null, '', hash)
  address.value = next
}
