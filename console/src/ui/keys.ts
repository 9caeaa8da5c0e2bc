/** Keys of the page, where nobody is typing. */
import { signal } from '@preact/signals'

const NAME = 'walcast.keys'

/** Keys with a character act on the whole page. People who speak to their computer turn that off (WCAG 2.1.4). */
export const areKeysOn = signal(stored())

function stored(): boolean {
  try {
    return localStorage.getItem(NAME) !== 'off'
  } catch {
    return true
  }
}

export function turnKeys(on: boolean): void {
  areKeysOn.value = on
  try {
    if (on) localStorage.removeItem(NAME)
    else localStorage.setItem(NAME, 'off')
  } catch {
    // It holds until the page is closed.
  }
}

type Handlers = Readonly<Record<string, () => void>>

/** Within this time the second of two keys is part of them. */
const WITHIN_MS = 1500

const all: Handlers[] = []
let prefix: { key: string; at: number } | undefined

/** Handles keys, also two in a row (`g q`). Returns what ends that. The last to ask is the first to get one. */
export function onKey(handlers: Handlers): () => void {
  all.unshift(handlers)
  return () => void all.splice(all.indexOf(handlers), 1)
}

/** The first of two keys was pressed just now: the next one is not what it means alone. */
export const isSecond = (event: KeyboardEvent): boolean => prefix !== undefined && event.timeStamp - prefix.at < WITHIN_MS

const isTyping = (target: EventTarget | null): boolean => target instanceof HTMLElement && target.matches('input, textarea, select, [contenteditable]')
const takesSpace = (target: EventTarget | null): boolean => target instanceof HTMLElement && target.matches('button, a, summary, input, [role=option]')

addEventListener('keydown', (event) => {
  const { key, target } = event
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return
  if (key.length === 1 && !areKeysOn.value) return
  if (isTyping(target) || (key === ' ' && takesSpace(target)) || document.querySelector('dialog[open]')) return
  const first = isSecond(event) ? `${prefix!.key} ` : ''
  prefix = undefined
  const handler = all.find((handlers) => handlers[first + key])?.[first + key]
  if (handler) {
    event.preventDefault()
    handler()
  } else if (all.some((handlers) => Object.keys(handlers).some((name) => name.startsWith(`${key} `) && name.length > 1))) prefix = { key, at: event.timeStamp }
})
