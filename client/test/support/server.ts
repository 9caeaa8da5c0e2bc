import type { FakeSocket } from './platform.js'
import { type Match, parseWhere } from './where.js'

/** A row of the reference server: `id` is the key, `grp` and `amount` are what predicates read, `note` is long. */
export interface Line {
  id: number
  grp: string
  amount: number
  note: string | null
}

export interface RowChange {
  table: string
  old?: Line
  row?: Line
  truncate?: true
}

interface Commit {
  position: number
  xid: number
  changes: RowChange[]
}

type Tables = Map<string, Line[]>

/** Tables without a key: their rows have no `id` that anybody may rely on. */
export const KEYLESS = new Set(['log'])
const COLUMNS = [
  { name: 'id', type: 'integer' },
  { name: 'grp', type: 'text' },
  { name: 'amount', type: 'integer' },
  { name: 'note', type: 'text' },
]

export const lsn = (position: number): string => `0/${position.toString(16).toUpperCase()}`

export type Order = readonly { readonly column: string; readonly desc?: boolean; readonly nulls?: 'first' | 'last' }[]

/** Compares the values that an order's columns have in two rows, as ORDER BY does. */
export function compareBy(order: Order, a: readonly unknown[], b: readonly unknown[]): number {
  for (const [i, { desc = false, nulls }] of order.entries()) {
    const [x, y] = [a[i] as number | string | null, b[i] as number | string | null]
    if (x === y) continue
    if (x === null || y === null) return (x === null) === (nulls === undefined ? desc : nulls === 'first') ? -1 : 1
    return x < y !== desc ? -1 : 1
  }
  return 0
}

export const valuesBy = (order: Order, row: Line): unknown[] => order.map(({ column }) => row[column as keyof Line])

/** The rows up to a bound, with those that tie with it; null: all. */
const within = (order: Order, bound: readonly unknown[] | null, row: Line): boolean => bound === null || compareBy(order, valuesBy(order, row), bound) <= 0

const predicates = new Map<string, Match>()

/** A predicate over the columns of the tables. Throws with `offset` if it is none. */
function predicate(where: string): (row: Line, params: readonly any[]) => boolean {
  const match = predicates.get(where) ?? parseWhere(where, COLUMNS.map(({ name }) => name))
  predicates.set(where, match)
  return (row, params) => match(row as never, params) === true
}

/** One unbroken history. */
class History {
  readonly commits: Commit[] = []
  readonly states: Tables[]
  /** Commits before this one are pruned. */
  earliest = 0
  constructor(
    readonly epoch: string,
    readonly start: number,
    tables: Tables,
  ) {
    this.states = [tables]
  }

  /** The end of the first `count` commits. */
  end(count: number): number {
    return count === 0 ? this.start : this.commits[count - 1]!.position
  }
}

/** Where something stands: behind so many commits, and behind so many changes of the next one. */
interface Cursor {
  commits: number
  changes: number
}

interface Sub {
  id: string
  table: string
  match: (row: Line) => boolean
  phase: 'joining' | 'live'
  cursor: Cursor
  snapshot: Line[] | undefined
  isAccepted: boolean
  /** Of an order. */
  bound: readonly unknown[] | null | undefined
}

/** What the tests choose by: a number below `n`. */
export type Choose = (n: number) => number

/** One connection. Nothing is said but by `step`, one frame at a time. */
export class Connection {
  readonly #subs = new Map<string, Sub>()
  readonly #answers: unknown[] = []
  readonly #reaches: { ref: unknown; reach: number }[] = []
  cursor: Cursor
  isOver = false
  #wasGreeted = false

  constructor(
    readonly server: ReferenceServer,
    readonly socket: FakeSocket,
  ) {
    this.cursor = { commits: server.history.commits.length, changes: 0 }
    socket.onMessage = (message) => this.#hear(message)
    socket.onLeft = () => (this.isOver = true)
    socket.accept()
  }

