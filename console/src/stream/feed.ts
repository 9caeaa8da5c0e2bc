/** Every change of the tables as it comes, grouped by transaction. Pure: events go in, lines come out. */
import type { Change, ChangeEvent } from '@walcast/client'
import { comparePositions } from '@walcast/client/position.js'
import type { Row } from '../grid/rows.js'

export type Op = 'insert' | 'update' | 'delete' | 'truncate'
export const OPS: readonly Op[] = ['insert', 'update', 'delete', 'truncate']

export interface StreamChange {
  readonly table: string
  readonly seq: number
  readonly op: Op
  readonly row: Row | undefined
  /** The row before, as far as the log holds it. */
  readonly old: Row | undefined
  readonly key: Row | undefined
  readonly isOversize: boolean
}

export interface StreamTransaction {
  /** The end of its commit. */
  readonly position: string
  /** Which history the position is of: 0 for the first that was seen. */
  readonly history: number
  readonly xid: number
  /** The time of the commit, in milliseconds. */
  readonly at: number
  readonly ts: string
  /** Its first changes, in their order. */
  changes: StreamChange[]
  /** Changes that came and are not kept: how many of each operation and table. */
  readonly dropped: Map<string, Dropped>
}

interface Dropped {
  readonly table: string
  readonly op: Op
  count: number
}

/** Something that was not seen, said between the transactions. */
export interface Gap {
  readonly text: string
  /** The transaction that was the last one when it came; undefined if there was none. */
  after?: Mark | undefined
}

/** Where a transaction stands. */
type Mark = Pick<StreamTransaction, 'position' | 'history'>

export type Entry = StreamTransaction | Gap

export interface Filter {
  /** Undefined: all. */
  readonly table: string | undefined
  readonly ops: ReadonlySet<Op>
  readonly xid: string
}

/** A line of the list: the head of a transaction, one of its changes, how many more it has, or a gap. */
export interface StreamLine {
  readonly entry: Entry
  readonly change: StreamChange | undefined
  /** So many changes came that are not kept. */
  readonly more?: number
}

/** Changes that are kept of all transactions, and of each. */
const MOST = 5000
const MOST_OF_ONE = 1000

type Tx = Extract<ChangeEvent<Row>, { type: 'tx' }>

/** All changes of a transaction, also those that are not kept. */
export const sizeOf = ({ changes, dropped }: StreamTransaction): number => [...dropped.values()].reduce((sum, { count }) => sum + count, changes.length)

export const isSameLine = (a: StreamLine | undefined, b: StreamLine | undefined): boolean =>
  a !== undefined && b !== undefined && a.entry === b.entry && a.change === b.change && (a.more === undefined) === (b.more === undefined)

export class Feed {
  #shown = new Entries()
  #waiting: Entries | undefined
  /** Epochs in the order in which they were seen: positions compare within one only. */
  readonly #histories = new Map<string, number>()
  /** Changes that came while the view stood still. */
  missed = 0
  /** Something came that does not stand first: until somebody has seen that. */
  isMerged = false
  /** Changes that came, ever. */
  total = 0

  get isPaused(): boolean {
    return this.#waiting !== undefined
  }

  pause(): void {
    this.#waiting ??= new Entries()
  }

  resume(): void {
    const waiting = this.#waiting
    this.#waiting = undefined
    this.missed = 0
    for (const entry of waiting?.all ?? []) this.#add(entry)
  }

  gap(text: string): void {
    this.#add({ text })
  }

