import { WalcastError } from './error.js'
import { type WireOrder, comparison } from './order.js'
import type { Column, Place, Subscribed, Tx, WireChange } from './protocol.js'
import { type Position, later } from './position.js'
import { goOn, needsOf, placeOf } from './request.js'
import type { Decode, Row } from './values.js'

/** A row of the result. `raw` is as it came, `row` as the application gets it. */
export interface Entry {
  readonly key: unknown
  readonly raw: Row
  readonly row: Row
}

export type Status = 'connecting' | 'snapshot' | 'catching-up' | 'live' | 'offline' | 'error'

/** What became of one row; `before` is undefined if it was not there, `after` if it is not there any more. */
export interface EntryChange {
  readonly key: unknown
  readonly before: Entry | undefined
  readonly after: Entry | undefined
}

/** The rows of one result by their keys, in the order in which they came. */
class Rows {
  readonly map = new Map<unknown, Entry>()
  /** Of a table without a key: how often each row is there. Equal rows are told apart by a number. */
  readonly copies = new Map<string, number>()
}

/** The rows and the place of a result, to be kept or to be sent along with a page. JSON can hold it. */
export interface Stored {
  readonly query: string
  readonly key: readonly string[]
  readonly columns: readonly Column[]
  readonly rows: readonly Row[]
  readonly place: Place
}

/**
 * The result of one query, kept by what the server says. Pure: messages go in, rows come out.
 *
 * The one thing to know: `entries` moves by whole transactions only. What a part of one changed, or a catch-up that is under
 * way, is applied to rows that nobody sees until `settle`.
 */
export class Fold {
  readonly isResult = true
  status: Status = 'connecting'
  error: WalcastError | undefined
  /** There has been a whole result. */
  filled = false
  /** Grows with each change of what is seen. */
  version = 0
  /** Somebody wants to see the rows of the first snapshot as they come. */
  showsPartial = false
  /** It is looked for where results are stored. */
  isLoading = false
  /** Where `rows`, or what replaces it, stands; undefined: only a snapshot can make it whole. */
  place: Place | undefined
  /** Where `entries` stands. */
  shown: Place | undefined
  key: readonly string[] = []
  columns: readonly Column[] = []

  #asked: 'from' | 'snapshot' | undefined
  #begun: Place | undefined
  #rows = new Rows()
  /** The result that a snapshot builds anew, while `rows` is still seen. */
  #next: Rows | undefined
  #seen: readonly Entry[] | undefined = []
  /** `rows` has changes that are not to be seen yet. */
  #held = false
  #index: Map<unknown, Entry> | undefined
  /** Of each row that changed since listeners were told last: what it was then. */
  #untold = new Map<unknown, Entry | undefined>()
  #diffs: EntryChange[][] = []
  /** The transaction that all of `#untold` is of; null if it is not of one. */
  #origin: Tx | null | undefined
  readonly #origins = new WeakMap<readonly EntryChange[], Tx>()
  #decode: Decode = (raw) => raw
  /** The order of the rows, where the query has one; otherwise they are in that in which they came. */
  #compare: ((a: Row, b: Row) => number) | undefined

  /** The query as text: equal queries have equal ones. */
  readonly identity: string
  readonly needs: readonly string[]
  /** The fields of `subscribe` that say what is asked for. */
  readonly fields: { readonly table: string; readonly where?: string } & Readonly<Record<string, unknown>>
  readonly #decoderFor: (table: string, columns: readonly Column[]) => Decode
  readonly #warn: (text: string) => void

  constructor(
    identity: string,
    fields: { readonly table: string; readonly where?: string } & Readonly<Record<string, unknown>>,
    decoderFor: (table: string, columns: readonly Column[]) => Decode,
    warn: (text: string) => void = () => {},
  ) {
    this.identity = identity
    this.fields = fields
    this.needs = needsOf(fields)
    this.#decoderFor = decoderFor
    this.#warn = warn
  }