  get #history(): History {
    return this.server.history
  }

  #position({ commits, changes }: Cursor): string {
    if (changes === 0) return lsn(this.#history.end(commits))
    return `${lsn(this.#history.commits[commits]!.position)}:${changes - 1}`
  }

  #hear(message: any): void {
    const { server } = this
    switch (message.type) {
      case 'ping':
        if (message.reach === undefined) this.#answers.push({ type: 'pong', ref: message.ref })
        else this.#reaches.push({ ref: message.ref, reach: parseInt(message.reach.split('/')[1], 16) })
        return
      case 'unsubscribe':
        if (this.#subs.delete(message.id)) this.#answers.push({ type: 'unsubscribed', id: message.id })
        return
      case 'subscribe': {
        const { id, table, where, params = [], snapshot, from, epoch, order_by: order, limit } = message
        let { bound } = message
        const refuse = (code: string, more = {}): void => void this.#answers.push({ type: 'error', code, message: code, id, ...more })
        if (this.#subs.has(id)) return void this.#answers.push({ type: 'error', code: 'duplicate_id', message: 'the id is in use' })
        if (!server.tables.includes(table)) return refuse('unknown_table')
        let match: (row: Line, params: readonly any[]) => boolean = () => true
        try {
          if (where !== undefined) match = predicate(where)
          if (server.refused?.test(where)) throw { offset: where.search(server.refused) }
        } catch (error) {
          return refuse('bad_predicate', { offset: (error as { offset: number }).offset })
        }
        if (order ? (limit === undefined) === (bound === undefined) : limit !== undefined || bound !== undefined) return refuse('bad_request')
        if (limit !== undefined && !snapshot) return refuse('bad_request')
        if (server.busy > 0) {
          server.busy--
          return refuse('internal')
        }
        server.subscribes++
        if (snapshot) server.snapshots++
        let cursor: Cursor = { commits: this.#history.commits.length, changes: 0 }
        if (from !== undefined) {
          if (epoch !== this.#history.epoch) return refuse('resume_invalid')
          const [end, seq] = from.slice(2).split(':')
          const position = parseInt(end, 16)
          const commits = this.#history.commits.filter((commit) => (seq === undefined ? commit.position <= position : commit.position < position)).length
          if (commits < this.#history.earliest) return refuse('resume_expired', { earliest: lsn(this.#history.end(this.#history.earliest)) })
          cursor = { commits, changes: seq === undefined ? 0 : Number(seq) + 1 }
        }
        const isIn = (row: Line): boolean => match(row, params)
        if (limit !== undefined) {
          const last = this.#history.states[cursor.commits]!.get(table)!.filter(isIn).map((row) => valuesBy(order, row)).sort((a, b) => compareBy(order, a, b))[limit - 1]
          bound = last ?? null
        }
        const own = (row: Line): boolean => isIn(row) && (!order || within(order, bound, row))
        const rows = this.#history.states[cursor.commits]!.get(table)!.filter(own)
        this.#subs.set(id, { id, table, match: own, phase: 'joining', cursor, snapshot: snapshot ? rows : undefined, isAccepted: false, bound })
      }
    }
  }

  /** Says the next frame, if there is one. */
  step(choose: Choose): boolean {
    if (this.isOver || !this.socket.isOpen) return false
    const frame = this.#next(choose)
    if (frame) this.socket.say(frame)
    return frame !== undefined
  }

  #next(choose: Choose): unknown {
    const history = this.#history
    if (!this.#wasGreeted) {
      this.#wasGreeted = true
      const { epoch } = history
      return { type: 'hello', protocol: 1, server: 'reference', database: 'app', epoch, position: this.#position(this.cursor), earliest: lsn(history.end(history.earliest)), features: this.server.features }
    }
    if (this.#answers.length > 0) return this.#answers.shift()
    const joining = [...this.#subs.values()].filter(({ phase }) => phase === 'joining')
    // The others may go on before it is there.
    if (joining.length > 0 && choose(3) > 0) {
      const frame = this.#join(joining[choose(joining.length)]!, choose)
      if (frame) return frame
    }
    const frame = this.#advance(choose)
    if (frame) return frame
    for (const sub of joining) {
      const frame = this.#join(sub, choose)
      if (frame) return frame
    }
    return this.#pong()
  }

  #pong(): unknown {
    if (this.cursor.changes > 0 || [...this.#subs.values()].some(({ phase }) => phase !== 'live')) return undefined
    const at = this.#history.end(this.cursor.commits)
    const i = this.#reaches.findIndex(({ reach }) => reach <= at)
    if (i < 0) return undefined
    const { ref } = this.#reaches.splice(i, 1)[0]!
    return { type: 'pong', ref, position: lsn(at) }
  }

  #join(sub: Sub, choose: Choose): unknown {
    const { id, table, cursor, bound } = sub
    if (!sub.isAccepted) {
      sub.isAccepted = true
      const key = KEYLESS.has(table) ? [] : ['id']
      return { type: 'subscribed', id, position: this.#position(cursor), key, columns: COLUMNS, replica_identity: 'full', ...(bound !== undefined && { bound }), warnings: [] }
    }
    if (sub.snapshot && sub.snapshot.length > 0) return { type: 'snapshot', id, rows: sub.snapshot.splice(0, 1 + choose(3)) }
    const isBehind = cursor.commits < this.cursor.commits || (cursor.commits === this.cursor.commits && cursor.changes < this.cursor.changes)
    if (isBehind) {
      const isSame = cursor.commits === this.cursor.commits
      const commit = this.#history.commits[cursor.commits]!
      const end = isSame ? this.cursor.changes : Math.min(commit.changes.length, cursor.changes + 1 + choose(3))
      return this.#frame(cursor, end, [sub], id)
    }
    if (cursor.commits !== this.cursor.commits || cursor.changes !== this.cursor.changes) return undefined
    sub.phase = 'live'
    return { type: 'live', id, position: this.#position(cursor) }
  }

  /** The next part of the stream of all that is live. */
  #advance(choose: Choose): unknown {
    const commit = this.#history.commits[this.cursor.commits]
    if (!commit) return undefined
    const live = [...this.#subs.values()].filter(({ phase }) => phase === 'live')
    const end = Math.min(commit.changes.length, this.cursor.changes + 1 + choose(4))
    const frame = this.#frame(this.cursor, end, live) as { changes: unknown[]; more?: true; position: string }
    for (const { cursor } of live) Object.assign(cursor, this.cursor)
    // Where nothing is live, nothing is said; what joins may join in the middle.
    if (live.length === 0) return this.#next(choose)
    if (frame.changes.length > 0 || frame.more) return frame
    // Of a transaction that began with changes for somebody, the end is said, too.
    return { type: 'progress', position: frame.position }
  }

  #frame(cursor: Cursor, end: number, subs: Sub[], id?: string): unknown {
    const commit = this.#history.commits[cursor.commits]!
    const changes: unknown[] = []
    for (let seq = cursor.changes; seq < end; seq++) {
      for (const sub of subs) changes.push(...this.#change(sub, commit.changes[seq]!, seq))
    }
    const isBegun = cursor.changes > 0
    if (end >= commit.changes.length) Object.assign(cursor, { commits: cursor.commits + 1, changes: 0 })
    else cursor.changes = end
    const more = cursor.changes > 0 && { more: true }
    const frame = { type: 'tx', position: this.#position(cursor), xid: commit.xid, ts: '2026-01-01T00:00:00.000000Z', changes, ...more, ...(id && { id }) }
    // The end of a transaction in parts is always said.
    if (isBegun && !more && changes.length === 0 && !id) return { ...frame, more: undefined, changes }
    return frame
  }

  #change(sub: Sub, { table, old, row, truncate }: RowChange, seq: number): unknown[] {
    if (table !== sub.table) return []
    const { id } = sub
    if (truncate) return [{ id, seq, op: 'truncate' }]
    const was = old !== undefined && sub.match(old)
    const is = row !== undefined && sub.match(row)
    if (!was && !is) return []
    const isKeyless = KEYLESS.has(table)
    const cause = old && row && was !== is ? { cause: 'update' } : {}
    if (!is) return [{ id, seq, op: 'delete', ...(isKeyless ? { key: {}, old } : { key: { id: old!.id } }), ...cause }]
    if (!was) return [{ id, seq, op: 'insert', row, ...cause }]
    const key = isKeyless ? { key: {}, old } : old!.id !== row!.id ? { key: { id: old!.id } } : {}
    // A long value that stayed as it was is not in the log.
    if (!isKeyless && old!.note === row!.note && old!.note !== null && old!.id === row!.id) {
      const { note: _, ...rest } = row!
      return [{ id, seq, op: 'update', row: rest, unchanged: ['note'], ...key }]
    }
    return [{ id, seq, op: 'update', row, ...key }]
  }
}

/** A server of which every state that its database ever had is known. */
export class ReferenceServer {
  readonly tables: readonly string[]
  readonly histories = new Map<string, History>()
  history: History
  connection: Connection | undefined
  features: string[] | undefined = ['reach', 'range']
  subscribes = 0
  snapshots = 0
  /** What predicates must not have: as texts are not ordered under some collations. */
  refused: RegExp | undefined
  /** So many subscriptions are refused with `internal`. */
  busy = 0
  #xid = 700
  #epochs = 0

  constructor(tables: Readonly<Record<string, Line[]>>) {
    this.tables = Object.keys(tables)
    this.history = this.#begin(0x100, new Map(Object.entries(tables)))
  }

  accept(socket: FakeSocket): Connection {
    if (this.connection) this.connection.isOver = true
    return (this.connection = new Connection(this, socket))
  }

  /** The rows now. */
  rows(table: string): Line[] {
    return this.history.states.at(-1)!.get(table)!
  }

  /** What a query holds at a position of an epoch, up to the bound of its order if it has one. */
  result(query: { table: string; where?: string; params?: any[]; orderBy?: Order }, position: string, epoch: string, bound: readonly unknown[] | null = null): Line[] {
    const history = this.histories.get(epoch)!
    const at = parseInt(position.slice(2), 16)
    const count = history.commits.filter((commit) => commit.position <= at).length
    const match = query.where === undefined ? () => true : predicate(query.where)
    return history.states[count]!.get(query.table)!.filter((row) => match(row, query.params ?? []) && within(query.orderBy ?? [], bound, row))
  }

  get position(): string {
    return lsn(this.history.end(this.history.commits.length))
  }

  /** Commits changes, of which each must fit the rows as they are then. Returns the transaction's number. */
  commit(changes: RowChange[]): number {
    const { history } = this
    const state: Tables = new Map(history.states.at(-1))
    for (const { table, old, row, truncate } of changes) {
      let rows = truncate ? [] : [...state.get(table)!]
      if (old) {
        const i = rows.findIndex((other) => JSON.stringify(other) === JSON.stringify(old))
        rows.splice(i, 1)
      }
      if (row) rows.push(row)
      state.set(table, rows)
    }
    history.commits.push({ position: history.end(history.commits.length) + 0x10, xid: ++this.#xid, changes })
    history.states.push(state)
    return this.#xid
  }

  /** The journal forgets all but the last commits. */
  prune(keep: number): void {
    this.history.earliest = Math.max(this.history.earliest, this.history.commits.length - keep)
  }

  /** The history breaks: the last commits are lost, and another begins at what is left. Every connection ends. */
  break(lose: number): void {
    const { history } = this
    const count = Math.max(0, history.commits.length - lose)
    this.history = this.#begin(history.end(count), history.states[count]!)
    this.cut(1006)
  }

  cut(code = 1006, reason = ''): void {
    if (this.connection) this.connection.isOver = true
    this.connection?.socket.end(code, reason)
  }

  #begin(start: number, tables: Tables): History {
    const history = new History(`e${++this.#epochs}`, start, tables)
    this.histories.set(history.epoch, history)
    return history
  }
}
