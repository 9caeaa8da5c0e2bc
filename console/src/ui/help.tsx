import { signal } from '@preact/signals'
import { useEffect, useRef } from 'preact/hooks'
import { areKeysOn, turnKeys } from './keys.js'

export const isHelpOpen = signal(false)

const KEYS: readonly (readonly [string, readonly (readonly [string, string])[]])[] = [
  ['Everywhere', [['g q', 'Query'], ['g s', 'Stream'], ['g h', 'Health'], ['g c', 'Clients'], ['g t', 'Tables'], ['?', 'these keys']]],
  ['Query', [['/', 'to the predicate'], ['Enter', 'run it'], ['Shift Enter', 'another line'], ['↓', 'words that may come next'], ['[ ]', 'older, newer transaction'], ['Escape', 'close what is open beside the rows']]],
  ['Stream', [['/', 'to the xid'], ['j k', 'next, previous change'], ['Space', 'stop the view, and go on'], ['Escape', 'close the change']]],
  ['Rows', [['j k', 'next, previous row'], ['← →', 'column'], ['Enter', 'the row in full'], ['s', 'sort by the column'], ['y', 'copy the value'], ['Space', 'stop the view, and go on']]],
]

export function Help() {
  const dialog = useRef<HTMLDialogElement>(null)
  useEffect(() => {
    if (isHelpOpen.value && !dialog.current!.open) dialog.current!.showModal()
  }, [isHelpOpen.value])
  return (
    <dialog ref={dialog} aria-labelledby="help-title" onClose={() => (isHelpOpen.value = false)} onClick={(event) => event.target === dialog.current && dialog.current!.close()}>
      <header>
        <h2 id="help-title">Keys</h2>
        <button type="button" class="small" onClick={() => dialog.current!.close()}>
          Close
        </button>
      </header>
      <div class="keys">
        {KEYS.map(([title, keys]) => (
          <section key={title}>
            <h3>{title}</h3>
            <dl>
              {keys.map(([key, about]) => (
                <div key={key}>
                  <dt>
                    {key.split(' ').map((part) => (
                      <kbd key={part}>{part}</kbd>
                    ))}
                  </dt>
                  <dd>{about}</dd>
                </div>
              ))}
            </dl>
          </section>
        ))}
      </div>
      <label class="check">
        <input type="checkbox" checked={areKeysOn.value} onChange={(event) => turnKeys(event.currentTarget.checked)} /> Keys with a character act on the whole page. Without them, these act only in the list that has the focus.
      </label>
      <p class="soft signs">
        <span data-mark="in">+</span> came into the result <span data-mark="change">~</span> changed <span data-mark="out">−</span> left it
      </p>
    </dialog>
  )
}
