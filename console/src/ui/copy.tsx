import { useSignal } from '@preact/signals'
import { announce } from './announce.js'

/** Copies a text. Without the permission, or without https, by a selection, as browsers always let. */
export async function copy(text: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text)
  } catch {
    const field = document.createElement('textarea')
    field.value = text
    field.className = 'unseen'
    const focused = document.activeElement as HTMLElement | null
    document.body.append(field)
    field.select()
    document.execCommand('copy')
    field.remove()
    focused?.focus()
  }
  announce('copied')
}

export function CopyButton({ text, label = 'Copy', title }: { text: string | (() => string); label?: string; title?: string }) {
  const isDone = useSignal(false)
  const run = async (): Promise<void> => {
    await copy(typeof text === 'string' ? text : text())
    isDone.value = true
    setTimeout(() => (isDone.value = false), 1200)
  }
  return (
    <button type="button" class="small" title={title} onClick={run}>
      {isDone.value ? 'Copied' : label}
    </button>
  )
}

/** A command or a statement to copy. */
export function Command({ text }: { text: string }) {
  return (
    <div class="command">
      <code>{text}</code>
      <CopyButton text={text} />
    </div>
  )
}