  /** Takes a part of a transaction, of one table. */
  take(table: string, { position, xid, ts, changes, place: { epoch } }: Tx): void {
    this.total += changes.length
    if (this.#waiting) this.missed += changes.length
    let history = this.#histories.get(epoch)
    if (history === undefined) this.#histories.set(epoch, (history = this.#histories.size))
    const own = changes.map((change) => streamChange(table, change))
    this.#add({ position: position.split(':', 1)[0]!, history, xid, at: Date.parse(ts), ts, changes: own, dropped: new Map() })
  }

  /** The lines that a filter lets through, the newest transaction first. */
  lines({ table, ops, xid }: Filter): StreamLine[] {
    const found: StreamLine[] = []
    const { all } = this.#shown
    for (let i = all.length - 1; i >= 0; i--) {
      const entry = all[i]!
      if (!('changes' in entry)) {
        found.push({ entry, change: undefined })
        continue
      }
      if (xid !== '' && String(entry.xid) !== xid) continue
      const isWanted = (one: { readonly table: string; readonly op: Op }): boolean => (table === undefined || one.table === table) && ops.has(one.op)
      const changes = entry.changes.filter(isWanted)
      let more = 0
      for (const one of entry.dropped.values()) if (isWanted(one)) more += one.count
      if (changes.length === 0 && more === 0) continue
      found.push({ entry, change: undefined })
      for (const change of changes) found.push({ entry, change })
      if (more > 0) found.push({ entry, change: undefined, more })
    }
    return found
  }

  #add(entry: Entry): void {
    const isLast = (this.#waiting ?? this.#shown).add(entry)
    if (!this.#waiting && !isLast) this.isMerged = true
  }
}

/** Transactions in the order of their commits, and gaps between them; of all no more than `MOST` changes. */
class Entries {
  /** The oldest first. */
  readonly all: Entry[] = []
  readonly #known = new Map<string, StreamTransaction>()
  #size = 0
  /** The newest transaction that is not kept any more. */
  #edge: Mark | undefined

  /** Returns whether it is a new entry that stands last. */
  add(entry: Entry): boolean {
    if (!('changes' in entry)) {
      const newest = this.all.at(-1)
      entry.after = newest && markOf(newest)
      this.all.push(entry)
      this.#size++
      this.#trim()
      return true
    }
    const id = idOf(entry)
    const known = this.#known.get(id)
    if (known) {
      // Several tables tell of the same transaction, each its own changes, and a large one comes in parts.
      this.#size -= known.changes.length
      join(known, entry)
      this.#size += known.changes.length
      this.#trim()
      return false
    }
    // A further part of what was forgotten would look like all of it.
    if (this.#edge && order(this.#edge, entry) >= 0) return true
    keepFirst(entry)
    const at = this.#placeOf(entry)
    const isLast = at === this.all.length
    this.all.splice(at, 0, entry)
    this.#known.set(id, entry)
    this.#size += entry.changes.length
    this.#trim()
    return isLast
  }

  /** The index behind everything that was committed before: after a reconnect tables are read one after the other. */
  #placeOf(entry: StreamTransaction): number {
    let [from, to] = [0, this.all.length]
    while (from < to) {
      const middle = (from + to) >> 1
      const other = this.all[middle]!
      const mark = markOf(other)
      if (mark === undefined || order(mark, entry) < 0) from = middle + 1
      else to = middle
    }
    return from
  }

  #trim(): void {
    let gone = 0
    while (this.#size > MOST && gone < this.all.length - 1) {
      const entry = this.all[gone++]!
      if ('changes' in entry) this.#known.delete(idOf(entry))
      this.#edge = markOf(entry) ?? this.#edge
      this.#size -= 'changes' in entry ? entry.changes.length : 1
    }
    if (gone > 0) this.all.splice(0, gone)
  }
}

const idOf = ({ history, position }: StreamTransaction): string => `${history} ${position}`
const markOf = (entry: Entry): Mark | undefined => ('changes' in entry ? entry : entry.after)
const order = (a: Mark, b: Mark): number => a.history - b.history || comparePositions(a.position, b.position)

/** Adds a further part to a transaction, by `seq`. Both are in that order already. */
function join(known: StreamTransaction, { changes: own, dropped }: StreamTransaction): void {
  for (const { table, op, count } of dropped.values()) drop(known, table, op, count)
  const before = known.changes
  const last = before.at(-1)
  if (!last || !own[0] || own[0].seq > last.seq) {
    for (const change of own) {
      if (before.length < MOST_OF_ONE) before.push(change)
      else drop(known, change.table, change.op, 1)
    }
    return
  }
  const merged: StreamChange[] = []
  for (let i = 0, j = 0; i < before.length || j < own.length; ) {
    const isOwn = i === before.length || (j < own.length && own[j]!.seq < before[i]!.seq)
    merged.push(isOwn ? own[j++]! : before[i++]!)
  }
  known.changes = merged
  keepFirst(known)
}

function keepFirst(entry: StreamTransaction): void {
  for (const { table, op } of entry.changes.splice(MOST_OF_ONE)) drop(entry, table, op, 1)
}

function drop({ dropped }: StreamTransaction, table: string, op: Op, count: number): void {
  const id = `${op} ${table}`
  const known = dropped.get(id)
  if (known) known.count += count
  else dropped.set(id, { table, op, count })
}

function streamChange(table: string, change: Change<Row>): StreamChange {
  const { op, seq } = change
  if (op === 'oversize') return { table, seq, op: change.of, row: undefined, old: undefined, key: change.newKey ?? change.key, isOversize: true }
  const row = 'row' in change ? change.row : undefined
  const old = 'old' in change ? change.old : undefined
  const key = 'key' in change ? change.key : undefined
  return { table, seq, op, row, old, key, isOversize: false }
}

/** The columns of an update that are known to differ. */
export function changedColumns({ row, old }: StreamChange): string[] {
  if (!row || !old) return []
  return Object.keys(row).filter((name) => name in old && JSON.stringify(row[name]) !== JSON.stringify(old[name]))
}

/** Lines of JSON, one for each change, the oldest first. */
export function ndjson(lines: readonly StreamLine[]): string {
  const transactions: string[] = []
  let of: StreamTransaction | undefined
  let own = ''
  for (const { entry, change } of lines) {
    if (!change || !('changes' in entry)) continue
    if (entry !== of) {
      transactions.push(own)
      own = ''
      of = entry
    }
    const { position, xid, ts } = entry
    const { table, seq, op, row, old, key, isOversize } = change
    own += `${JSON.stringify({ position, xid, ts, seq, table, op, row, old, key, ...(isOversize && { oversize: true }) })}\n`
  }
  transactions.push(own)
  return transactions.reverse().join('')
}
