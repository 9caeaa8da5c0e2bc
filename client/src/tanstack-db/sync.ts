import type { LoadSubsetOptions, SyncConfig, SyncMode } from '@tanstack/db'
import { insideOf } from '../client.js'
import { type Client, type Dehydrated, type DiffChange, type LiveQuery, type Param, type Place, type Position, type QueryState, type Status, type WalcastError, comparePositions, onDiff } from '../index.js'
import type { AnyQuery } from '../types.js'
import { NOTE, type Note, noteOf, resultOf } from './note.js'
import { type Condition, type Expression, columnName, oneOf, pushDown, textOf, valuesOf } from './predicate.js'
import { type Range, isSameOrder, rangeOf } from './range.js'

export type Key = string | number

/** What the options of a collection say. */
export interface Source<Row extends object, K extends Key> {
  readonly client: Client<any>
  readonly query: AnyQuery
  readonly getKey: (row: Row) => K
  readonly syncMode?: SyncMode | undefined
  readonly local?: readonly string[] | undefined
}

/** One run of a collection's sync, as its options see it. */
export interface Run {
  loadSubset(options: LoadSubsetOptions): true | Promise<void>
  unloadSubset(options: LoadSubsetOptions): void
  /** Where the rows of the collection stand. */
  note(): Note | undefined
  /** The whole result, for when the collection begins again. */
  result(): Dehydrated | undefined
  position(): Position | undefined
  status(): Status
  end(): void
}

/** The condition of the collection's query. */
interface Base {
  readonly where?: string | undefined
  readonly params?: readonly Param[] | undefined
}

/** What is asked of the server: rows of the collection's query, of them the first alone if there is a range. */
interface Demand {
  readonly condition: Condition
  readonly range?: Range | undefined
  /** Of ranges alone: those that have the same differ at most by where they end. */
  readonly name?: string | undefined
}

/** One live query of a collection. */
interface Subset<Row, K> extends Demand {
  readonly live: LiveQuery<Row, unknown>
  /** What was told last, and where that stands: the query itself may have gone on. */
  told: QueryState<Row>
  shown: Place | undefined
  readonly rows: Map<K, Row>
  /** Those who need it: calls of `loadSubset` by their options, or another subset. */
  readonly holders: Set<object>
  /** Where the range ended when that was looked at last. */
  bound?: string
  /** Those who asked for no range have their rows of it. */
  isLent: boolean
  /** The collection has a whole result of it. */
  isWritten: boolean
  /** Called once it is there, or with the reason why it will not be. */
  readonly waiting: ((error?: unknown) => void)[]
}

/** Demands for values of one column, to which further ones may still be added. */
interface Gathering {
  readonly values: Set<Param>
  readonly owners: object[]
  readonly loaded: Promise<void>
}

/** How long demands for values of one column wait for each other: joins ask for one after the other. */
const TOGETHER_MS = 10

/** From the one that is farthest from `live`. */
const STATUSES = ['error', 'offline', 'connecting', 'snapshot', 'catching-up'] as const

/**
 * Begins one run of a collection's sync. A row is in the collection while one of its live queries has it.
 *
 * The one thing to know: all queries of a client change before any listener is told, and then all are told in one go. What
 * they say is gathered, and written in one commit once they all have been told.
 */
