import type { Diff } from '@walcast/client'
import type { Row, RowChange } from '../grid/rows.js'

/** A transaction as one result saw it. */
export interface Seen {
  /** Grows with each. */
  readonly number: number
  readonly position: string
  /** Undefined for what came after a time away, which may be several transactions. */
  readonly xid: number | undefined
  /** When it was committed, in milliseconds. */
  readonly at: number
  readonly changes: readonly RowChange[]
  readonly came: number
  readonly left: number
  readonly changed: number
}

const MOST = 500
/** Changes that are kept of all of them together. */
const MOST_CHANGES = 5000

/** The last transactions of a result, the newest last. */
export class Transactions {
  /** Grows with each result that begins. */
  results = 0
  readonly #all: Seen[] = []
  #changes = 0
  #numbers = 0

  get length(): number {
    return this.#all.length
  }

  /** Those that came, ever, of all results. */
  get total(): number {
    return this.#numbers
  }

  /** Counted from the newest. */
  newest(index: number): Seen | undefined {
    return this.#all[this.#all.length - 1 - index]
  }

  /** The place of a number, counted from the newest; -1 if it is not kept any more. */
  indexOf(number: number): number {
    const first = this.#all[0]?.number
    return first === undefined || number < first ? -1 : this.#numbers - number
  }

  clear(): void {
    this.#all.length = this.#changes = 0
    this.results++
  }

  add({ position = '', xid, ts, changes }: Diff<Row, unknown>): void {
    let came = 0
    let left = 0
    for (const { before, row } of changes) {
      if (!before) came++
      else if (!row) left++
    }
    this.#all.push({ number: ++this.#numbers, position, xid, at: ts === undefined ? Date.now() : Date.parse(ts), changes, came, left, changed: changes.length - came - left })
    this.#changes += changes.length
    while (this.#all.length > MOST || (this.#changes > MOST_CHANGES && this.#all.length > 1)) this.#changes -= this.#all.shift()!.changes.length
  }
}

/** A column before and after: an unchanged one has the same value twice. */
export interface ColumnChange {
  readonly name: string
  readonly before: unknown
  readonly after: unknown
  readonly isChanged: boolean
}

/** The columns of a change, those that changed first. */
export function columnsOf({ before, row }: RowChange): ColumnChange[] {
  const names = Object.keys({ ...before, ...row })
  const all = names.map((name) => ({ name, before: before?.[name], after: row?.[name], isChanged: !before || !row || JSON.stringify(before[name]) !== JSON.stringify(row[name]) }))
  return [...all.filter(({ isChanged }) => isChanged), ...all.filter(({ isChanged }) => !isChanged)]
}
