import { type WalcastError, guarded } from './error.js'
import { type Entry, type Fold, type Status, type Step, type Stored, keyText } from './fold.js'
import type { Inside } from './inside.js'
import type { Position } from './position.js'
import type { Keeper } from './results.js'
import type { Row } from './values.js'

type Run = () => void

/** A result at one moment. The same object until something changed. */
export interface QueryState<Out> {
  /** The rows in the order in which they came, or in that of `orderBy`. The objects are the same until their row changed. */
  readonly rows: readonly Out[]
  /**
   * `connecting` before there was a connection; `snapshot` while rows come for the first time; `catching-up` while `rows` is
   * what it was before, and the rest comes; `live`; `offline`; `error` if it ended, and why is in `error`.
   */
  readonly status: Status
  /** There has been a whole result, from the server or one that was stored. */
  readonly filled: boolean
  /** Where `rows` stood when it last changed; it is true from there up to now. */
  readonly position: Position | undefined
  readonly error: WalcastError | undefined
  /** Grows with each change. */
  readonly version: number
}

/** What became of one row; `before` is undefined if it was not in the result, `row` if it is not any more. */
export interface DiffChange<Out, Key> {
  readonly key: Key
  readonly before: Out | undefined
  readonly row: Out | undefined
}

/** What happened to a result in one step: one or more whole transactions, or a result that replaced another. */
export interface Diff<Out, Key> {
  readonly position: Position | undefined
  readonly changes: readonly DiffChange<Out, Key>[]
  /** The transaction, if it was one alone, and the time of its commit: with `batch: 'transaction'` all but those missed are. */
  readonly xid?: number
  readonly ts?: string
}

/** A result that a page is sent along with, or that was stored: JSON can hold it. */
export type Dehydrated = Stored

/** A result as a store sees it. */
export type Kept = Pick<Fold, 'identity' | 'fields' | 'entries' | 'shown' | 'key' | 'columns'>

/** Has a client store its results, for when the page comes again: `indexedDB` of `@walcast/client/persist`. */
export type Persistence = (inside: Inside) => Keeper

export interface LiveQueryOptions<In, Out> {
  /**
   * Makes what the application gets from a row: once per row that changed. It must not depend on anything else. `raw` is the
   * row as it came, before parsers.
   */
  readonly map?: (row: In, raw: Readonly<Row>) => Out
  /** Show the rows of the first snapshot as they come, before it is whole. */
  readonly partial?: boolean
  /** Whether it is stored, where the client stores results. */
  readonly persist?: boolean
  /** A result to begin with. */
  readonly initial?: Dehydrated
  /** Closes the query. */
  readonly signal?: AbortSignal
}

/**
 * A live query: rows that stay what `SELECT … WHERE` gives. It is read while it has a listener or somebody has called `ready`,
 * until `close`; otherwise the connection is not used for it.
 */
export interface LiveQuery<Out, Key> {
  /** The result now. */
  readonly state: QueryState<Out>
  /** What it was made with. */
  readonly options: LiveQueryOptions<any, Out>
  /** The result as a store sees it: its columns, where it stands, and rows as they came beside those of the application. */
  readonly kept: Kept
  /** The row of a key: the key column's value, or of several columns a list of them in the key's order. */
  get(key: Key): Out | undefined
  /** Calls at once, and after each change. Returns what ends that. */
  subscribe(run: (state: QueryState<Out>) => void): Run
  /** Calls after each change, and not at once. */
  onChange(changed: Run): Run
  /** Waits for the first whole result of the server. Rejects if there can be none. From then on it is read until `close`. */
  ready(signal?: AbortSignal): Promise<QueryState<Out>>
  /** The same without reading it any longer than that. */
  settled(signal?: AbortSignal): Promise<QueryState<Out>>
  /** The result to send along with a page; undefined if there is no whole one. */
  dehydrate(): Dehydrated | undefined
  /** Ends it: nobody is called any more. */
  close(): void
}

/** Gets what was seen to change. */
type Listener = (steps: readonly Step[]) => void

/** What the functions of this package have of a live query besides. */
interface Whole<Out, Key> extends LiveQuery<Out, Key> {
  readonly kept: Fold
  listen(listener: Listener): Run
  /** What the application gets from an entry. */
  out(entry: Entry | undefined): Out | undefined
}

