import { type WalcastError, guarded } from './error.js'
import { type Entry, type Fold, type Status, type Step, type Stored, keyText } from './fold.js'
import type { Inside } from './inside.js'
import type { Position } from './position.js'
import type { Keeper, SharedResult } from './results.js'
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
export class LiveQuery<Out, Key> {
  readonly #listeners = new Set<Listener>()
  readonly #mapped = new WeakMap<Row, Out>()
  #isKept = false
  #isReading = false
  #last: { state: QueryState<Out>; entries: readonly Entry[] } | undefined
  readonly #abort: Run
  readonly #inside: Inside
  #shared: SharedResult
  /** For the client. */
  readonly options: LiveQueryOptions<any, Out>

  /** Made by a client's `liveQuery`. */
  constructor(
    inside: Inside,
    shared: SharedResult,
    options: LiveQueryOptions<any, Out>,
  ) {
    this.#inside = inside
    this.#shared = shared
    this.options = options
    this.#abort = () => this.close()
    options.signal?.addEventListener('abort', this.#abort, { once: true })
    this.#begin()
  }

  /** The result now. */
  get state(): QueryState<Out> {
    const { fold } = this.#shared
    const { version, status, filled, shown, error } = fold
    if (this.#last?.state.version === version) return this.#last.state
    const entries = this.options.partial && !filled ? fold.partial : fold.entries
    const rows = this.#last?.entries === entries ? this.#last.state.rows : entries.map((entry) => this.#out(entry))
    this.#last = { state: { rows, status, filled, position: shown?.position, error, version }, entries }
    return this.#last.state
  }

  /** The row of a key: the key column's value, or of several columns a list of them in the key's order. */
  get(key: Key): Out | undefined {
    return this.#outOf(this.#shared.fold.get(key))
  }

  /** Calls at once, and after each change. Returns what ends that. */
  subscribe(run: (state: QueryState<Out>) => void): Run {
    const told: Run = () => run(this.state)
    const end = this.onChange(told)
    guarded(told)
    return end
  }

  /** Calls after each change, and not at once. */
  onChange(changed: Run): Run {
    return this.#listen(() => changed())
  }

  /** Calls when the row of this key came, changed or left. */
  onRow(key: Key, changed: Run): Run {
    const name = keyText(key)
    return this.#listen((_, keys) => {
      if (keys().has(name)) changed()
    })
  }

  /** Gets what each change did, with the rows before. */
  onDiff(take: (diff: Diff<Out, Key>) => void): Run {
    // What happened before is in the rows already.
    let skip = this.#shared.fold.steps.length
    return this.#listen((steps) => {
      for (const step of steps) {
        if (skip > 0) skip--
        else guarded(() => take(this.#diffOf(step)))
      }
    })
  }

  /** Waits for the first whole result of the server. Rejects if there can be none. From then on it is read until `close`. */
  ready(signal?: AbortSignal): Promise<QueryState<Out>> {
    this.#isKept = true
    this.#read()
    return this.settled(signal)
  }

  /** The same without reading it any longer than that. */
  settled(signal?: AbortSignal): Promise<QueryState<Out>> {
    return new Promise((resolve, reject) => {
      let ends: readonly Run[] = []
      const check = (): void => {
        const { state } = this
        const error = signal?.aborted ? signal.reason : (state.error ?? this.#inside.failure)
        if (!error && state.status !== 'live') return
        for (const end of ends) end()
        if (error) reject(error)
        else resolve(state)
      }
      signal?.addEventListener('abort', check)
      ends = [this.onChange(check), this.#inside.onConnection(check), () => signal?.removeEventListener('abort', check)]
      check()
    })
  }

  /** The result as a store sees it: its columns, where it stands, and rows as they came beside those of the application. */
  get kept(): Kept {
    return this.#shared.fold
  }

  /** The result to send along with a page; undefined if there is no whole one. */
  dehydrate(): Dehydrated | undefined {
    return this.#shared.fold.store()
  }

  /** Ends it: nobody is called any more. */
  close(): void {
    this.options.signal?.removeEventListener('abort', this.#abort)
    this.#listeners.clear()
    this.#isKept = false
    this.#read()
  }

  /** Calls those who listen; each hears although another one fails. For the client. */
  tell(steps: readonly Step[]): void {
    let found: ReadonlySet<string> | undefined
    const keys: Keys = () => (found ??= new Set(steps.flatMap(({ changes }) => changes.map(({ key }) => key))))
    for (const listener of [...this.#listeners]) guarded(() => listener(steps, keys))
  }

  #begin(): void {
    const { initial, partial } = this.options
    const { fold } = this.#shared
    if (initial) fold.load(initial)
    if (partial) fold.showsPartial = true
  }

  #out({ row, raw }: Entry): Out {
    const { map } = this.options
    if (!map) return row as Out
    if (!this.#mapped.has(row)) this.#mapped.set(row, map(row, raw))
    return this.#mapped.get(row)!
  }

  #outOf(entry: Entry | undefined): Out | undefined {
    return entry && this.#out(entry)
  }

  #diffOf({ changes, tx }: Step): Diff<Out, Key> {
    const { key: names, shown } = this.#shared.fold
    return {
      position: shown?.position,
      changes: changes.map(({ key, before, after }) => {
        const { row } = (after ?? before)!
        const own = names.length > 1 ? names.map((name) => row[name]) : names.length > 0 ? row[names[0]!] : key
        return { key: own as Key, before: this.#outOf(before), row: this.#outOf(after) }
      }),
      ...(tx && { xid: tx.xid, ts: tx.ts }),
    }
  }

  #listen(listener: Listener): Run {
    this.#listeners.add(listener)
    this.#read()
    return () => {
      this.#listeners.delete(listener)
      this.#read()
    }
  }

  /** Is read, or is not any more. */
  #read(): void {
    const isRead = this.#isKept || this.#listeners.size > 0
    if (isRead === this.#isReading) return
    this.#isReading = isRead
    const { results } = this.#inside
    if (!isRead) return results.release(this, this.#shared)
    const shared = results.claim(this, this.#shared)
    if (shared === this.#shared) return
    this.#last = undefined
    this.#shared = shared
    this.#begin()
  }
}

/** The keys of the rows that changed. */
type Keys = () => ReadonlySet<string>
type Listener = (steps: readonly Step[], keys: Keys) => void

/** The result of a query that has not begun, and of none. */
export const NOTHING: QueryState<never> = /* @__PURE__ */ Object.freeze({ rows: /* @__PURE__ */ Object.freeze([]) as never[], status: 'connecting', filled: false, position: undefined, error: undefined, version: 0 })
