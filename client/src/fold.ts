import { WalcastError, misfit } from './error.js'
import type { Inside } from './inside.js'
import type { Column, Place, Tx, WireChange } from './protocol.js'
import { later } from './position.js'
import { type Fields, goOn, placeOf } from './request.js'
import type { Reader } from './results.js'
import type { Feed } from './session.js'
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
interface Rows {
  readonly map: Map<string, Entry>
  /** Of a table without a key: how often each row is there. Equal rows are told apart by a number. */
  readonly copies: Map<string, number>
}

const noRows = (): Rows => ({ map: new Map(), copies: new Map() })

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

/** The result of one query, kept by what the server says. */
export interface Fold extends Feed {
  /** The query as text: equal queries have equal ones. */
  readonly identity: string
  /** The fields of `subscribe` that say what is asked for. */
  readonly fields: Fields & { readonly table: string }
  status: Status
  error: WalcastError | undefined
  /** There has been a whole result. */
  filled: boolean
  /** Grows with each change of what is seen. */
  version: number
  /** Somebody wants to see the rows of the first snapshot as they come. */
  showsPartial: boolean
  /** It is looked for where results are stored. */
  isLoading: boolean
  /** Where the rows, or those that replace them, stand; undefined: only a snapshot can make it whole. */
  place: Place | undefined
  /** Where `entries` stands. */
  shown: Place | undefined
  key: readonly string[]
  columns: readonly Column[]
  /** Who reads it: equal queries share it. */
  readonly readers: Set<Reader>
  /** Nobody has read it since then. */
  idleSince: number
  /** The version that readers were told of. */
  told: number
  /** What is seen: the result as of `shown`. The same array until a row changed. */
  readonly entries: readonly Entry[]
  /** The rows of a snapshot that has not come to its end. */
  readonly partial: readonly Entry[]
  /** What was seen to change, apart from what is still to come: who tells of it empties the list. */
  readonly steps: Step[]
  /** The row of a key, of what is seen. */
  get(key: unknown): Entry | undefined
  /** Its place is good no more: all rows come anew, and these are seen until then. */
  restart(): void
  /** Begins again after an error. */
  revive(): void
  /** Forgets the rows: as if it had never begun. */
  forget(): void
  store(): Stored | undefined
  /** Takes what was stored of the same query, unless it has rows of its own. */
  load(stored: Stored): boolean
}

/**
 * Makes a fold. Pure: messages go in, rows come out.
 *
 * The one thing to know: `entries` moves by whole transactions only. What a part of one changed, or a catch-up that is under
 * way, is applied to rows that nobody sees until `settle`.
 */
