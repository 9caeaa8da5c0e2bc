import type { DiffChange } from '@walcast/client'
import { comparison } from '@walcast/client/order.js'
import { brief } from '../text/format.js'
import type { Order } from '../text/url.js'
import { SortedIndex } from './sorted.js'

export type Row = Readonly<Record<string, unknown>>
export type Mark = 'in' | 'change' | 'out'
export interface Shape {
  readonly columns: readonly { readonly name: string; readonly type: string }[]
  readonly key: readonly string[]
}

/** A row of the view. One that left stays for a moment, marked `out`. */
export interface Item {
  readonly id: string
  row: Row
  mark: Mark | undefined
  /** When it was marked, as `performance.now()`. */
  at: number
  /** The columns that changed. */
  changed: ReadonlySet<string>
  /** Grows with each change of any row. */
  turn: number
}

export type RowChange = Pick<DiffChange<Row, unknown>, 'key' | 'before' | 'row'>

/** The time that a change shows, in milliseconds. */
export const FADE_MS = 900
const NONE: ReadonlySet<string> = new Set()

/** The rows of a result in an order, with what happened to each a moment ago. Pure: changes and the time go in. */
export class Rows {
  shape: Shape = { columns: [], key: [] }
  readonly #items = new Map<string, Item>()
  #index: SortedIndex<Item>
  #order: Order = { by: 'key', desc: false }
  #turn = 0
  /** Those that left and still show, the first to go first. */
  readonly #leaving = new Set<Item>()
  /** Set while the view stands still: what came meanwhile, the latest of each row. */
  #waiting: Map<string, RowChange> | undefined
  /** Changes that came while the view stood still. */
  missed = 0

  constructor() {
    this.#index = new SortedIndex(this.#compare())
  }

  /** Rows that are in the result, without those that still show. */
  get count(): number {
    return this.#items.size - this.#leaving.size
  }

  /** Lines to show. */
  get length(): number {
    return this.#index.length
  }

  get order(): Order {
    return this.#order
  }

  get isPaused(): boolean {
    return this.#waiting !== undefined
  }

  at(index: number): Item | undefined {
    return this.#index.at(index)
  }

  get(id: string): Item | undefined {
    return this.#items.get(id)
  }

  indexOf(id: string): number {
    const item = this.#items.get(id)
    return item ? this.#index.indexOf(item) : -1
  }

