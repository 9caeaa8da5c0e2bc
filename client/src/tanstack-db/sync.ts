import type { LoadSubsetOptions, SyncConfig } from '@tanstack/db'
import { type Client, type Dehydrated, type DiffChange, type LiveQuery, type Param, type Place, type Position, type QueryState, type Status, WalcastError, comparePositions } from '../index.js'
import type { AnyQuery } from '../types.js'
import { type Condition, type Expression, chunks, columnName, describe, oneOf, pushDown, textOf, valuesOf } from './predicate.js'
import { NOTE, type Note, noteOf, resultOf } from './note.js'
import { type Range, isSameOrder, rangeOf } from './range.js'

export type Key = string | number

export interface Source<Row extends object, K extends Key> {
  readonly client: Client<any>
  readonly query: AnyQuery
  readonly getKey: (row: Row) => K
  readonly isOnDemand: boolean
  readonly local: readonly string[]
}

/** One live query of a collection. */
interface Subset<Row, K> {
  /** What of the collection's query it has; true: all. */
  readonly condition: Condition | true
  /** The first of these rows alone. */
  readonly range: Range | undefined
  /** Where the range ended when that was looked at last. */
  bound?: string | undefined
  /** Those who asked for no range have their rows of it. */
  isLent: boolean
  /** What they have since the range became another one. */
  instead?: Subset<Row, K>
  readonly live: LiveQuery<Row, unknown>
  /** What was told last, and where that stands: the query itself may have gone on. */
  told: QueryState<Row>
  shown: Place | undefined
  readonly rows: Map<K, Row>
  /** Openings that hold it. */
  uses: number
  /** The collection has a whole result of it. */
  isWritten: boolean
  readonly waiting: { readonly resolve: (applied: true | Promise<void>) => void; readonly reject: (error: unknown) => void }[]
}

/** What one or more calls of `loadSubset` asked for. */
interface Opening<Row, K> {
  uses: number
  readonly held: Set<Subset<Row, K>>
  loaded: Promise<unknown>
}

/** How long demands for values of one column wait for each other: joins ask for one after the other. */
const TOGETHER_MS = 10

/**
 * One run of a collection's sync. A row is in the collection while one of its live queries has it.
 *
 * The one thing to know: all queries of a client change before any listener is told, and then all are told in one go. What
 * they say is gathered, and written in one commit once they all have been told.
 */
export class Run<Row extends object, K extends Key> {
  readonly #source: Source<Row, K>
  readonly #sync: Parameters<SyncConfig<Row, K>['sync']>[0]
  readonly #subsets = new Set<Subset<Row, K>>()
  readonly #openings = new Map<LoadSubsetOptions, Opening<Row, K>>()
  /** Openings by columns, to which further values may still be added. */
  readonly #gathering = new Map<string, { readonly values: Set<Param>; readonly opening: Opening<Row, K> }>()
  /** Conditions that the server refused. */
  readonly #weakened = new Set<string>()
  /** Columns whose order the collection does not share with the server. */
  readonly #unordered = new Set<string>()
  /** What the collection has of this run. */
  readonly #written = new Map<K, Row>()
  /** Rows as they came, where a parser made others of them. */
  readonly #raw = new WeakMap<Row, Readonly<Record<string, unknown>>>()
  /** Keys that may have other rows now, each with the query that said so last. */
  readonly #dirty = new Map<K, Subset<Row, K> | undefined>()
  readonly #endConnection: () => void
  #applied: true | Promise<void> = true
  /** Where the rows of the collection stand. */
  note: Note | undefined
  #isScheduled = false
  #error: unknown
  #isOver = false

  constructor(source: Source<Row, K>, sync: Parameters<SyncConfig<Row, K>['sync']>[0], stored: Note | Dehydrated | undefined) {
    this.#source = source
    this.#sync = sync
    this.#endConnection = source.client.onConnection(() => this.#schedule())
    if (source.isOnDemand) sync.markReady()
    else this.#begin(stored)
  }

  /** Begins with a result that is there: with one that the collection was given, if it is noted where that stands. */
  #begin(stored: Note | Dehydrated | undefined): void {
    const { client, query, getKey } = this.#source
    const { collection, metadata, markReady } = this.#sync
    const note = noteOf(metadata?.collection.get(NOTE), stored)
    if (note?.query !== client.liveQuery(query as never).kept.identity) {
      this.#use(true, undefined, stored && 'rows' in stored ? stored : undefined)
      return
    }
    // What stores its rows gives it these before it is ready.
    markReady()
    collection.onFirstReady(() => {
      if (this.#isOver) return
      const result = resultOf(note, collection, metadata)
      const { live, told } = this.#use(true, undefined, result)
      // They need not be written.
      if (result && live.kept.shown === result.place) for (const row of told.rows) this.#written.set(getKey(row), row)
    })
  }