  /** The fields of the `subscribe` that makes it whole, in this epoch. */
  request(epoch: string): Record<string, unknown> {
    // A place of another epoch means nothing in this one.
    if (this.place?.epoch !== epoch) this.place = undefined
    const { place } = this
    this.#asked = place ? 'from' : 'snapshot'
    if (!place) return { ...this.fields, snapshot: true }
    return goOn(place, this.fields)
  }

  /** Returns false if the rows it has are not those of this table any more: it has to begin anew. */
  accepted(message: Subscribed, epoch: string): boolean {
    const { key, columns } = message
    const resumes = this.#asked === 'from'
    if (resumes && JSON.stringify([this.key, this.columns]) !== JSON.stringify([key, columns])) return false
    this.#describe(key, columns)
    this.#begun = placeOf(message, epoch)
    // Until `live` the rows of a snapshot have no place.
    if (resumes) this.place = this.#begun
    else this.#next = new Rows()
    this.status = this.filled ? 'catching-up' : 'snapshot'
    this.version++
    for (const warning of message.warnings) this.#warn(warning)
    return true
  }

  snapshot(rows: readonly Row[]): void {
    for (const raw of rows) this.#put(this.#next!, raw)
    if (this.showsPartial && !this.filled) this.version++
  }

  /** The rows of a snapshot that has not come to its end. */
  get partial(): readonly Entry[] {
    return this.#sorted(this.#next ?? this.#rows)
  }