export function makeLiveQuery<Out, Key>(inside: Inside, fold: Fold, options: LiveQueryOptions<any, Out>): LiveQuery<Out, Key> {
  const { initial, map, partial, signal } = options
  const { forgotten } = inside.results
  const listeners = new Set<Listener>()
  const mapped = new WeakMap<Row, Out>()
  let isKept = false
  let isReading = false
  let last: QueryState<Out> | undefined
  let lastEntries: readonly Entry[] | undefined

  function begin(): void {
    if (initial && forgotten === inside.results.forgotten) fold.load(initial)
    if (partial) fold.showsPartial = true
  }

  function out(entry: Entry): Out
  function out(entry: Entry | undefined): Out | undefined
  function out(entry: Entry | undefined): Out | undefined {
    if (!entry || !map) return entry?.row as Out | undefined
    const { row, raw } = entry
    if (!mapped.has(row)) mapped.set(row, map(row, raw))
    return mapped.get(row)
  }

  /** Calls those who listen; each hears although another one fails, and nobody who has ended it meanwhile. */
  function tell(steps: readonly Step[]): void {
    for (const listener of [...listeners]) if (listeners.has(listener)) guarded(() => listener(steps))
  }

  /** Is read, or is not any more. */
  function read(): void {
    const isRead = isKept || listeners.size > 0
    if (isRead === isReading) return
    isReading = isRead
    const { results } = inside
    if (!isRead) return results.release(tell, fold)
    const own = results.claim(tell, fold, options)
    if (own === fold) return
    last = undefined
    fold = own
    begin()
  }

  function listen(listener: Listener): Run {
    listeners.add(listener)
    read()
    return () => {
      listeners.delete(listener)
      read()
    }
  }

  const live: Whole<Out, Key> = {
    options,
    listen,
    out,

    get state() {
      const { version, status, filled, shown, error } = fold
      if (last?.version !== version) {
        const entries = partial && !filled ? fold.partial : fold.entries
        const rows = last && lastEntries === entries ? last.rows : entries.map((entry) => out(entry))
        last = { rows, status, filled, position: shown?.position, error, version }
        lastEntries = entries
      }
      return last
    },

    get kept() {
      return fold
    },

    get: (key) => out(fold.get(key)),

    subscribe(run) {
      const told: Run = () => run(live.state)
      const end = listen(told)
      guarded(told)
      return end
    },

    onChange: (changed) => listen(() => changed()),

    ready(signal) {
      isKept = true
      read()
      return live.settled(signal)
    },

    settled(signal) {
      return new Promise((resolve, reject) => {
        let ends: readonly Run[] = []
        const check = (): void => {
          const { state } = live
          const error = signal?.aborted ? signal.reason : (state.error ?? inside.failure)
          if (!error && state.status !== 'live') return
          for (const end of ends) end()
          if (error) reject(error)
          else resolve(state)
        }
        signal?.addEventListener('abort', check)
        ends = [listen(check), inside.onConnection(check), () => signal?.removeEventListener('abort', check)]
        check()
      })
    },

    dehydrate: () => fold.store(),

    close() {
      signal?.removeEventListener('abort', live.close)
      listeners.clear()
      isKept = false
      read()
    },
  }
  signal?.addEventListener('abort', live.close)
  begin()
  return live
}

/** The keys of the rows that changed, which those who listen to rows share. */
const keysOf = /* @__PURE__ */ new WeakMap<readonly Step[], ReadonlySet<string>>()

/** Calls when the row of this key of a live query came, changed or left. Returns what ends that. */
export function onRow<Key>(query: LiveQuery<any, Key>, key: Key, changed: Run): Run {
  const name = keyText(key)
  return (query as Whole<any, Key>).listen((steps) => {
    const keys = keysOf.get(steps) ?? new Set(steps.flatMap(({ changes }) => changes.map(({ key }) => key)))
    keysOf.set(steps, keys)
    if (keys.has(name)) changed()
  })
}

/** Gives what each change of a live query did, with the rows before. Returns what ends that. */
export function onDiff<Out, Key>(query: LiveQuery<Out, Key>, take: (diff: Diff<Out, Key>) => void): Run {
  const { listen, out } = query as Whole<Out, Key>
  // A query that is read from now on may share another result than before. What happened to that so far is in its rows already.
  const end = listen(() => {})
  let skip = (query as Whole<Out, Key>).kept.steps.length
  const diffOf = ({ changes, tx }: Step, { key: names, shown }: Fold): Diff<Out, Key> => ({
    position: shown?.position,
    changes: changes.map(({ key, before, after }) => {
      const { row } = (after ?? before)!
      const own = names.length > 1 ? names.map((name) => row[name]) : names.length > 0 ? row[names[0]!] : key
      return { key: own as Key, before: out(before), row: out(after) }
    }),
    ...(tx && { xid: tx.xid, ts: tx.ts }),
  })
  const stop = listen((steps) => {
    for (const step of steps) {
      if (skip > 0) skip--
      else guarded(() => take(diffOf(step, (query as Whole<Out, Key>).kept)))
    }
  })
  end()
  return stop
}

/** The result of a query that has not begun, and of none. */
export const NOTHING: QueryState<never> = /* @__PURE__ */ Object.freeze({ rows: /* @__PURE__ */ Object.freeze([]) as never[], status: 'connecting', filled: false, position: undefined, error: undefined, version: 0 })