  get status(): Status {
    const { name } = this.#source.client.connection
    const found = new Set([...this.#subsets].map(({ told }) => told.status))
    if (found.size === 0) return name === 'open' && this.#source.isOnDemand ? 'live' : name === 'offline' ? 'offline' : 'connecting'
    return (['error', 'offline', 'connecting', 'snapshot', 'catching-up'] as const).find((status) => found.has(status)) ?? 'live'
  }

  get position(): Position | undefined {
    let newest: Position | undefined
    for (const { position } of [...this.#subsets].map(({ told }) => told)) {
      if (position !== undefined && (newest === undefined || comparePositions(position, newest) > 0)) newest = position
    }
    return newest
  }

  dehydrate(): Dehydrated | undefined {
    return this.#source.isOnDemand ? undefined : [...this.#subsets][0]?.live.dehydrate()
  }

  loadSubset(options: LoadSubsetOptions): true | Promise<void> {
    const known = this.#openings.get(options)
    if (known) return known.loaded.then(() => {})
    const demand = this.#demand(options)
    const { condition } = demand
    const subset = condition === false ? undefined : this.#covering(condition, demand.range)
    if (condition === false || subset?.isWritten) {
      if (subset) subset.uses++
      this.#openings.set(options, { uses: 1, held: new Set(subset && [subset]), loaded: Promise.resolve() })
      return this.#applied
    }
    const opening = (subset || demand.range ? undefined : this.#gather(options.where as Expression | undefined)) ?? this.#opening((opening) => this.#open(options, opening))
    opening.uses++
    this.#openings.set(options, opening)
    options.signal?.addEventListener('abort', () => this.unloadSubset(options), { once: true })
    return opening.loaded.then(() => {})
  }

  unloadSubset(options: LoadSubsetOptions): void {
    const opening = this.#openings.get(options)
    this.#openings.delete(options)
    if (opening && --opening.uses === 0) this.#release(opening)
  }

  end(): void {
    this.#isOver = true
    this.#endConnection()
    for (const subset of this.#subsets) this.#close(subset)
    this.#subsets.clear()
  }

  #opening(open: (opening: Opening<Row, K>) => Promise<unknown>): Opening<Row, K> {
    const opening: Opening<Row, K> = { uses: 0, held: new Set(), loaded: Promise.resolve() }
    opening.loaded = opening.loaded.then(() => open(opening))
    opening.loaded.catch(() => this.#release(opening))
    return opening
  }

  #release({ held }: Opening<Row, K>): void {
    for (const subset of held) this.#leave(subset)
    held.clear()
  }

  /** Values of one column that are asked for in a short time become one query. */
  #gather(where: Expression | undefined): Opening<Row, K> | undefined {
    const found = valuesOf(where, this.#source.local)
    if (!found) return undefined
    const column = describe(found.column)
    const known = this.#gathering.get(column)
    const values = known?.values ?? new Set<Param>()
    for (const value of found.values) values.add(value)
    if (known) return known.opening
    const opening = this.#opening(async (opening) => {
      await new Promise((resolve) => setTimeout(resolve, TOGETHER_MS))
      this.#gathering.delete(column)
      await Promise.all(chunks([...values]).map((list) => this.#open({ where: oneOf(found.column, list) as never }, opening)))
    })
    this.#gathering.set(column, { values, opening })
    return opening
  }

  /** Opens a live query that has every row of a subset, and maybe others. */
  async #open(options: LoadSubsetOptions, opening: Opening<Row, K>): Promise<void> {
    /** Has the first rows of another order than the collection's: they stay until all have come. */
    let outdone: Subset<Row, K> | undefined
    const leave = (subset: Subset<Row, K> | undefined): boolean => {
      const isHeld = subset !== undefined && opening.held.delete(subset)
      if (isHeld) this.#leave(subset)
      return isHeld
    }
    for (;;) {
      if (opening.uses === 0 || this.#isOver) throw unloaded()
      const { condition, range } = this.#demand(options)
      if (condition === false) return void leave(outdone)
      const subset = this.#use(condition, range)
      // An opening holds each of them once.
      if (opening.held.has(subset)) subset.uses--
      opening.held.add(subset)
      this.#schedule()
      try {
        await new Promise<true | void>((resolve, reject) => subset.waiting.push({ resolve, reject }))
        if (outdone !== subset) leave(outdone)
        if (!range || !this.#isShort(subset, range)) return
        outdone = subset
      } catch (error) {
        if (!opening.held.has(subset)) throw error
        const { code, offset } = error as WalcastError
        // Without a place it is the order that is refused, or unknown to the server.
        if (range && (error === DISORDER || (offset === undefined && /^(bad_predicate|replica_identity|unsupported)$/.test(code)))) {
          this.#unordered.add(range.order.column)
          outdone = subset
          continue
        }
        leave(subset)
        if (!this.#weaken(subset.condition, error)) throw error
      }
    }
  }

  /** What a subset asks of the server: its rows, or a superset of them. */
  #demand(options: LoadSubsetOptions): { readonly condition: Condition | boolean; readonly range?: Range } {
    const where = options.where as Expression | undefined
    const { query, local } = this.#source
    const { params } = typeof query.where === 'object' ? query.where : query
    const pushed = (where: Expression | undefined, onWeaker?: () => void): Condition | boolean => pushDown(where, { after: params?.length ?? 0, weakened: this.#weakened, local, ...(onWeaker && { onWeaker }) })
    // A range may be another one after it began anew: cores that cannot be told get all rows.
    const range = 'invalidateLoadedSubsets' in this.#sync ? rangeOf(options, local) : undefined
    if (range && !this.#unordered.has(range.order.column)) {
      // The first rows are those of the whole condition, or none.
      let isWhole = true
      const args = [where, range.cursor].filter((part) => part !== undefined)
      const condition = pushed(args.length > 1 ? { type: 'func', name: 'and', args } : args[0], () => void (isWhole = false))
      if (isWhole) return { condition, range }
    }
    return { condition: pushed(where) }
  }

  /** The collection's query, of the rows that a condition has. */
  #narrow(condition: Condition | true, range?: Range): AnyQuery {
    const query = { ...this.#source.query, ...(range && { orderBy: [range.order], limit: range.limit }) }
    if (condition === true) return query
    const { where, params = [] } = typeof query.where === 'object' ? query.where : query
    return { ...query, where: where === undefined ? condition.where : `(${where}) AND (${condition.where})`, params: [...params, ...condition.params] } as AnyQuery
  }

  /** Leaves the part that the server does not take to the collection. Returns false if there is none. */
  #weaken(condition: Condition | true, error: unknown): boolean {
    const { code, offset, details = {} } = error as WalcastError
    const isTooLarge = code === 'limit_exceeded' && /^(connection_)?predicate_(bytes|cost|size)$/.test(String(details.limit))
    if (condition === true || !(code === 'bad_predicate' || code === 'unknown_column' || isTooLarge)) return false
    const text = this.#narrow(condition).where as string
    const start = text.length - condition.where.length - (text === condition.where ? 0 : 1)
    // Without a place it is as a whole that it is too large.
    const refused = condition.parts.filter((part) => offset === undefined || (offset >= start + part.start && offset < start + part.end))
    for (const { expression } of refused) this.#weakened.add(describe(expression))
    return refused.length > 0
  }

  /** A live query that has every row of a condition, or of a range of it; `borrows`: it may be a range that has them. */
  #covering(condition: Condition | true, range?: Range, borrows = true): Subset<Row, K> | undefined {
    const own = conjunctsOf(condition)
    for (const subset of this.#subsets) {
      // One that asks for the same, or for less to hold.
      const isWider = isSubset(conjunctsOf(subset.condition), own)
      if (!subset.range ? isWider : range && isSame(subset, condition, range) && !this.#isShort(subset, range)) return subset
      if (!subset.range || !subset.isWritten) continue
      // One that is all there is, for another order or more rows; what it becomes later, the collection is told.
      if (range ? isWider && !subset.live.kept.shown?.bound : borrows && this.#hasTies(subset, condition)) {
        subset.isLent ||= !range
        return subset
      }
    }
    return undefined
  }

  /** The rows of a condition are those that tie with a row of a range, which has all of these. */
  #hasTies({ range, rows, ...subset }: Subset<Row, K>, condition: Condition | true): boolean {
    const own = conjunctsOf(condition)
    const { order, cursor } = range!
    const further = cursor ? conjunctsOf(pushDown(cursor)) : NONE
    if (condition === true || ![...conjunctsOf(subset.condition)].every((part) => own.has(part) || further.has(part))) return false
    return condition.parts.some(({ expression }) => {
      if (expression.type !== 'func' || expression.name !== 'eq' || columnName(expression.args[0]!, []) !== order.column) return false
      const { value } = expression.args[1] as { readonly value?: unknown }
      // One of an OR says nothing.
      return value !== undefined && isSubset(conjunctsOf(pushDown(expression)), own) && [...rows.values()].some((row) => row[order.column as keyof Row] === value)
    })
  }

  /** A range has fewer rows than it is asked for, and is not all there is: some have left it. */
  #isShort(subset: Subset<Row, K>, { limit }: Range): boolean {
    return subset.isWritten ? subset.rows.size < limit && Boolean(subset.live.kept.shown?.bound) : subset.range!.limit < limit
  }

  #use(condition: Condition | true, range?: Range, initial?: Dehydrated, borrows = true): Subset<Row, K> {
    const known = this.#covering(condition, range, borrows)
    if (known) {
      known.uses++
      return known
    }
    if (range) {
      // Another one than those that have too few rows by now.
      for (const subset of this.#subsets) if (isSame(subset, condition, range) && subset.range!.limit >= range.limit) range = { ...range, limit: subset.range!.limit + 10 }
    }
    const { client, isOnDemand } = this.#source
    const live = client.liveQuery(this.#narrow(condition, range) as never, { ...(initial && { initial }), ...(!isOnDemand && { map: this.#noteRaw as never }) }) as unknown as LiveQuery<Row, unknown>
    const subset: Subset<Row, K> = { condition, range, live, told: live.state, shown: live.kept.shown, rows: new Map(), uses: 1, isWritten: false, isLent: false, waiting: [] }
    this.#subsets.add(subset)
    live.onDiff(({ changes }) => this.#take(subset, changes))
    live.onChange(() => {
      subset.told = live.state
      subset.shown = live.kept.shown
      this.#schedule()
    })
    this.#take(subset, subset.told.rows.map((row) => ({ row, before: undefined })))
    return subset
  }

  #leave(subset: Subset<Row, K>): void {
    if (--subset.uses > 0 || this.#isOver) return
    this.#subsets.delete(subset)
    this.#close(subset)
    if (subset.instead) this.#leave(subset.instead)
    for (const key of subset.rows.keys()) this.#dirty.set(key, undefined)
    this.#schedule()
  }

  #close(subset: Subset<Row, K>): void {
    subset.live.close()
    for (const { reject } of subset.waiting.splice(0)) reject(unloaded())
  }

  #take(subset: Subset<Row, K>, changes: readonly Pick<DiffChange<Row, unknown>, 'before' | 'row'>[]): void {
    const { getKey } = this.#source
    const note = (row: Row): K => {
      const key = getKey(row)
      this.#dirty.set(key, subset)
      return key
    }
    // A key may go from one row to another.
    for (const { before } of changes) if (before) subset.rows.delete(note(before))
    for (const { row } of changes) if (row) subset.rows.set(note(row), row)
    this.#schedule()
  }

  #schedule(): void {
    if (this.#isScheduled) return
    this.#isScheduled = true
    queueMicrotask(() => {
      this.#isScheduled = false
      if (!this.#isOver) this.#write()
    })
  }

  #write(): void {
    const { begin, write, commit, metadata } = this.#sync
    const subsets = [...this.#subsets]
    const isNew = subsets.some(({ told, isWritten }) => told.filled && !isWritten)
    if (isNew && subsets.every(({ told }) => told.filled)) this.#adopt()
    const gone: K[] = []
    const come: [K, Row][] = []
    for (const [key, last] of this.#dirty) {
      const row = this.#find(key, last)
      if (row === this.#written.get(key)) continue
      if (row) come.push([key, row])
      else gone.push(key)
    }
    this.#dirty.clear()
    const isNoted = metadata && !this.#source.isOnDemand
    if (gone.length + come.length > 0 || (isNoted && isNew)) {
      begin()
      for (const key of gone) {
        write({ type: 'delete', key })
        this.#written.delete(key)
      }
      for (const [key, value] of come) {
        write({ type: this.#written.has(key) ? 'update' : 'insert', value })
        this.#written.set(key, value)
        const raw = this.#raw.get(value)
        if (raw) metadata?.row.set(key, raw)
        else if (metadata?.row.get(key)) metadata.row.delete(key)
      }
      const note = isNoted && this.#noteNow(subsets[0])
      if (note) metadata.collection.set(NOTE, note)
      else if (isNoted) metadata.collection.delete(NOTE)
      this.#follow(commit(), note || undefined)
    }
    this.#answer(subsets)
  }

  /** An optimistic change that is under way holds back what is written meanwhile. */
  #follow(applied: true | Promise<void>, note: Note | undefined): void {
    this.#applied = applied
    const done = (): void => {
      this.note = note
      if (this.#applied === applied) this.#applied = true
    }
    if (applied === true) done()
    else applied.then(done, done)
  }

  /** Rows that the collection has from elsewhere, a page or a store, go unless a query has them. */
  #adopt(): void {
    const { collection } = this.#sync
    if (collection.size === this.#written.size) return
    for (const [key, row] of collection.entries() as Iterable<[K, Row & { readonly $hasPendingWrites: boolean }]>) {
      if (row.$hasPendingWrites || this.#written.has(key)) continue
      this.#written.set(key, row)
      if (!this.#dirty.has(key)) this.#dirty.set(key, undefined)
    }
  }

  /** Where the rows stand that are written now. */
  #noteNow(subset: Subset<Row, K> | undefined): Note | undefined {
    if (!subset?.shown) return undefined
    const { identity: query, key, columns } = subset.live.kept
    return { query, key, columns, place: subset.shown, size: this.#written.size }
  }

  readonly #noteRaw = (row: Row, raw: Readonly<Record<string, unknown>>): Row => {
    if (Object.keys(raw).some((name) => raw[name] !== row[name as keyof Row])) this.#raw.set(row, raw)
    return row
  }

  /** Tells those who wait for a query's rows that they are there, or that there will be none. */
  #answer(subsets: readonly Subset<Row, K>[]): void {
    const { client, isOnDemand } = this.#source
    const { connection } = client
    const failure = connection.name === 'closed' ? new WalcastError('closed', 'the client was closed') : 'error' in connection ? connection.error : undefined
    for (const subset of subsets) {
      const { filled, error = failure } = subset.told
      if (filled && !this.#isInOrder(subset)) {
        for (const { reject } of subset.waiting.splice(0)) reject(DISORDER)
      } else if (filled) {
        for (const { resolve } of subset.waiting.splice(0)) resolve(this.#applied)
        if (!isOnDemand && !subset.isWritten) this.#sync.markReady()
        subset.isWritten = true
      } else if (error) {
        for (const { reject } of subset.waiting.splice(0)) reject(error)
        if (!isOnDemand && error !== this.#error) this.#sync.markError((this.#error = error))
      }
    }
  }

  /** Whether what a range has are the first rows of the collection, too. If it ends elsewhere by now, the collection looks again. */
  #isInOrder(subset: Subset<Row, K>): boolean {
    const { range, live } = subset
    if (!range) return true
    const bound = textOf(live.kept.shown?.bound)
    if (bound === subset.bound) return !this.#unordered.has(range.order.column)
    const isNew = subset.bound === undefined
    subset.bound = bound
    const isInOrder = isSameOrder(live.kept, range)
    if (!isInOrder) this.#unordered.add(range.order.column)
    if (isNew) return isInOrder
    const again = (): void => void (this.#isOver || this.#sync.invalidateLoadedSubsets())
    if (subset.isLent) subset.instead ??= this.#use(subset.condition, undefined, undefined, false)
    void Promise.resolve(this.#applied).then(again, again)
    return isInOrder
  }

  /** The row of a key. A query that is not live may have an old one. */
  #find(key: K, last: Subset<Row, K> | undefined): Row | undefined {
    const isNewest = (subset: Subset<Row, K> | undefined): boolean => subset?.told.status === 'live' && subset.rows.has(key)
    if (isNewest(last)) return last!.rows.get(key)
    let found: Row | undefined
    for (const subset of this.#subsets) {
      if (isNewest(subset)) return subset.rows.get(key)
      found ??= subset.rows.get(key)
    }
    return found
  }
}

const NONE: ReadonlySet<string> = /* @__PURE__ */ new Set()
/** A range has the first rows of another order than the collection's. */
const DISORDER = /* @__PURE__ */ new Error('the order is another one here')
const conjunctsOf = (condition: Condition | boolean): ReadonlySet<string> => (typeof condition === 'object' ? condition.conjuncts : NONE)
const isSubset = (some: ReadonlySet<string>, all: ReadonlySet<string>): boolean => [...some].every((part) => all.has(part))
/** A subset has the same range, from wherever to wherever. */
const isSame = (subset: Subset<any, any>, condition: Condition | true, { order, cursor }: Range): boolean =>
  subset.range !== undefined && textOf([subset.range.order, subset.range.cursor, subset.condition]) === textOf([order, cursor, condition])
const unloaded = (): Error => Object.assign(new Error('the subset was unloaded before it was there'), { name: 'AbortError' })
