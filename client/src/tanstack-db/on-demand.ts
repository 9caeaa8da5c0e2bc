import type { LoadSubsetOptions } from '@tanstack/db'
import type { Param, WalcastError } from '../index.js'
import { type Condition, type Expression, columnName, oneOf, pushDown, textOf, valuesOf } from './predicate.js'
import { type Range, isSameOrder, rangeOf } from './range.js'
import { type Key, type Source, type Subset, type Sync, rowsOf } from './rows.js'
import type { Run } from './whole.js'

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

/** A live query for what is demanded. */
interface Part extends Subset<any, any>, Demand {
  /** Those who need it: calls of `loadSubset` by their options, or another one. */
  readonly holders: Set<object>
  /** Where the range ended when that was looked at last. */
  bound?: string
  /** Those who asked for no range have their rows of it. */
  isLent: boolean
}

/** Demands for values of one column, to which further ones may still be added. */
interface Gathering {
  readonly values: Set<Param>
  readonly owners: object[]
  readonly loaded: Promise<void>
}

/** How long demands for values of one column wait for each other: joins ask for one after the other. */
const TOGETHER_MS = 10

/** Begins one run of a collection that has what its own live queries ask for. */
export function onDemand<Row extends object, K extends Key>(source: Source<Row, K>, sync: Sync<Row, K>): Run {
  const { query, local = [] } = source
  // The oldest cores cannot be told that a range is another one by now.
  const { invalidateLoadedSubsets: invalidate } = sync as { invalidateLoadedSubsets?: () => void }
  const { where: own, params: ownParams = [] } = typeof query.where === 'object' ? query.where : (query as Base)
  /** Options that are loaded and not unloaded. */
  const wanted = new Set<object>()
  /** By columns. */
  const gathering = new Map<string, Gathering>()
  /** Conditions that the server refused. */
  const weakened = new Set<string>()
  /** Columns whose order the collection does not share with the server. */
  const unordered = new Set<string>()
  const rows = rowsOf<Row, K, Part>(source, sync, { filled: (part) => look(part) })
  const { subsets, schedule, applied } = rows

  const loadSubset = (options: LoadSubsetOptions): true | Promise<void> => {
    wanted.add(options)
    const demand = demandOf(options)
    const part = demand && covering(demand)
    if (!demand || part?.isWritten) {
      part?.holders.add(options)
      return applied()
    }
    const unload = (): void => unloadSubset(options)
    const loaded = (!part && !demand.range && gather(options)) || open(options, [options])
    loaded.catch(unload)
    options.signal?.addEventListener('abort', unload, { once: true })
    return loaded
  }

  const unloadSubset = (options: LoadSubsetOptions): void => {
    wanted.delete(options)
    release(options)
  }

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
    let outdone: Part | undefined
    const leaveFor = (part: Part | undefined): void => {
      if (part) for (const owner of owners) leave(part, owner)
    }
    for (;;) {
      const wanting = owners.filter((owner) => wanted.has(owner))
      if (wanting.length === 0) throw unloaded()
      const demand = demandOf(options)
      if (!demand) return leaveFor(outdone)
      const { range } = demand
      const part = use(demand, wanting)
      schedule()
      try {
        await new Promise<void | true>((resolve, reject) => part.waiting.push((error) => (error ? reject(error) : resolve(applied()))))
        if (outdone !== part) leaveFor(outdone)
        if (!range || !(unordered.has(range.order.column) || isShort(part, range))) return
        outdone = part
      } catch (error) {
        leaveFor(part)
        if (!weaken(part, error as WalcastError)) throw error
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
  const covering = ({ condition, range, name }: Demand, borrows = true): Part | undefined => {
    for (const part of subsets) {
      // One that asks for the same, or for less to hold.
      const isWider = asksForLess(part, condition)
      if (!part.range ? isWider : range && name === part.name && !isShort(part, range)) return part
      if (!part.range || !part.isWritten || unordered.has(part.range.order.column)) continue
      // One that is all there is, for another order or more rows; what it becomes later, the collection is told.
      if (range ? isWider && !part.shown?.bound : borrows && hasTies(part, part.range, condition)) {
        part.isLent ||= !range
        return part
      }
    }
    return undefined
  }

  /** A range has fewer rows than it is asked for, and is not all there is: some have left it. */
  const isShort = ({ isWritten, rows, shown, range }: Part, { limit }: Range): boolean => (isWritten ? rows.size < limit && Boolean(shown?.bound) : range!.limit < limit)

  const use = (demand: Demand, holders: readonly object[], borrows?: boolean): Part => {
    const part = covering(demand, borrows) ?? subscribe(demand)
    for (const holder of holders) part.holders.add(holder)
    return part
  }

  const subscribe = ({ condition, range, name }: Demand): Part => {
    const { where, params } = condition
    // Those that have too few rows by now are other ones.
    for (const other of subsets) if (range && name === other.name) range = { ...range, limit: Math.max(range.limit, other.range!.limit + 10) }
    const narrowed = {
      ...query,
      ...(where && { where: own === undefined ? where : `(${own}) AND (${where})`, params: [...ownParams, ...params] }),
      ...(range && { orderBy: [range.order], limit: range.limit }),
    }
    return rows.add(narrowed, { condition, range, name, holders: new Set<object>(), isLent: false })
  }

  /** Somebody needs nothing any more. */
  const release = (holder: object): void => {
    for (const part of subsets) leave(part, holder)
  }

  const leave = (part: Part, holder: object): void => {
    if (!part.holders.delete(holder) || part.holders.size > 0) return
    rows.drop(part)
    for (const tell of part.waiting.splice(0)) tell(unloaded())
    release(part)
  }

  /** Looks whether what a range has are the first rows of the collection, too. If it ends elsewhere by now, the collection looks again. */
  const look = (part: Part): void => {
    const { condition, range, live, shown, bound, isLent } = part
    part.bound = textOf(shown?.bound)
    if (!range || bound === part.bound) return
    if (!isSameOrder(live.kept, range)) unordered.add(range.order.column)
    if (bound === undefined) return
    if (isLent) use({ condition }, [part], false)
    void Promise.resolve(applied()).then(invalidate, invalidate)
  }

  sync.markReady()
  return {
    ...rows,
    loadSubset,
    unloadSubset,
    end() {
      wanted.forEach(unloadSubset)
      rows.end()
    },
  }
}

/** The rows of a condition are those that tie with rows of a range, which has all of these. */
const hasTies = (part: Part, { order: { column }, cursor }: Range, asked: Condition): boolean =>
  asksForLess(part, asked, textOf(cursor)) &&
  [...asked.conjuncts.values()].some((conjunct) => {
    const { column: own, values } = valuesOf(conjunct) ?? {}
    return own && columnName(own) === column && values!.every((value) => [...part.rows.values()].some((row) => row[column] === value))
  })

/** Nothing has to hold for its rows, `further` apart, that has not to hold for those that are asked for. */
const asksForLess = ({ condition }: Part, asked: Condition, further?: string): boolean => [...condition.conjuncts.keys()].every((conjunct) => conjunct === further || asked.conjuncts.has(conjunct))

const unloaded = (): Error => new DOMException('the subset was unloaded', 'AbortError')
