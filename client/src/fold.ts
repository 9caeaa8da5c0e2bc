import { WalcastError, misfit } from './error.js'
import type { Inside } from './inside.js'
import type { Column, Hello, Place, Subscribed, Tx, WireChange } from './protocol.js'
import { type Position, later } from './position.js'
import { type Fields, goOn, placeOf } from './request.js'
import type { Reader } from './results.js'
import type { Sort } from './sort.js'
import type { Decode, Row } from './values.js'

/** A row of the result. `raw` is as it came, `row` as the application gets it. */
export interface Entry {
  /** Its key as text. */
  readonly key: string
  readonly raw: Row
  readonly row: Row
}

export type Status = 'connecting' | 'snapshot' | 'catching-up' | 'live' | 'offline' | 'error'

/** What became of one row; `before` is undefined if it was not there, `after` if it is not there any more. */
export interface EntryChange {
  readonly key: string
  readonly before: Entry | undefined
  readonly after: Entry | undefined
}

/** What was seen to change at once. */
export interface Step {
  readonly changes: readonly EntryChange[]
  /** The transaction that it is; undefined if it is several, or a result that replaced another. */
  readonly tx: Tx | undefined
}

/** The rows of one result by their keys, in the order in which they came. */
class Rows {
  readonly map = new Map<string, Entry>()
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

/** A key as text: the same for `1`, `1n` and `"1"`, since a bigint may come as any of them. */
export const keyText = (key: unknown): string =>
  typeof key === 'object' ? JSON.stringify(key, (_, part: unknown) => (typeof part === 'bigint' ? String(part) : part)) : String(key)

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
  /** Who reads it: equal queries share it. */
  readonly readers: Set<Reader> = new Set()
  /** Nobody has read it since then. */
  idleSince = 0
  /** The version that readers were told of. */
  told = 0

  #isAsked = false
  #begun: Place | undefined
  #rows = new Rows()
  /** The result that a snapshot builds anew, while `rows` is still seen. */
  #next: Rows | undefined
  #seen: readonly Entry[] | undefined
  /** `rows` has changes that are not to be seen yet. */
  #isHeld = false
  /** Of each row that changed since the last step, or while it is held since what is seen: what it was then. */
  #untold = new Map<string, Entry | undefined>()
  readonly #steps: Step[] = []
  /** The transaction that all of `#untold` is of; null if it is not of one. */
  #tx: Tx | null | undefined
  #decode: Decode = (raw) => raw
  /** Brings rows into the order of the query, where it has one; otherwise they are in that in which they came. */
  #sort: ReturnType<Sort['sorter']>

  /** The query as text: equal queries have equal ones. */
  readonly identity: string
  /** The fields of `subscribe` that say what is asked for. */
  readonly fields: Fields & { readonly table: string }
  readonly #inside: Pick<Inside, 'decoderFor' | 'warn' | 'sort'>

  constructor(
    identity: string,
    fields: Fields & { readonly table: string },
    inside: Pick<Inside, 'decoderFor' | 'warn' | 'sort'>,
  ) {
    this.identity = identity
    this.fields = fields
    this.#inside = inside
  }

  lacking(hello: Hello): WalcastError | undefined {
    return this.#inside.sort?.lacking(this.fields, hello)
  }

  /** The fields of the `subscribe` that makes it whole, in this epoch. */
  request(epoch: string): Fields {
    // A place of another epoch means nothing in this one.
    if (this.place?.epoch !== epoch) this.place = undefined
    this.#isAsked = true
    return this.place ? goOn(this.place, this.fields) : { ...this.fields, snapshot: true }
  }

  /** Throws if the rows it has are not those of this table any more: it has to begin anew. */
  accepted(message: Subscribed, epoch: string): void {
    const { key, columns, warnings } = message
    if (this.place && JSON.stringify([this.key, this.columns]) !== JSON.stringify([key, columns])) throw misfit()
    this.#describe(key, columns)
    this.#begun = placeOf(message, epoch)
    // Until `live` the rows of a snapshot have no place.
    if (this.place) this.place = this.#begun
    else this.#next = new Rows()
    this.#is(this.filled ? 'catching-up' : 'snapshot')
    for (const warning of warnings) this.#warn(warning)
  }

