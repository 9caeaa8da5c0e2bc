import { type WalcastError, guarded } from './error.js'
import type { Entry, EntryChange, Fold, Status, Stored } from './fold.js'
import type { Inside } from './inside.js'
import type { Position } from './position.js'
import type { Place } from './protocol.js'
import type { SharedResult } from './results.js'
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
export type Kept = Pick<Fold, 'identity' | 'entries' | 'shown' | 'key' | 'columns'>

/** Where results are stored, for when the page comes again: `indexedDB` of `@walcast/client/persist`. Whatever fails, the client goes on without it. */
export interface Persistence {
  /** What is stored under a name; undefined if there is nothing. */
  load(name: string): Promise<Dehydrated | undefined>
  /**
   * A result has changed: by these steps, or to whatever it is now. `place` tells where it stands when that is asked, which
   * may be beyond what changed last.
   */
  save(name: string, result: Kept, steps: readonly (readonly EntryChange[])[] | undefined, place: () => Place | undefined): void
  clear(): Promise<void>
}

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
  readonly #listeners = new Set<Run>()
  readonly #byRow = new Map<string, Set<Run>>()
  readonly #takers = new Set<{ readonly take: (diff: Diff<Out, Key>) => void; skip: number }>()
  readonly #mapped = new WeakMap<Row, Out>()
  #isKept = false
  #isReading = false
  #last: { state: QueryState<Out>; entries: readonly Entry[] } | undefined
  readonly #abort: Run

  /** Made by a client's `liveQuery`. */
  readonly #inside: Inside
  #shared: SharedResult
  readonly #options: LiveQueryOptions<any, Out>

  constructor(
    inside: Inside,
    shared: SharedResult,
    options: LiveQueryOptions<any, Out>,
  ) {
    this.#inside = inside
    this.#shared = shared
    this.#options = options
    this.#abort = () => this.close()
    options.signal?.addEventListener('abort', this.#abort, { once: true })
    this.#begin()
  }

  /** The result now. */
  get state(): QueryState<Out> {
    const { fold } = this.#shared
    const { version } = fold
    if (this.#last?.state.version === version) return this.#last.state
    const entries = this.#isPartial ? fold.partial : fold.entries
    const rows = this.#last?.entries === entries ? this.#last.state.rows : entries.map((entry) => this.#out(entry))
    const { status, filled, shown, error } = fold
    this.#last = { state: { rows, status, filled, position: shown?.position, error, version }, entries }
    return this.#last.state
  }

  /** The result that it began with, as it was rendered on a server. The same object each time. */
  get initial(): QueryState<Out> {
    this.#initial ??= this.#begun()
    return this.#initial?.state ?? NOTHING
  }

  /** The row of a key in that result. */
  initialRow(key: Key): Out | undefined {
    this.#initial ??= this.#begun()
    const entry = this.#initial?.fold.get(key)
    return entry && this.#out(entry)
  }
  #initial: { fold: Fold; state: QueryState<Out> } | undefined

  #begun(): { fold: Fold; state: QueryState<Out> } | undefined {
    const { initial } = this.#options
    if (!initial) return undefined
    const fold = this.#shared.fold.twin()
    if (!fold.load(initial)) return undefined
    const { status, filled, shown } = fold
    return { fold, state: { rows: fold.entries.map((entry) => this.#out(entry)), status, filled, position: shown?.position, error: undefined, version: 0 } }
  }

  /** The row of a key: the key column's value, or of several columns a list of them in the key's order. */
  get(key: Key): Out | undefined {
    const entry = this.#shared.fold.get(key)
    return entry && this.#out(entry)
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
    // The same function may listen twice.
    return this.#listen(this.#listeners, () => changed())
  }

  /** Calls when the row of this key came, changed or left. */
  onRow(key: Key, changed: Run): Run {
    const name = keyText(key)
    const own = this.#byRow.get(name) ?? new Set()
    this.#byRow.set(name, own)
    const end = this.#listen(own, () => changed())
    return () => {
      end()
      if (own.size === 0 && this.#byRow.get(name) === own) this.#byRow.delete(name)
      this.#read()
    }
  }

  /** Gets what each change did, with the rows before. */
  onDiff(take: (diff: Diff<Out, Key>) => void): Run {
    // What happened before is in the rows already.
    return this.#listen(this.#takers, { take, skip: this.#shared.fold.steps })
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
      const ends = [this.onChange(() => check()), this.#inside.onConnection(() => check())]
      const aborted = (): void => finish(() => reject(signal!.reason))
      const finish = (act: Run): void => {
        for (const end of ends) end()
        signal?.removeEventListener('abort', aborted)
        act()
      }
      const check = (): void => {
        const { state } = this
        const error = state.error ?? this.#inside.failure
        if (error) finish(() => reject(error))
        else if (state.status === 'live') finish(() => resolve(state))
      }
      if (signal?.aborted) return aborted()
      signal?.addEventListener('abort', aborted, { once: true })
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
    this.#options.signal?.removeEventListener('abort', this.#abort)
    this.#listeners.clear()
    this.#byRow.clear()
    this.#takers.clear()
    this.#isKept = false
    this.#read()
  }

  /** Whether its rows may be stored. */
  get isStored(): boolean {
    return this.#options.persist !== false
  }

  /** Calls those who listen; each hears although another one fails. For the client. */
  tell(diffs: readonly (readonly EntryChange[])[]): void {
    const position = this.#shared.fold.shown?.position
    const rows = new Set<string>()
    const takers = [...this.#takers]
    for (const changes of diffs) {
      if (this.#byRow.size > 0) for (const change of changes) rows.add(keyText(this.#keyOf(change)))
      if (takers.length === 0) continue
      const { xid, ts } = this.#shared.fold.origin(changes) ?? {}
      const diff = { position, changes: changes.map((change) => this.#diffOf(change)), ...(xid !== undefined && { xid, ts: ts! }) }
      for (const taker of takers) {
        if (taker.skip > 0) taker.skip--
        else guarded(() => taker.take(diff))
      }
    }
    for (const key of rows) for (const run of [...(this.#byRow.get(key) ?? [])]) guarded(run)
    for (const run of [...this.#listeners]) guarded(run)
  }

  #begin(): void {
    const { initial, partial } = this.#options
    if (initial) this.#shared.fold.load(initial)
    if (partial) this.#shared.fold.showsPartial = true
  }

  get #isPartial(): boolean {
    return this.#options.partial === true && !this.#shared.fold.filled
  }

  #out({ row, raw }: Entry): Out {
    const { map } = this.#options
    if (!map) return row as Out
    if (!this.#mapped.has(row)) this.#mapped.set(row, map(row, raw))
    return this.#mapped.get(row)!
  }

  #diffOf(change: EntryChange): DiffChange<Out, Key> {
    const { before, after } = change
    return { key: this.#keyOf(change), before: before && this.#out(before), row: after && this.#out(after) }
  }

  #keyOf({ key, before, after }: EntryChange): Key {
    const { fold } = this.#shared
    if (fold.key.length === 0) return key as Key
    const { row } = (after ?? before)!
    return (fold.key.length === 1 ? row[fold.key[0]!] : fold.key.map((name) => row[name])) as Key
  }

  #listen<F>(listeners: Set<F>, listener: F): Run {
    listeners.add(listener)
    this.#read()
    return () => {
      listeners.delete(listener)
      this.#read()
    }
  }

  /** Is read, or is not any more. */
  #read(): void {
    const isRead = this.#isKept || this.#listeners.size + this.#byRow.size + this.#takers.size > 0
    if (isRead === this.#isReading) return
    this.#isReading = isRead
    if (!isRead) return this.#inside.results.release(this, this.#shared)
    const shared = this.#inside.results.claim(this, this.#shared)
    if (shared === this.#shared) return
    this.#last = undefined
    this.#shared = shared
    this.#begin()
  }
}

/** The result of a query that has not begun, and of none. */
export const NOTHING: QueryState<never> = Object.freeze({ rows: Object.freeze([]) as never[], status: 'connecting', filled: false, position: undefined, error: undefined, version: 0 })

/** A key as text: the same for `1`, `1n` and `"1"`, since a bigint may come as any of them. */
export const keyText = (key: unknown): string =>
  typeof key === 'object' ? JSON.stringify(key, (_, part: unknown) => (typeof part === 'bigint' ? String(part) : part)) : String(key)
