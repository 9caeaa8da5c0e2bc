import type { SyncConfig, SyncMode } from '@tanstack/db'
import { insideOf } from '../client.js'
import { type Client, type Dehydrated, type DiffChange, type LiveQuery, type Place, type Position, type QueryState, type Status, comparePositions, onDiff } from '../index.js'
import type { AnyQuery } from '../types.js'
import { NOTE, type Note } from './note.js'

export type Key = string | number

/** What the options of a collection say. */
export interface Source<Row extends object, K extends Key> {
  readonly client: Client<any>
  readonly query: AnyQuery
  readonly getKey: (row: Row) => K
  readonly syncMode?: SyncMode | undefined
  readonly local?: readonly string[] | undefined
}

/** What a collection gives to those who fill it. */
export type Sync<Row extends object, K extends Key> = Parameters<SyncConfig<Row, K>['sync']>[0]

/** One live query of a collection. */
export interface Subset<Row, K> {
  readonly live: LiveQuery<Row, unknown>
  /** What was told last, and where that stands: the query itself may have gone on. */
  told: QueryState<Row>
  shown: Place | undefined
  readonly rows: Map<K, Row>
  /** The collection has a whole result of it. */
  isWritten: boolean
  /** Called once it is there, or with the reason why it will not be. */
  readonly waiting: ((error?: unknown) => void)[]
}

/** What becomes of it is different for collections that are one query, and for those on demand. */
interface Hooks<S> {
  /** There is a whole result of a query, whose rows are written. */
  filled(subset: S): void
  /** There will be none of one that was asked for. */
  failed?(error: unknown): void
  /** Where the rows stand that are written now. */
  note?(): Note | undefined
  /** Where those stand that were there before. */
  readonly given?: Note | undefined
}

/** The rows of a collection: those that one of its live queries has. */
export interface Rows<Row, K, S> {
  readonly subsets: ReadonlySet<S>
  /** What the collection has of this run. */
  readonly written: Map<K, Row>
  /** Has the rows of a query, too, from now on. */
  add<More>(query: AnyQuery, more: More, initial?: Dehydrated): Subset<Row, K> & More
  drop(subset: S): void
  /** Writes what is new, once all queries have been told. */
  schedule(): void
  /** Whether, or when, what was written last is to be seen: an optimistic change that is under way holds it back. */
  applied(): true | Promise<void>
  /** Where the rows of the collection stand, if it is noted. */
  note(): Note | undefined
  position(): Position | undefined
  status(): Status
  end(): void
}

/** From the one that is farthest from `live`. */
const STATUSES = ['error', 'offline', 'connecting', 'snapshot', 'catching-up'] as const

/**
 * Begins to write the rows of live queries into a collection.
 *
 * The one thing to know: all queries of a client change before any listener is told, and then all are told in one go. What
 * they say is gathered, and written in one commit once they all have been told.
 */