export function makeFold(identity: string, fields: Fold['fields'], { decoderFor, warn, sort }: Pick<Inside, 'decoderFor' | 'warn' | 'sort'>): Fold {
  let isAsked = false
  let begun: Place | undefined
  let rows = noRows()
  /** The result that a snapshot builds anew, while `rows` is still seen. */
  let next: Rows | undefined
  let seen: readonly Entry[] | undefined
  /** `rows` has changes that are not to be seen yet. */
  let isHeld = false
  /** Of each row that changed since the last step, or while it is held since what is seen: what it was then. */
  const untold = new Map<string, Entry | undefined>()
  const steps: Step[] = []
  /** The transaction that all of `untold` is of; null if it is not of one. */
  let origin: Tx | null | undefined
  let decode: Decode = (raw) => raw
  /** Brings rows into the order of the query, where it has one; otherwise they are in that in which they came. */
  let sorted: ReturnType<Sort['sorter']>

  const say = (text: string): void => warn(fields.table, text)

  function is(status: Status): void {
    fold.status = status
    fold.version++
  }

  /** Takes what the server says of the table. */
  function describe(key: readonly string[], columns: readonly Column[]): void {
    fold.key = key
    fold.columns = columns
    decode = decoderFor(fields.table, columns)
    sorted = sort?.sorter(fields, columns, say)
  }

  function list({ map }: Rows): readonly Entry[] {
    const entries = [...map.values()]
    return sorted?.(entries) ?? entries
  }

  /** What is seen stays as it is until `settle`, whatever is applied meanwhile. */
  function hold(): void {
    if (isHeld) return
    close()
    void fold.entries
    isHeld = true
  }

  /** Makes one step of what changed. */
  function close(): void {
    const changes: EntryChange[] = []
    for (const [key, before] of untold) {
      const after = rows.map.get(key)
      if (before !== after) changes.push({ key, before, after })
    }
    if (changes.length > 0) steps.push({ changes, tx: origin ?? undefined })
    untold.clear()
    origin = undefined
  }

  /** Other rows take the place of all there are. Those that are equal stay the same objects. */
  function replace(others: Rows): void {
    next = seen = undefined
    origin = null
    for (const [key, entry] of rows.map) note(key, entry)
    for (const [key, entry] of others.map) {
      note(key, undefined)
      const before = untold.get(key)
      if (before && JSON.stringify(before.raw) === JSON.stringify(entry.raw)) others.map.set(key, before)
    }
    rows = others
  }

  function note(key: string, before: Entry | undefined): void {
    if (!untold.has(key)) untold.set(key, before)
  }

  const keyOf = (row: Row): string => keyText(fold.key.length > 1 ? fold.key.map((part) => row[part]) : row[fold.key[0]!])

  function put(raw: Row, row: Row = decode(raw)): void {
    if (fold.key.length > 0) return set(keyOf(raw), { raw, row })
    const { copies } = next ?? rows
    const text = JSON.stringify(raw)
    const count = (copies.get(text) ?? 0) + 1
    copies.set(text, count)
    set(`${count} ${text}`, { raw, row })
  }

  /** Has a row be this, or not be there. */
  function set(key: string, row?: { readonly raw: Row; readonly row: Row }): void {
    const { map } = next ?? rows
    if (!next) note(key, map.get(key))
    if (row) map.set(key, { key, ...row })
    else map.delete(key)
  }

  function apply(change: WireChange, decoded: Row | undefined): void {
    const { op, old, unchanged = [] } = change
    const { map, copies } = next ?? rows
    if (op === 'truncate') {
      for (const key of [...map.keys()]) set(key)
      return copies.clear()
    }
    if (fold.key.length === 0) {
      if (op !== 'insert') {
        // Equal rows are several rows: one of them goes.
        const text = JSON.stringify(old)
        const count = copies.get(text)
        if (!count) throw misfit()
        set(`${count} ${text}`)
        if (count > 1) copies.set(text, count - 1)
        else copies.delete(text)
      }
      if (op !== 'delete') put(change.row!, decoded)
      return
    }
    const key = keyOf((change.key ?? change.row ?? old)!)
    const before = map.get(key)
    // Nothing that the predicate reads has changed: what is not in the result stays out of it.
    if (!before && (change.as_before || op === 'delete')) return
    if (op === 'delete') return set(key)
    let raw = change.row
    let row = decoded
    if (!raw) {
      raw = (change.new_key ?? change.key)!
      row = undefined
      say('a row is larger than the server sends: only its key is known')
    } else if (unchanged.length > 0) {
      // Of a row that was not held these values are not known: they are left out, since they are not null.
      raw = { ...raw, ...pick(before?.raw, unchanged) }
      row = decoded === change.row ? raw : { ...decoded, ...pick(before?.row, unchanged) }
    }
    // A row keeps its place in the order unless its key changes.
    if (before && keyOf(raw) !== key) set(key)
    put(raw, row)
  }

  /** A row of other columns shows that the table has them now; the rows held here have no values of theirs. */
  const fits = (row: Row, unchanged: readonly string[]): boolean =>
    Object.keys(row).length + unchanged.length === fold.columns.length && fold.columns.every(({ name }) => name in row || unchanged.includes(name))

  const fold: Fold = {
    identity,
    fields,
    isResult: true,
    status: 'connecting',
    error: undefined,
    filled: false,
    version: 0,
    showsPartial: false,
    isLoading: false,
    place: undefined,
    shown: undefined,
    key: [],
    columns: [],
    readers: new Set(),
    idleSince: 0,
    told: 0,

    get entries() {
      return (seen ??= list(rows))
    },

    get partial() {
      return list(next ?? rows)
    },

    get steps() {
      if (!isHeld) close()
      return steps
    },

    get(key) {
      const name = keyText(key)
      return (isHeld && untold.has(name) ? untold : rows.map).get(name)
    },

    lacking: (hello) => sort?.lacking(fields, hello),

    request(epoch) {
      // A place of another epoch means nothing in this one.
      if (fold.place?.epoch !== epoch) fold.place = undefined
      isAsked = true
      return fold.place ? goOn(fold.place, fields) : { ...fields, snapshot: true }
    },

    accepted(message, epoch) {
      const { key, columns, warnings } = message
      if (fold.place && JSON.stringify([fold.key, fold.columns]) !== JSON.stringify([key, columns])) throw misfit()
      describe(key, columns)
      begun = placeOf(message, epoch)
      // Until `live` the rows of a snapshot have no place.
      if (fold.place) fold.place = begun
      else next = noRows()
      is(fold.filled ? 'catching-up' : 'snapshot')
      for (const warning of warnings) say(warning)
    },

    snapshot(rows) {
      for (const raw of rows) put(raw)
      if (fold.showsPartial && !fold.filled) fold.version++
    },

    take(changes, isWhole, tx) {
      const decoded = changes.map(({ op, row, key, old, oversize, unchanged = [] }) => {
        if (op === 'delete' ? !(key ?? old) : op !== 'truncate' && !row && !(oversize && key)) {
          throw new WalcastError('bad_frame', `the server sent a change that is none: ${op}`)
        }
        if (row && !fits(row, unchanged)) throw misfit()
        return row && decode(row)
      })
      // Whether it has the old row of a table without a key shows only on the way.
      if (!isWhole || fold.key.length === 0) hold()
      origin = !next && (origin === undefined || origin?.xid === tx.xid) ? tx : null
      changes.forEach((change, i) => apply(change, decoded[i]))
    },

    advance(position) {
      if (fold.place) fold.place = { ...fold.place, position: later(fold.place.position, position) }
    },

    live(position) {
      fold.place = { ...begun!, position }
    },

    settle(position) {
      if (next) replace(next)
      if (untold.size > 0) seen = undefined
      isHeld = false
      fold.shown = { ...fold.place!, position }
      fold.filled = true
      is('live')
    },

    lost() {
      // A snapshot that has not come to its end is of no use.
      if (!fold.place) next = undefined
      isAsked = false
      is(/error|connecting/.test(fold.status) ? fold.status : 'offline')
    },

    restart() {
      hold()
      fold.place = next = undefined
      is(fold.filled ? 'catching-up' : 'connecting')
    },

    fail(error) {
      fold.restart()
      fold.error = error
      fold.status = 'error'
      // A page that shows no errors shows nothing at all.
      say(error.message)
      // Rows that may not be seen any more go.
      if (error.code === 'forbidden') fold.forget()
    },

    revive() {
      fold.error = undefined
      is(fold.filled ? 'offline' : 'connecting')
    },

    forget() {
      replace(noRows())
      isHeld = fold.filled = false
      fold.place = fold.shown = undefined
      is(fold.error ? 'error' : 'connecting')
    },

    store() {
      const { key, columns, shown } = fold
      return shown && { query: identity, key, columns, rows: fold.entries.map(({ raw }) => raw), place: shown }
    },

    load({ query, key, columns, rows, place }) {
      if (fold.filled || isAsked || query !== identity) return false
      describe(key, columns)
      next = noRows()
      fold.snapshot(rows)
      fold.place = place
      fold.settle(place.position)
      fold.shown = place
      fold.status = 'catching-up'
      return true
    },
  }
  return fold
}

function pick(row: Row | undefined, names: readonly string[]): Row {
  const picked: Row = {}
  for (const name of names) if (row && name in row) picked[name] = row[name]
  return picked
}