  /** Begins anew with a whole result. */
  reset(shape: Shape, rows: readonly { readonly key: unknown; readonly row: Row }[]): void {
    this.shape = shape
    this.#items.clear()
    this.#leaving.clear()
    this.missed = 0
    if (this.#waiting) this.#waiting = new Map()
    for (const { key, row } of rows) {
      const id = idOf(key)
      this.#items.set(id, { id, row, mark: undefined, at: 0, changed: NONE, turn: ++this.#turn })
    }
    this.#sort()
  }

  sortBy(order: Order): void {
    this.#order = order
    this.#sort()
  }

  pause(): void {
    this.#waiting ??= new Map()
  }

  /** Shows what came meanwhile. */
  resume(now: number): void {
    const waiting = this.#waiting
    this.#waiting = undefined
    this.missed = 0
    if (waiting) this.apply([...waiting.values()], now)
  }

  apply(changes: readonly RowChange[], now: number): void {
    const waiting = this.#waiting
    if (waiting) {
      this.missed += changes.length
      for (const change of changes) {
        const id = idOf(change.key)
        // A row that came and left again while the view stood still is nothing to show.
        if (change.row === undefined && !this.#items.has(id)) waiting.delete(id)
        else waiting.set(id, change)
      }
      return
    }
    const added: Item[] = []
    for (const { key, row } of changes) {
      const id = idOf(key)
      const item = this.#items.get(id)
      if (row) this.#put(id, item, row, now, added)
      else if (item && item.mark !== 'out') {
        item.mark = 'out'
        item.at = now
        item.changed = NONE
        this.#leaving.add(item)
      }
    }
    this.#index.addAll(added)
  }

  /** Takes away what left a while ago. Returns whether something did. */
  sweep(now: number): boolean {
    const gone: Item[] = []
    for (const item of this.#leaving) {
      if (now - item.at < FADE_MS) break
      gone.push(item)
    }
    if (gone.length === 0) return false
    for (const item of gone) {
      this.#leaving.delete(item)
      this.#items.delete(item.id)
    }
    if (gone.length < 64) for (const item of gone) this.#index.remove(item)
    else {
      const all = new Set(gone)
      this.#index.removeWhere((item) => all.has(item))
    }
    return true
  }

  /** Something that left still shows. */
  get isLeaving(): boolean {
    return this.#leaving.size > 0
  }

  #put(id: string, item: Item | undefined, row: Row, now: number, added: Item[]): void {
    const turn = ++this.#turn
    if (!item) {
      const fresh: Item = { id, row, mark: 'in', at: now, changed: NONE, turn }
      this.#items.set(id, fresh)
      added.push(fresh)
      return
    }
    const wasOut = item.mark === 'out'
    if (wasOut) this.#leaving.delete(item)
    const changed = new Set<string>()
    for (const { name } of this.shape.columns) if (!isSame(item.row[name], row[name])) changed.add(name)
    const { by } = this.#order
    const moves = by === 'newest' || (by !== 'key' && changed.has(by.column)) || this.shape.key.some((name) => changed.has(name))
    // An item that is about to be added has no place yet.
    const isPlaced = moves && this.#index.remove(item)
    item.row = row
    item.mark = wasOut ? 'in' : 'change'
    item.at = now
    item.changed = wasOut ? NONE : changed
    item.turn = turn
    if (isPlaced) this.#index.add(item)
  }

  #sort(): void {
    this.#index = new SortedIndex(this.#compare(), [...this.#items.values()])
  }

  #compare(): (a: Item, b: Item) => number {
    const { by, desc } = this.#order
    const { columns, key } = this.shape
    const tie = (a: Item, b: Item): number => (a.id < b.id ? -1 : a.id > b.id ? 1 : 0)
    if (by === 'newest') return (a, b) => b.turn - a.turn || tie(a, b)
    const order = by === 'key' ? key.map((column) => ({ column, desc })) : [{ column: by.column, desc }, ...key.map((column) => ({ column, desc: false }))]
    const parts = order.map((part) => {
      const type = columns.find(({ name }) => name === part.column)?.type ?? ''
      return isOrdered(type) ? comparison([part], columns, () => {}) : byText(part.column, part.desc)
    })
    return (a, b) => {
      for (const part of parts) {
        const found = part(a.row, b.row)
        if (found !== 0) return found
      }
      return tie(a, b)
    }
  }
}

/** A key as text: a bigint may come as text or as a number. */
export const idOf = (key: unknown): string => (typeof key === 'object' ? JSON.stringify(key) : String(key))

/** The types that the client compares as Postgres does. */
const isOrdered = (type: string): boolean =>
  /^(bigint|integer|smallint|oid|numeric|real|double precision|boolean|text|character|name|uuid|bytea|date|timestamp|time without|time\()/.test(type) && !type.endsWith(']')

/** By what is shown: only the database knows the order of enumerations, intervals and arrays. */
function byText(column: string, desc = false): (a: Row, b: Row) => number {
  return (a, b) => {
    const [x, y] = [a[column] ?? null, b[column] ?? null]
    if (x === null || y === null) return (x === null ? 1 : 0) - (y === null ? 1 : 0)
    const [s, t] = [brief(x), brief(y)]
    return (s < t ? -1 : s > t ? 1 : 0) * (desc ? -1 : 1)
  }
}

/** The same value: arrays and objects by what they hold. */
function isSame(a: unknown, b: unknown): boolean {
  if (a === b) return true
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null || Array.isArray(a) !== Array.isArray(b)) return false
  const names = Object.keys(a)
  return names.length === Object.keys(b).length && names.every((name) => isSame((a as Row)[name], (b as Row)[name]))
}