export function rowsOf<Row extends object, K extends Key, S extends Subset<Row, K>>({ client, getKey }: Source<Row, K>, { begin, write, commit, metadata, collection }: Sync<Row, K>, hooks: Hooks<S>): Rows<Row, K, S> {
  const subsets = new Set<S>()
  const written = new Map<K, Row>()
  /** Rows as they came, where a parser made others of them. */
  const raws = new WeakMap<Row, Readonly<Record<string, unknown>>>()
  /** Keys that may have other rows now. */
  const dirty = new Set<K>()
  let applied: true | Promise<void> = true
  let note = hooks.given
  let isScheduled = false
  let isOver = false

  const add = <More>(query: AnyQuery, more: More, initial?: Dehydrated): Subset<Row, K> & More => {
    const live = client.liveQuery(query as never, { initial, map: hooks.note && noteRaw } as never) as unknown as LiveQuery<Row, unknown>
    const subset = { live, told: live.state, shown: live.kept.shown, rows: new Map(), isWritten: false, waiting: [], ...more }
    subsets.add(subset as unknown as S)
    onDiff(live, ({ changes }) => take(subset, changes))
    live.onChange(() => {
      subset.told = live.state
      subset.shown = live.kept.shown
      schedule()
    })
    take(subset, subset.told.rows.map((row) => ({ row })))
    return subset
  }

  const noteRaw = (row: Row, raw: Readonly<Record<string, unknown>>): Row => {
    if (Object.keys(raw).some((name) => raw[name] !== row[name as keyof Row])) raws.set(row, raw)
    return row
  }

  const take = ({ rows }: Subset<Row, K>, changes: readonly Partial<DiffChange<Row, unknown>>[]): void => {
    const keyOf = (row: Row): K => {
      const key = getKey(row)
      dirty.add(key)
      return key
    }
    // A key may go from one row to another.
    for (const { before } of changes) if (before) rows.delete(keyOf(before))
    for (const { row } of changes) if (row) rows.set(keyOf(row), row)
    schedule()
  }

  const drop = (subset: S): void => {
    subset.live.close()
    subsets.delete(subset)
    for (const key of subset.rows.keys()) dirty.add(key)
    schedule()
  }

  const schedule = (): void => {
    if (isScheduled) return
    isScheduled = true
    queueMicrotask(() => {
      isScheduled = false
      if (!isOver) flush()
    })
  }

  const flush = (): void => {
    const all = [...subsets]
    const isNew = all.some(({ told, isWritten }) => told.filled && !isWritten)
    if (isNew && all.every(({ told }) => told.filled)) adopt()
    const changed = [...dirty].map((key) => [key, find(key)] as const).filter(([key, row]) => row !== written.get(key))
    dirty.clear()
    if (changed.length > 0 || (hooks.note && isNew)) {
      begin()
      for (const [key, value] of changed) {
        if (!value) {
          write({ type: 'delete', key })
          written.delete(key)
          continue
        }
        write({ type: written.has(key) ? 'update' : 'insert', value })
        written.set(key, value)
        const raw = raws.get(value)
        if (raw) metadata?.row.set(key, raw)
        else if (metadata?.row.get(key)) metadata.row.delete(key)
      }
      const next = hooks.note?.()
      if (next) metadata?.collection.set(NOTE, next)
      else if (hooks.note) metadata?.collection.delete(NOTE)
      const receipt = (applied = commit())
      const done = (): void => {
        note = next
        if (applied === receipt) applied = true
      }
      void Promise.resolve(receipt).then(done, done)
    }
    all.forEach(answer)
  }

  /** The row of a key. A query that is not live may have an old one. */
  const find = (key: K): Row | undefined => {
    let found: Row | undefined
    for (const { rows, told } of subsets) if (!found || told.status === 'live') found = rows.get(key) ?? found
    return found
  }

  /** Rows that the collection has from elsewhere, a page or a store, go unless a query has them. */
  const adopt = (): void => {
    if (collection.size === written.size) return
    for (const [key, row] of collection.entries() as Iterable<[K, Row & { readonly $hasPendingWrites: boolean }]>) {
      if (row.$hasPendingWrites || written.has(key)) continue
      written.set(key, row)
      dirty.add(key)
    }
  }

  /** Tells those who wait for a query's rows that they are there, or that there will be none. */
  const answer = (subset: S): void => {
    const { filled, error = insideOf(client).failure } = subset.told
    if (filled) {
      hooks.filled(subset)
      subset.isWritten = true
    } else if (error) hooks.failed?.(error)
    else return
    for (const tell of subset.waiting.splice(0)) tell(filled ? undefined : error)
  }

  const endConnection = client.onConnection(schedule)

  return {
    subsets,
    written,
    add,
    drop,
    schedule,
    applied: () => applied,
    note: () => note,
    position: () => [...subsets].flatMap(({ told }) => told.position ?? []).sort(comparePositions).at(-1),
    status: () => {
      const { name } = client.connection
      if (subsets.size === 0) return name === 'open' && !hooks.note ? 'live' : name === 'offline' ? 'offline' : 'connecting'
      const found = [...subsets].map(({ told }) => told.status)
      return STATUSES.find((status) => found.includes(status)) ?? 'live'
    },
    end: () => {
      isOver = true
      endConnection()
      subsets.forEach(drop)
    },
  }
}
