import { useSignal } from '@preact/signals'
import { useEffect, useRef } from 'preact/hooks'

/** A button that opens a menu of actions. */
export function Menu({ label, items }: { label: string; items: readonly (readonly [string, () => void])[] }) {
  const isOpen = useSignal(false)
  const done = useSignal(false)
  const root = useRef<HTMLDivElement>(null)
  const options = (): HTMLButtonElement[] => [...root.current!.querySelectorAll<HTMLButtonElement>('[role=menuitem]')]
  const close = (): void => {
    isOpen.value = false
    root.current?.querySelector('button')?.focus()
  }
  useEffect(() => {
    if (isOpen.value) options()[0]?.focus()
  }, [isOpen.value])
  const key = (event: KeyboardEvent): void => {
    if (!isOpen.value) return
    const all = options()
    const at = all.indexOf(document.activeElement as HTMLButtonElement)
    if (event.key === 'Escape') close()
    else if (event.key === 'ArrowDown') all[(at + 1) % all.length]!.focus()
    else if (event.key === 'ArrowUp') all[(at - 1 + all.length) % all.length]!.focus()
    else return
    event.preventDefault()
    event.stopPropagation()
  }
  const left = (event: FocusEvent): void => {
    if (!root.current!.contains(event.relatedTarget as Node | null)) isOpen.value = false
  }
  return (
    <div class="menu" ref={root} onKeyDown={key} onFocusOut={left}>
      <button type="button" aria-haspopup="menu" aria-expanded={isOpen.value} onClick={() => (isOpen.value = !isOpen.value)}>
        {done.value ? 'Copied' : label} <span aria-hidden="true">▾</span>
      </button>
      {isOpen.value && (
        <div role="menu" aria-label={label}>
          {items.map(([name, run]) => (
            <button
              key={name}
              type="button"
              role="menuitem"
              tabIndex={-1}
              onClick={() => {
                close()
                run()
                done.value = true
                setTimeout(() => (done.value = false), 1200)
              }}
            >
              {name}
            </button>
          ))}
        </div>
      )}
    </div>
  )
}
