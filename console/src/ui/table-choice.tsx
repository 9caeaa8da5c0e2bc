/** The choice of a published table: a list beside the place, or a field where there is no room for a list. */
import type { ComponentChildren } from 'preact'
import { address, go } from '../address.js'
import { type TableInfo, nameOf } from '../tables.js'
import { amount } from '../text/format.js'
import { type Place, printAddress } from '../text/url.js'

export interface TableChoiceProps {
  readonly place: Place
  readonly heading: ComponentChildren
  /** Undefined until the server has said. */
  readonly tables: readonly TableInfo[] | undefined
  /** The name of the chosen one, which may not be among them. */
  readonly chosen: string | undefined
}

export function TableChoice({ place, heading, tables = [], chosen }: TableChoiceProps) {
  const choose = (table: string): void => go({ table, where: undefined, order: undefined })
  const is = (one: TableInfo): boolean => nameOf(one) === chosen || one.table === chosen
  const { source } = address.value
  return (
    <>
      <nav class="tables" aria-label="Tables">
        <h2>{heading}</h2>
        <ul>
          {tables.map((one) => (
            <li key={one.table}>
              <a href={printAddress({ place, source, table: nameOf(one) })} aria-current={is(one) ? 'true' : undefined} onClick={(event) => (event.preventDefault(), choose(nameOf(one)))}>
                <span>{nameOf(one)}</span>
                <Flag table={one} />
                <small title="changes of the table per second">{one.changes_per_second >= 0.05 ? `${amount(one.changes_per_second)}/s` : ''}</small>
              </a>
            </li>
          ))}
        </ul>
      </nav>
      <label class="table-choice">
        Table
        <select value={chosen} onChange={(event) => choose(event.currentTarget.value)}>
          {chosen !== undefined && !tables.some(is) && <option value={chosen}>{chosen}</option>}
          {tables.map((one) => (
            <option key={one.table} value={is(one) ? chosen : nameOf(one)}>
              {nameOf(one)}
            </option>
          ))}
        </select>
      </label>
    </>
  )
}

function Flag({ table: { problems } }: { table: TableInfo }) {
  if (problems.length === 0) return null
  const isBad = problems.some(({ severity }) => severity === 'error')
  return (
    <span class={isBad ? 'flag' : 'flag amber'} role="img" aria-label={isBad ? 'has an error' : 'has a warning'} title={problems[0]!.message}>
      {isBad ? '!' : '△'}
    </span>
  )
}