  /**
   * Applies changes. If they are not the whole of what has come (`isWhole` false), they are not to be seen yet.
   * Returns false if its rows cannot be what the server's are: it has to begin anew. If it throws, nothing was applied.
   */
  take(changes: readonly WireChange[], isWhole: boolean, tx?: Tx): boolean {
    const decoded: (Row | undefined)[] = []
    for (const { op, row, key, old, oversize, unchanged = [] } of changes) {
      if (op === 'delete' ? !(key ?? old) : op !== 'truncate' && !row && !(oversize && key)) {
        throw new WalcastError('bad_frame', `the server sent a change that is none: ${op}`)
      }
      if (row && !this.#fits(row, unchanged)) return false
      decoded.push(row && this.#decode(row))
    }
    // Whether it has the old row of a table without a key shows only on the way.
    if (!isWhole || this.key.length === 0) this.#hold()
    this.#origin = tx && (this.#origin ?? tx)?.xid === tx.xid && this.#origin !== null && !this.#next ? tx : null
    const rows = this.#next ?? this.#rows
    return changes.every((change, i) => this.#apply(rows, change, decoded[i]))
  }

  /** It is complete up to here. */
  advance(position: Position): void {
    if (this.place) this.place = { ...this.place, position: later(this.place.position, position) }
  }

  /** The snapshot, or what it missed, has come; it is seen from `settle` on. */
  live(position: Position): void {
    this.place = { ...this.#begun!, position }
  }

  /** What has come is whole: it is what is seen from now on. */
  settle(position: Position): void {
    const next = this.#next
    if (next) this.#replace(next)
    if (next || this.#untold.size > 0) this.#seen = undefined
    this.#next = undefined
    this.#held = false
    this.#index = undefined
    this.shown = { ...this.place!, position }
    this.filled = true
    this.status = 'live'
    this.version++
  }

  /** The connection is gone. A snapshot that has not come to its end is of no use. */
  lost(): void {
    if (!this.place) this.#next = undefined
    this.#asked = undefined
    if (this.status !== 'error' && (this.status !== 'connecting' || this.filled)) this.status = 'offline'
    this.version++
  }

  /** Its place is good no more: all rows come anew, and these are seen until then. */
  restart(): void {
    this.#hold()
    this.place = undefined
    this.#next = undefined
    this.status = this.filled ? 'catching-up' : 'connecting'
    this.version++
  }

  /** Ends with an error. Rows that may not be seen any more go. */
  fail(error: WalcastError): void {
    this.#hold()
    this.error = error
    this.status = 'error'
    // A page that shows no errors shows nothing at all.
    this.#warn(error.message)
    this.place = undefined
    this.#next = undefined
    if (error.code === 'forbidden') this.forget()
    this.version++
  }

  /** Begins again after an error. */
  revive(): void {
    this.error = undefined
    this.status = this.filled ? 'offline' : 'connecting'
    this.version++
  }

  /** Forgets the rows: as if it had never begun. */
  forget(): void {
    const none = new Rows()
    this.#replace(none)
    this.#seen = undefined
    this.#held = this.filled = false
    this.#index = this.place = this.shown = this.#next = undefined
    if (!this.error) this.status = 'connecting'
    this.version++
  }

  /** What is seen: the result as of `shown`. The same array until a row changed. */
  get entries(): readonly Entry[] {
    return (this.#seen ??= this.#sorted(this.#rows))
  }

  /** The row of a key, of what is seen. */
  get(key: unknown): Entry | undefined {
    const named = this.keyText(key)
    if (!this.#held) return this.#rows.map.get(named)
    return (this.#index ??= new Map(this.entries.map((entry) => [entry.key, entry]))).get(named)
  }

  /** A key as a reader gives it: the key column's value, or a list of those of several columns. */
  keyText(key: unknown): unknown {
    if (this.key.length > 1) return JSON.stringify(key, (_, part: unknown) => (typeof part === 'bigint' ? String(part) : part))
    if (typeof key === 'bigint' || typeof key === 'number') {
      // A bigint or numeric key comes as text, unless the client was told to have numbers.
      for (const held of this.#rows.map.keys()) return typeof held === 'string' ? String(key) : Number(key)
    }
    return typeof key === 'object' ? JSON.stringify(key) : key
  }

  /** The steps that `diff` would give now, apart from what is still to come. */
  get steps(): number {
    if (!this.#held) this.#close()
    return this.#diffs.length
  }

  /** What was seen to change since this was called last, in steps that are whole each. */
  diff(): readonly (readonly EntryChange[])[] {
    if (!this.#held) this.#close()
    return this.#diffs.splice(0)
  }

  /** The transaction that a step of a diff is; undefined if it is several, or a result that replaced another. */
  origin(step: readonly EntryChange[]): Pick<Tx, 'xid' | 'ts'> | undefined {
    return this.#origins.get(step)
  }

  store(): Stored | undefined {
    const { identity, key, columns, shown } = this
    return shown && { query: identity, key, columns, rows: this.entries.map(({ raw }) => raw), place: shown }
  }

  /** Takes what was stored of the same query, unless it has rows of its own. */
  load(stored: Stored): boolean {
    if (this.filled || this.#asked || stored.query !== this.identity) return false
    this.#describe(stored.key, stored.columns)
    const rows = new Rows()
    for (const raw of stored.rows) this.#put(rows, raw)
    this.#replace(rows)
    this.#seen = undefined
    this.place = this.shown = stored.place
    this.filled = true
    this.status = 'catching-up'
    this.version++
    return true
  }

  /** Another one of the same query, without anything. */
  twin(): Fold {
    return new Fold(this.identity, this.fields, this.#decoderFor)
  }

  /** Takes what the server says of the table. */
  #describe(key: readonly string[], columns: readonly Column[]): void {
    this.key = key
    this.columns = columns
    const { table, order_by } = this.fields
    this.#decode = this.#decoderFor(table, columns)
    if (order_by) {
      const unknown = (column: string, type: string): void => this.#warn(`rows are not sorted by ${column} here, nor by what comes after it: only the database knows the order of ${type}`)
      this.#compare = comparison(order_by as readonly WireOrder[], columns, unknown)
    }
  }

  #sorted({ map }: Rows): readonly Entry[] {
    const entries = [...map.values()]
    const compare = this.#compare
    return compare ? entries.sort((a, b) => compare(a.raw, b.raw)) : entries
  }

  /** What is seen stays as it is until `settle`, whatever is applied meanwhile. */
  #hold(): void {
    if (this.#held) return
    this.#close()
    void this.entries
    this.#held = true
  }

  /** Makes one step of a diff of what changed. */
  #close(): void {
    const origin = this.#origin
    this.#origin = undefined
    if (this.#untold.size === 0) return
    const changes: EntryChange[] = []
    for (const [key, before] of this.#untold) {
      const after = this.#rows.map.get(key)
      if (before !== after) changes.push({ key, before, after })
    }
    this.#untold = new Map()
    if (changes.length === 0) return
    this.#diffs.push(changes)
    if (origin) this.#origins.set(changes, origin)
  }

  /** Other rows take the place of all there are. Those that are equal stay the same objects. */
  #replace(next: Rows): void {
    const { map } = this.#rows
    this.#origin = null
    for (const [key, entry] of map) if (!next.map.has(key)) this.#note(key, entry)
    for (const [key, entry] of next.map) {
      const before = this.#untold.has(key) ? this.#untold.get(key) : map.get(key)
      if (before && JSON.stringify(before.raw) === JSON.stringify(entry.raw)) next.map.set(key, before)
      else this.#note(key, map.get(key))
    }
    this.#rows = next
  }

  #note(key: unknown, before: Entry | undefined): void {
    if (!this.#untold.has(key)) this.#untold.set(key, before)
  }

  #keyOf(row: Row): unknown {
    const [name] = this.key
    const value = this.key.length > 1 ? this.key.map((part) => row[part]) : row[name!]
    return typeof value === 'object' ? JSON.stringify(value) : value
  }

  #put(rows: Rows, raw: Row, row: Row = this.#decode(raw)): void {
    let key: unknown
    if (this.key.length > 0) key = this.#keyOf(raw)
    else {
      const text = JSON.stringify(raw)
      const copies = (rows.copies.get(text) ?? 0) + 1
      rows.copies.set(text, copies)
      key = `${copies} ${text}`
    }
    if (rows === this.#rows) this.#note(key, rows.map.get(key))
    rows.map.set(key, { key, raw, row })
  }

  #drop(rows: Rows, key: unknown): void {
    const before = rows.map.get(key)
    if (before && rows === this.#rows) this.#note(key, before)
    rows.map.delete(key)
  }

  #apply(rows: Rows, change: WireChange, decoded: Row | undefined): boolean {
    const { op, old, unchanged = [] } = change
    if (op === 'truncate') {
      for (const key of [...rows.map.keys()]) this.#drop(rows, key)
      rows.copies.clear()
      return true
    }
    if (this.key.length === 0) {
      if (op !== 'insert') {
        // Equal rows are several rows: one of them goes.
        const text = JSON.stringify(old)
        const copies = rows.copies.get(text)
        if (!copies) return false
        this.#drop(rows, `${copies} ${text}`)
        if (copies > 1) rows.copies.set(text, copies - 1)
        else rows.copies.delete(text)
      }
      if (op !== 'delete') this.#put(rows, change.row!, decoded)
      return true
    }
    const key = this.#keyOf((change.key ?? change.row ?? old)!)
    const before = rows.map.get(key)
    // Nothing that the predicate reads has changed: what is not in the result stays out of it.
    if (change.as_before && !before) return true
    if (op === 'delete') {
      this.#drop(rows, key)
      return true
    }
    let raw = change.row
    let row = decoded
    if (!raw) {
      raw = (change.new_key ?? change.key)!
      row = undefined
      this.#warn('a row is larger than the server sends: only its key is known')
    } else if (unchanged.length > 0) {
      // Of a row that was not held these values are not known: they are left out, since they are not null.
      raw = { ...raw, ...pick(before?.raw, unchanged) }
      row = decoded === change.row ? raw : { ...decoded, ...pick(before?.row, unchanged) }
    }
    // A row keeps its place in the order unless its key changes.
    if (before && this.#keyOf(raw) !== key) this.#drop(rows, key)
    this.#put(rows, raw, row)
    return true
  }

  /** A row of other columns shows that the table has them now; the rows held here have no values of theirs. */
  #fits(row: Row, unchanged: readonly string[]): boolean {
    let known = 0
    for (const { name } of this.columns) if (name in row || unchanged.includes(name)) known++
    return known === this.columns.length && Object.keys(row).length + unchanged.length === known
  }
}

function pick(row: Row | undefined, names: readonly string[]): Row {
  const picked: Row = {}
  for (const name of names) if (row && name in row) picked[name] = row[name]
  return picked
}