  snapshot(rows: readonly Row[]): void {
    for (const raw of rows) this.#put(raw)
    if (this.showsPartial && !this.filled) this.version++
  }

  /** The rows of a snapshot that has not come to its end. */
  get partial(): readonly Entry[] {
    return this.#sorted(this.#next ?? this.#rows)
  }

  /**
   * Applies changes. If they are not the whole of what has come (`isWhole` false), they are not to be seen yet.
   * Throws if its rows cannot be what the server's are: it has to begin anew. Otherwise, if it throws, nothing was applied.
   */
  take(changes: readonly WireChange[], isWhole: boolean, tx: Tx): void {
    const decoded = changes.map(({ op, row, key, old, oversize, unchanged = [] }) => {
      if (op === 'delete' ? !(key ?? old) : op !== 'truncate' && !row && !(oversize && key)) {
        throw new WalcastError('bad_frame', `the server sent a change that is none: ${op}`)
      }
      if (row && !this.#fits(row, unchanged)) throw misfit()
      return row && this.#decode(row)
    })
    // Whether it has the old row of a table without a key shows only on the way.
    if (!isWhole || this.key.length === 0) this.#hold()
    this.#tx = !this.#next && (this.#tx === undefined || this.#tx?.xid === tx.xid) ? tx : null
    changes.forEach((change, i) => this.#apply(change, decoded[i]))
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
    if (this.#next) this.#replace(this.#next)
    if (this.#untold.size > 0) this.#seen = undefined
    this.#isHeld = false
    this.shown = { ...this.place!, position }
    this.filled = true
    this.#is('live')
  }

  /** The connection is gone. A snapshot that has not come to its end is of no use. */
  lost(): void {
    if (!this.place) this.#next = undefined
    this.#isAsked = false
    this.#is(/error|connecting/.test(this.status) ? this.status : 'offline')
  }

  /** Its place is good no more: all rows come anew, and these are seen until then. */
  restart(): void {
    this.#hold()
    this.place = this.#next = undefined
    this.#is(this.filled ? 'catching-up' : 'connecting')
  }

  /** Ends with an error. Rows that may not be seen any more go. */
  fail(error: WalcastError): void {
    this.restart()
    this.error = error
    this.status = 'error'
    // A page that shows no errors shows nothing at all.
    this.#warn(error.message)
    if (error.code === 'forbidden') this.forget()
  }

  /** Begins again after an error. */
  revive(): void {
    this.error = undefined
    this.#is(this.filled ? 'offline' : 'connecting')
  }

  /** Forgets the rows: as if it had never begun. */
  forget(): void {
    this.#replace(new Rows())
    this.#isHeld = this.filled = false
    this.place = this.shown = undefined
    this.#is(this.error ? 'error' : 'connecting')
  }

  /** What is seen: the result as of `shown`. The same array until a row changed. */
  get entries(): readonly Entry[] {
    return (this.#seen ??= this.#sorted(this.#rows))
  }

  /** The row of a key, of what is seen. */
  get(key: unknown): Entry | undefined {
    const name = keyText(key)
    return (this.#isHeld && this.#untold.has(name) ? this.#untold : this.#rows.map).get(name)
  }

  /** What was seen to change, apart from what is still to come: who tells of it empties the list. */
  get steps(): Step[] {
    if (!this.#isHeld) this.#close()
    return this.#steps
  }

  store(): Stored | undefined {
    const { identity, key, columns, shown } = this
    return shown && { query: identity, key, columns, rows: this.entries.map(({ raw }) => raw), place: shown }
  }

  /** Takes what was stored of the same query, unless it has rows of its own. */
  load({ query, key, columns, rows, place }: Stored): boolean {
    if (this.filled || this.#isAsked || query !== this.identity) return false
    this.#describe(key, columns)
    this.#next = new Rows()
    this.snapshot(rows)
    this.place = place
    this.settle(place.position)
    this.shown = place
    this.status = 'catching-up'
    return true
  }

  #warn(text: string): void {
    this.#inside.warn(this.fields.table, text)
  }

  #is(status: Status): void {
    this.status = status
    this.version++
  }

  /** Takes what the server says of the table. */
  #describe(key: readonly string[], columns: readonly Column[]): void {
    this.key = key
    this.columns = columns
    const { decoderFor, sort } = this.#inside
    this.#decode = decoderFor(this.fields.table, columns)
    this.#sort = sort?.sorter(this.fields, columns, (text) => this.#warn(text))
  }

  #sorted({ map }: Rows): readonly Entry[] {
    const entries = [...map.values()]
    return this.#sort?.(entries) ?? entries
  }

  /** What is seen stays as it is until `settle`, whatever is applied meanwhile. */
  #hold(): void {
    if (this.#isHeld) return
    this.#close()
    void this.entries
    this.#isHeld = true
  }

  /** Makes one step of what changed. */
  #close(): void {
    const changes: EntryChange[] = []
    for (const [key, before] of this.#untold) {
      const after = this.#rows.map.get(key)
      if (before !== after) changes.push({ key, before, after })
    }
    if (changes.length > 0) this.#steps.push({ changes, tx: this.#tx ?? undefined })
    this.#untold.clear()
    this.#tx = undefined
  }

  /** Other rows take the place of all there are. Those that are equal stay the same objects. */
  #replace(next: Rows): void {
    this.#next = this.#seen = undefined
    this.#tx = null
    for (const [key, entry] of this.#rows.map) this.#note(key, entry)
    for (const [key, entry] of next.map) {
      this.#note(key, undefined)
      const before = this.#untold.get(key)
      if (before && JSON.stringify(before.raw) === JSON.stringify(entry.raw)) next.map.set(key, before)
    }
    this.#rows = next
  }

  #note(key: string, before: Entry | undefined): void {
    if (!this.#untold.has(key)) this.#untold.set(key, before)
  }

  #keyOf(row: Row): string {
    return keyText(this.key.length > 1 ? this.key.map((part) => row[part]) : row[this.key[0]!])
  }

  #put(raw: Row, row: Row = this.#decode(raw)): void {
    if (this.key.length > 0) return this.#set(this.#keyOf(raw), raw, row)
    const { copies } = this.#next ?? this.#rows
    const text = JSON.stringify(raw)
    const count = (copies.get(text) ?? 0) + 1
    copies.set(text, count)
    this.#set(`${count} ${text}`, raw, row)
  }

  /** Has a row be this, or not be there. */
  #set(key: string, raw?: Row, row: Row = raw!): void {
    const { map } = this.#next ?? this.#rows
    if (!this.#next) this.#note(key, map.get(key))
    if (raw) map.set(key, { key, raw, row })
    else map.delete(key)
  }

  #apply(change: WireChange, decoded: Row | undefined): void {
    const { op, old, unchanged = [] } = change
    const { map, copies } = this.#next ?? this.#rows
    if (op === 'truncate') {
      for (const key of [...map.keys()]) this.#set(key)
      return copies.clear()
    }
    if (this.key.length === 0) {
      if (op !== 'insert') {
        // Equal rows are several rows: one of them goes.
        const text = JSON.stringify(old)
        const count = copies.get(text)
        if (!count) throw misfit()
        this.#set(`${count} ${text}`)
        if (count > 1) copies.set(text, count - 1)
        else copies.delete(text)
      }
      if (op !== 'delete') this.#put(change.row!, decoded)
      return
    }
    const key = this.#keyOf((change.key ?? change.row ?? old)!)
    const before = map.get(key)
    // Nothing that the predicate reads has changed: what is not in the result stays out of it.
    if (!before && (change.as_before || op === 'delete')) return
    if (op === 'delete') return this.#set(key)
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
    if (before && this.#keyOf(raw) !== key) this.#set(key)
    this.#put(raw, row)
  }

  /** A row of other columns shows that the table has them now; the rows held here have no values of theirs. */
  #fits(row: Row, unchanged: readonly string[]): boolean {
    return Object.keys(row).length + unchanged.length === this.columns.length && this.columns.every(({ name }) => name in row || unchanged.includes(name))
  }
}

function pick(row: Row | undefined, names: readonly string[]): Row {
  const picked: Row = {}
  for (const name of names) if (row && name in row) picked[name] = row[name]
  return picked
}
