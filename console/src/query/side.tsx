/** Beside the rows: the transactions that changed them, every change of a chosen one, and a chosen row in full. */
import type { Signal } from '@preact/signals'
import { useSignal } from '@preact/signals'
import { useEffect, useRef } from 'preact/hooks'
import type { Item, RowChange } from '../grid/rows.js'
import { clock, count, counted, shortPosition } from '../text/format.js'
import { CopyButton, copy } from '../ui/copy.js'
import { List, type ListHandle, markChosen } from '../ui/list.js'
import { Value } from '../ui/value.js'
import { type Seen, type Transactions, columnsOf } from './transactions.js'

/** The choice: a transaction by its number, or a row by its key. */
export type Chosen = { readonly transaction: number } | { readonly row: string } | undefined

/** Changes of a transaction that are shown at once. */
const AT_ONCE = 50

export interface SideProps {
  readonly transactions: Transactions
  /** Changes whenever they may have. */
  readonly turn: Signal<number>
  readonly chosen: Signal<Chosen>
  readonly item: (id: string) => Item | undefined
  readonly keyNames: readonly string[]
}

export function Side({ transactions, turn, chosen, item, keyNames }: SideProps) {
  const list = useRef<ListHandle | undefined>(undefined)
  const last = useRef({ total: 0, results: 0 })
  const now = chosen.value
  const choose = (index: number): void => {
    const seen = transactions.newest(index)
    if (!seen) return
    chosen.value = { transaction: seen.number }
    list.current?.reveal(index)
    list.current?.redraw()
  }
  useEffect(
    () =>
      turn.subscribe(() => {
        const { total, results } = transactions
        const { current: before } = last
        last.current = { total, results }
        list.current?.set(transactions.length, total - before.total, chosen.peek() !== undefined)
        // Another result began: no line is what it was.
        if (results !== before.results) list.current?.redraw()
      }),
    [transactions],
  )
  useEffect(() => list.current?.redraw(), [now])
  const chosenIndex = (): number => (now && 'transaction' in now ? transactions.indexOf(now.transaction) : -1)
  const seen = now && 'transaction' in now ? transactions.newest(transactions.indexOf(now.transaction)) : undefined
  const row = now && 'row' in now ? item(now.row) : undefined
  // A row that is shown in full goes on changing.
  if (now && 'row' in now) void turn.value
  return (
    <aside class="side" aria-label="Transactions">
      <h2>
        Transactions <small>of this result, newest first</small>
      </h2>
      <div class="list-place">
        <List
          label="Transactions"
          handle={list}
          make={makeLine}
          fill={(line, index) => fillLine(line, transactions.newest(index), index === chosenIndex())}
          open={choose}
          move={(by) => choose(Math.max(0, Math.min(transactions.length - 1, chosenIndex() + by)))}
        />
        <Nothing turn={turn} transactions={transactions} />
      </div>
      {seen && <Transaction key={seen.number} seen={seen} keyNames={keyNames} close={() => (chosen.value = undefined)} />}
      {now && 'row' in now && (
        <section class="details" aria-label="The chosen row">
          <header>
            <h3>{row ? `Row ${now.row}` : `Row ${now.row} has left`}</h3>
            {row && <CopyButton label="Copy JSON" text={() => JSON.stringify(row.row, null, 2)} />}
            <CloseButton close={() => (chosen.value = undefined)} />
          </header>
          {row && (
            <dl class="columns">
              {Object.entries(row.row).map(([name, value]) => (
                <div key={name} data-changed={row.changed.has(name) ? '' : undefined}>
                  <dt>{name}</dt>
                  <dd>
                    <Value value={value} />
                  </dd>
                </div>
              ))}
            </dl>
          )}
        </section>
      )}
    </aside>
  )
}

function Nothing({ turn, transactions }: { turn: Signal<number>; transactions: Transactions }) {
  void turn.value
  return transactions.length > 0 ? null : <p class="empty">None yet. Each transaction that changes these rows is listed here.</p>
}

const CloseButton = ({ close }: { close: () => void }) => (
  <button type="button" class="small" aria-label="Close" title="Close (Escape)" onClick={close}>
    ✕
  </button>
)

function makeLine(): HTMLElement {
  const line = document.createElement('div')
  line.setAttribute('role', 'option')
  for (const name of ['time', 'in', 'change', 'out', 'xid', 'position']) {
    const part = document.createElement('span')
    part.className = name
    line.append(part)
  }
  return line
}

function fillLine(line: HTMLElement, seen: Seen | undefined, isChosen: boolean): void {
  if (!seen) return
  const { at, came, changed, left, xid, position } = seen
  const texts = [clock(at), came ? `+${count(came)}` : '', changed ? `~${count(changed)}` : '', left ? `−${count(left)}` : '', xid === undefined ? 'while away' : `xid ${xid}`, shortPosition(position)]
  texts.forEach((text, i) => {
    const part = line.children[i]!
    if (part.textContent !== text) part.textContent = text
  })
  line.title = position
  markChosen(line, isChosen)
}

function Transaction({ seen, keyNames, close }: { seen: Seen; keyNames: readonly string[]; close: () => void }) {
  const most = useSignal(AT_ONCE)
  const { xid, position, at, changes } = seen
  return (
    <section class="details" aria-label="The chosen transaction">
      <header>
        <h3>{xid === undefined ? 'While away' : `Transaction ${xid}`}</h3>
        <CloseButton close={close} />
      </header>
      <p class="soft">
        {counted(changes.length, 'change')} of this result, {xid === undefined ? 'seen' : 'committed'} {clock(at, true)}, at{' '}
        <button type="button" class="plain mono" title="Copy the position" onClick={() => copy(position)}>
          {position}
        </button>
      </p>
      {changes.slice(0, most.value).map((change, i) => (
        <RowDiff key={i} change={change} keyNames={keyNames} />
      ))}
      {changes.length > most.value && (
        <button type="button" onClick={() => (most.value += 200)}>
          Show more of {counted(changes.length - most.value, 'further change')}
        </button>
      )}
    </section>
  )
}

function RowDiff({ change, keyNames }: { change: RowChange; keyNames: readonly string[] }) {
  const { before, row } = change
  const kind = !before ? 'in' : !row ? 'out' : 'change'
  const columns = columnsOf(change)
  const shown = kind === 'change' ? columns.filter(({ isChanged }) => isChanged) : columns
  const key = keyNames.map((name) => `${name} ${String((row ?? before)?.[name])}`).join(', ')
  return (
    <div class="diff" data-kind={kind}>
      <p>
        <b>{kind === 'in' ? '+ came' : kind === 'out' ? '− left' : '~ changed'}</b> {key}
      </p>
      <table>
        <tbody>
          {shown.map(({ name, before: old, after }) => (
            <tr key={name}>
              <th scope="row">{name}</th>
              {kind !== 'in' && (
                <td class="old">
                  <Value value={old} most={400} />
                </td>
              )}
              {kind !== 'out' && (
                <td class="new">
                  <Value value={after} most={400} />
                </td>
              )}
            </tr>
          ))}
        </tbody>
      </table>
      {kind === 'change' && columns.length > shown.length && <p class="soft">{counted(columns.length - shown.length, 'other column')} as before</p>}
    </div>
  )
}
