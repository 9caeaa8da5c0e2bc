/** Every change of the tables as it comes, grouped by transaction. Pure: events go in, lines come out. */
import type { Change, ChangeEvent } from '@walcast/client'
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
  readonly xid: number
  /** The time of the commit, in milliseconds. */
  readonly at: number
  readonly ts: string
  changes: StreamChange[]
}

/** Something that was not seen, said between the transactions. */
export interface Gap {
  readonly text: string
}

export type Entry = StreamTransaction | Gap

export interface Filter {
  /** Undefined: all. */
  readonly table: string | undefined
  readonly ops: ReadonlySet<Op>
  readonly xid: string
}

/** A line of the list: the head of a transaction, one of its changes, or a gap. */
export interface StreamLine {
  readonly entry: Entry
  readonly change: StreamChange | undefined
}

/** Changes that are kept. */
const MOST = 5000
/** Transactions whose further parts are put where they belong. */
const OPEN = 64

type Tx = Extract<ChangeEvent<Row>, { type: 'tx' }>

export class Feed {
  /** The oldest first. */
  #entries: Entry[] = []
  #changes = 0
  #waiting: Entry[] | undefined
  /** Changes that came while the view stood still. */
  missed = 0
  /** More came of a transaction that was there: until somebody has seen that. */
  isMerged = false
  /** Changes that came, ever. */
  total = 0

  get isPaused(): boolean {
    return this.#waiting !== undefined
  }

  pause(): void {
    this.#waiting ??= []
  }

  resume(): void {
    const waiting = this.#waiting ?? []
    this.#waiting = undefined
    this.missed = 0
    for (const entry of waiting) this.#add(entry)
  }

  clear(): void {
    this.#entries = []
    this.#changes = 0
    if (this.#waiting) this.#waiting = []
    this.missed = 0
  }

  gap(text: string): void {
    this.#add({ text })
  }

  /** Takes a part of a transaction, of one table. */
  take(table: string, { position, xid, ts, changes }: Tx): void {
    const end = position.split(':', 1)[0]!
    const own = changes.map((change) => streamChange(table, change))
    this.total += own.length
    const list = this.#waiting ?? this.#entries
    if (this.#waiting) this.missed += own.length
    for (let i = list.length - 1; i >= Math.max(0, list.length - OPEN); i--) {
      const entry = list[i]!
      if (!('changes' in entry) || entry.position !== end) continue
      // Several tables tell of the same transaction, each its own changes.
      entry.changes = [...entry.changes, ...own].sort((a, b) => a.seq - b.seq)
      if (!this.#waiting) {
        this.#changes += own.length
        this.isMerged = true
      }
      return this.#trim()
    }
    this.#add({ position: end, xid, at: Date.parse(ts), ts, changes: own })
  }

  /** The lines that a filter lets through, the newest transaction first. */
  lines({ table, ops, xid }: Filter): StreamLine[] {
    const found: StreamLine[] = []
    for (let i = this.#entries.length - 1; i >= 0; i--) {
      const entry = this.#entries[i]!
      if (!('changes' in entry)) {
        found.push({ entry, change: undefined })
        continue
      }
      if (xid !== '' && String(entry.xid) !== xid) continue
      const changes = entry.changes.filter((change) => (table === undefined || change.table === table) && ops.has(change.op))
      if (changes.length === 0) continue
      found.push({ entry, change: undefined })
      for (const change of changes) found.push({ entry, change })
    }
    return found
  }

  #add(entry: Entry): void {
    const list = this.#waiting ?? this.#entries
    list.push(entry)
    if (this.#waiting) {
      // More than is shown need not wait.
      if (list.length > MOST) list.shift()
      return
    }
    if ('changes' in entry) this.#changes += entry.changes.length
    this.#trim()
  }

  #trim(): void {
    let gone = 0
    while (this.#changes > MOST && gone < this.#entries.length - 1) {
      const entry = this.#entries[gone++]!
      if ('changes' in entry) this.#changes -= entry.changes.length
    }
    if (gone > 0) this.#entries.splice(0, gone)
  }
}

function streamChange(table: string, change: Change<Row>): StreamChange {
  const { op, seq } = change
  if (op === 'oversize') return { table, seq, op: change.of, row: undefined, old: undefined, key: change.newKey ?? change.key, isOversize: true }
  const row = 'row' in change ? change.row : undefined
  const old = 'old' in change ? change.old : undefined
  const key = 'key' in change ? change.key : undefined
  return { table, seq, op, row, old, key, isOversize: false }
}

/** What changed, in a few words: of an update the columns that are known to differ. */
export function changedColumns({ row, old }: StreamChange): string[] {
  if (!row || !old) return []
  return Object.keys(row).filter((name) => name in old && JSON.stringify(row[name]) !== JSON.stringify(old[name]))
}

/** Lines of JSON, one for each change, the oldest first. */
export function ndjson(lines: readonly StreamLine[]): string {
  const texts: string[] = []
  let of: StreamTransaction | undefined
  let own: string[] = []
  for (const { entry, change } of lines) {
    if (!change || !('changes' in entry)) continue
    if (entry !== of) {
      texts.unshift(...own)
      own = []
      of = entry
    }
    const { position, xid, ts } = entry
    const { table, seq, op, row, old, key, isOversize } = change
    own.push(JSON.stringify({ position, xid, ts, seq, table, op, row, old, key, ...(isOversize && { oversize: true }) }))
  }
  texts.unshift(...own)
  return texts.map((text) => `${text}\n`).join('')
}