export function run<Row extends object, K extends Key>(source: Source<Row, K>, sync: Parameters<SyncConfig<Row, K>['sync']>[0], stored: Note | undefined): Run {
  const { client, query, getKey, syncMode, local = [] } = source
  const { begin, write, commit, metadata, collection, markReady, markError } = sync
  // The oldest cores cannot be told that a range is another one by now.
  const { invalidateLoadedSubsets: invalidate } = sync as { invalidateLoadedSubsets?: () => void }
  const isOnDemand = syncMode === 'on-demand'
  /** The condition of the collection's query. */
  const { where: own, params: ownParams = [] } = typeof query.where === 'object' ? query.where : (query as Base)
  const subsets = new Set<Subset<Row, K>>()
  /** Options that are loaded and not unloaded. */
  const wanted = new Set<object>()
  /** By columns. */
  const gathering = new Map<string, Gathering>()
  /** Conditions that the server refused. */
  const weakened = new Set<string>()
  /** Columns whose order the collection does not share with the server. */
  const unordered = new Set<string>()
  /** What the collection has of this run. */
  const written = new Map<K, Row>()
  /** Rows as they came, where a parser made others of them. */
  const raws = new WeakMap<Row, Readonly<Record<string, unknown>>>()
  /** Keys that may have other rows now. */
  const dirty = new Set<K>()
  let applied: true | Promise<void> = true
  /** Where the rows of the collection stand. */
  let note: Note | undefined
  let isScheduled = false
  let isOver = false
  let failure: unknown

  // Subsets.

  /** What a subset asks of the server: its rows, or a superset of them; undefined if there are none. */
  const demandOf = (options: LoadSubsetOptions): Demand | undefined => {
    const pushed = (...parts: (Expression | undefined)[]): Condition | undefined => pushDown(parts, ownParams.length, local, weakened)
    const where = options.where as Expression | undefined
    // Cores that cannot be told get all rows.
    const range = invalidate && rangeOf(options, local)
    const first = range && !unordered.has(range.order.column) && pushed(where, range.cursor)
    // The first rows are those of the whole condition, or none.
    if (first && first.isWhole) return { condition: first, range, name: textOf([range.order, first.where, first.params]) }
    const condition = pushed(where)
    return condition && { condition }
  }

  const loadSubset = (options: LoadSubsetOptions): true | Promise<void> => {
    wanted.add(options)
    const demand = demandOf(options)
    const subset = demand && covering(demand)
    if (!demand || subset?.isWritten) {
      subset?.holders.add(options)
      return applied
    }
    const unload = (): void => unloadSubset(options)
    const loaded = (!subset && !demand.range && gather(options)) || open(options, [options])
    loaded.catch(unload)
    options.signal?.addEventListener('abort', unload, { once: true })
    return loaded
  }

  const unloadSubset = (options: LoadSubsetOptions): void => {
    wanted.delete(options)
    release(options)
  }

  /** Values of one column that are asked for in a short time become one query. */
  const gather = (options: LoadSubsetOptions): Promise<void> | undefined => {
    const found = valuesOf(options.where as Expression | undefined, local)
    if (!found) return undefined
    const { column } = found
    const name = textOf(column)
    const {
      values = new Set<Param>(),
      owners = [],
      loaded = new Promise((resolve) => setTimeout(resolve, TOGETHER_MS)).then(async () => {
        gathering.delete(name)
        const wheres = values.size > 1 ? oneOf(column, [...values]) : [options.where]
        await Promise.all(wheres.map((where) => open({ where: where as never }, owners)))
      }),
    }: Partial<Gathering> = gathering.get(name) ?? {}
    for (const value of found.values) values.add(value)
    owners.push(options)
    gathering.set(name, { values, owners, loaded })
    return loaded
  }

  /** Opens a live query that has every row of a subset, and maybe others. */
  const open = async (options: LoadSubsetOptions, owners: readonly object[]): Promise<void> => {
    /** Has too few rows, or the first ones of another order than the collection's: they stay until all have come. */
    let outdone: Subset<Row, K> | undefined
    const leaveFor = (subset: Subset<Row, K> | undefined): void => {
      if (subset) for (const owner of owners) leave(subset, owner)
    }
    for (;;) {
      const wanting = owners.filter((owner) => wanted.has(owner))
      if (wanting.length === 0) throw unloaded()
      const demand = demandOf(options)
      if (!demand) return leaveFor(outdone)
      const { range } = demand
      const subset = use(demand, wanting)
      schedule()
      try {
        await new Promise<void | true>((resolve, reject) => subset.waiting.push((error) => (error ? reject(error) : resolve(applied))))
        if (outdone !== subset) leaveFor(outdone)
        if (!range || !(unordered.has(range.order.column) || isShort(subset, range))) return
        outdone = subset
      } catch (error) {
        leaveFor(subset)
        if (!weaken(subset, error as WalcastError)) throw error
      }
    }
  }

  /** Leaves to the collection what the server does not take. Returns false if there is nothing of the kind. */
  const weaken = ({ condition: { where, parts }, range }: Demand, { code, offset = -1, query = '', details = {} }: WalcastError): boolean => {
    // Without a place it is the order that is refused, or unknown to the server.
    if (range && offset < 0 && /^(bad_predicate|replica_identity|unsupported)$/.test(code)) {
      unordered.add(range.order.column)
      return true
    }
    if (!/^(bad_predicate|unknown_column)|predicate_(bytes|cost|size)$/.test(`${code} ${details.limit}`)) return false
    const refused = [...parts].filter(([part]) => {
      const start = query.indexOf(part, query.lastIndexOf(where))
      // Without a place it is as a whole that it is too large.
      return offset < 0 || (start <= offset && offset < start + part.length)
    })
    for (const [, expression] of refused) weakened.add(textOf(expression))
    return refused.length > 0
  }

  /** A live query that has every row of a demand; `borrows`: it may be a range that has them. */
  const covering = ({ condition, range, name }: Demand, borrows = true): Subset<Row, K> | undefined => {
    for (const subset of subsets) {
      // One that asks for the same, or for less to hold.
      const isWider = [...subset.condition.conjuncts.keys()].every((part) => condition.conjuncts.has(part))
      if (!subset.range ? isWider : range && name === subset.name && !isShort(subset, range)) return subset
      if (!subset.range || !subset.isWritten || unordered.has(subset.range.order.column)) continue
      // One that is all there is, for another order or more rows; what it becomes later, the collection is told.
      if (range ? isWider && !subset.shown?.bound : borrows && hasTies(subset, subset.range, condition)) {
        subset.isLent ||= !range
        return subset
      }
    }
    return undefined
  }

  /** A range has fewer rows than it is asked for, and is not all there is: some have left it. */
  const isShort = ({ isWritten, rows, shown, range }: Subset<Row, K>, { limit }: Range): boolean => (isWritten ? rows.size < limit && Boolean(shown?.bound) : range!.limit < limit)

  const use = (demand: Demand, holders: readonly object[], initial?: Dehydrated, borrows?: boolean): Subset<Row, K> => {
    const subset = covering(demand, borrows) ?? subscribe(demand, initial)
    for (const holder of holders) subset.holders.add(holder)
    return subset
  }

  const subscribe = ({ condition, range, name }: Demand, initial: Dehydrated | undefined): Subset<Row, K> => {
    const { where, params } = condition
    // Those that have too few rows by now are other ones.
    for (const other of subsets) if (range && name === other.name) range = { ...range, limit: Math.max(range.limit, other.range!.limit + 10) }
    const narrowed = {
      ...query,
      ...(where && { where: own === undefined ? where : `(${own}) AND (${where})`, params: [...ownParams, ...params] }),
      ...(range && { orderBy: [range.order], limit: range.limit }),
    }
    const live = client.liveQuery(narrowed as never, { ...(initial && { initial }), ...(!isOnDemand && { map: noteRaw as never }) }) as unknown as LiveQuery<Row, unknown>
    const subset: Subset<Row, K> = { condition, range, name, live, told: live.state, shown: live.kept.shown, rows: new Map(), holders: new Set(), isLent: false, isWritten: false, waiting: [] }
    subsets.add(subset)
    onDiff(live, ({ changes }) => take(subset, changes))
    live.onChange(() => {
      subset.told = live.state
      subset.shown = live.kept.shown
      schedule()
    })
    take(subset, subset.told.rows.map((row) => ({ row })))
    return subset
  }

  /** Somebody needs nothing any more. */
  const release = (holder: object): void => {
    for (const subset of subsets) leave(subset, holder)
  }

  const leave = (subset: Subset<Row, K>, holder: object): void => {
    if (!subset.holders.delete(holder) || subset.holders.size > 0) return
    subsets.delete(subset)
    close(subset)
    release(subset)
    for (const key of subset.rows.keys()) dirty.add(key)
    schedule()
  }

  const close = ({ live, waiting }: Subset<Row, K>): void => {
    live.close()
    for (const tell of waiting.splice(0)) tell(unloaded())
  }

  /** Looks whether what a range has are the first rows of the collection, too. If it ends elsewhere by now, the collection looks again. */
  const look = (subset: Subset<Row, K>): void => {
    const { condition, range, live, shown, bound, isLent } = subset
    subset.bound = textOf(shown?.bound)
    if (!range || bound === subset.bound) return
    if (!isSameOrder(live.kept, range)) unordered.add(range.order.column)
    if (bound === undefined) return
    const again = (): void => void (isOver || invalidate!())
    if (isLent) use({ condition }, [subset], undefined, false)
    void Promise.resolve(applied).then(again, again)
  }

  // Rows.

  const take = (subset: Subset<Row, K>, changes: readonly Partial<DiffChange<Row, unknown>>[]): void => {
    const keyOf = (row: Row): K => {
      const key = getKey(row)
      dirty.add(key)
      return key
    }
    // A key may go from one row to another.
    for (const { before } of changes) if (before) subset.rows.delete(keyOf(before))
    for (const { row } of changes) if (row) subset.rows.set(keyOf(row), row)
    schedule()
  }

  const noteRaw = (row: Row, raw: Readonly<Record<string, unknown>>): Row => {
    if (Object.keys(raw).some((name) => raw[name] !== row[name as keyof Row])) raws.set(row, raw)
    return row
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
    const [whole] = isOnDemand ? [] : all
    if (changed.length > 0 || (whole && isNew)) {
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
      const { identity, key, columns } = whole?.live.kept ?? {}
      const next = whole?.shown && ({ query: identity, key, columns, place: whole.shown, size: written.size } as Note)
      if (next) metadata?.collection.set(NOTE, next)
      else if (whole) metadata?.collection.delete(NOTE)
      // An optimistic change that is under way holds back what is written meanwhile.
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
  const answer = (subset: Subset<Row, K>): void => {
    const { told, waiting, isWritten } = subset
    const { filled, error = insideOf(client).failure } = told
    if (filled) {
      look(subset)
      if (!isWritten) markReady()
      subset.isWritten = true
    } else if (!error) return
    else if (!isOnDemand && error !== failure) markError((failure = error))
    for (const tell of waiting.splice(0)) tell(filled ? undefined : error)
  }

  /** Begins with a result that is there: with one that the collection was given, if it is noted where that stands. */
  const start = (): void => {
    const all = { condition: pushDown([])! }
    const given = noteOf(metadata?.collection.get(NOTE), stored)
    if (given?.query !== client.liveQuery(query as never).kept.identity) {
      use(all, [source], stored?.rows && (stored as Dehydrated))
      return
    }
    // What stores its rows gives it these before it is ready.
    markReady()
    collection.onFirstReady(() => {
      if (isOver) return
      const result = resultOf(given, collection, metadata)
      const { live, told } = use(all, [source], result)
      // They need not be written.
      if (result && live.kept.shown === result.place) for (const row of told.rows) written.set(getKey(row), row)
    })
  }

  const endConnection = client.onConnection(schedule)
  if (isOnDemand) markReady()
  else start()

  return {
    loadSubset,
    unloadSubset,
    note: () => note,
    result: () => (isOnDemand ? undefined : [...subsets][0]?.live.dehydrate()),
    position: () => [...subsets].flatMap(({ told }) => told.position ?? []).sort(comparePositions).at(-1),
    status: () => {
      const { name } = client.connection
      if (subsets.size === 0) return name === 'open' && isOnDemand ? 'live' : name === 'offline' ? 'offline' : 'connecting'
      const found = [...subsets].map(({ told }) => told.status)
      return STATUSES.find((status) => found.includes(status)) ?? 'live'
    },
    end: () => {
      isOver = true
      wanted.clear()
      endConnection()
      subsets.forEach(close)
      subsets.clear()
    },
  }
}

/** The rows of a condition are those that tie with rows of a range, which has all of these. */
function hasTies({ condition, rows }: Subset<any, any>, { order: { column }, cursor }: Range, asked: Condition): boolean {
  const further = textOf(cursor)
  if (![...condition.conjuncts.keys()].every((part) => part === further || asked.conjuncts.has(part))) return false
  return [...asked.conjuncts.values()].some((part) => {
    const { column: own, values } = valuesOf(part) ?? {}
    return own && columnName(own) === column && values!.every((value) => [...rows.values()].some((row) => row[column] === value))
  })
}

const unloaded = (): Error => new DOMException('the subset was unloaded', 'AbortError')
