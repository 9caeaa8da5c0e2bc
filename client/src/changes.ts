import { type Client, insideOf } from './client.js'
import { WalcastError, misfit } from './error.js'
import { lacking } from './features.js'
import type { Inside } from './inside.js'
import { type Position, endOf, later } from './position.js'
import type { Hello, Place, Subscribed, Tx, WireChange } from './protocol.js'
import { type Fields, fieldsOf, goOn, placeOf } from './request.js'
import type { Feed } from './session.js'
import { orderOf } from './sort.js'
import type { AnySchema, Columns, Query, RowOf, Table } from './types.js'
import type { Decode, Row } from './values.js'

/** A row by its key's columns. */
export type KeyRow = Readonly<Record<string, unknown>>

interface Common {
  /** Its index among all changes of the transaction. */
  readonly seq: number
  /** The log does not tell whether the row is in the result; `asBefore`: it is if it was. */
  readonly undecided?: true
  readonly asBefore?: true
}

/** What a transaction did to one row of the result. `cause` is `update` if the row came or left by an UPDATE. */
export type Change<R = Row> =
  | (Common & { readonly op: 'insert'; readonly row: R; readonly unchanged: readonly string[]; readonly cause?: 'update' })
  /** `key` is the key before, if it changed. `unchanged` names columns that `row` lacks since they stayed as they were. */
  | (Common & { readonly op: 'update'; readonly row: R; readonly unchanged: readonly string[]; readonly key?: KeyRow; readonly old?: Partial<R> })
  | (Common & { readonly op: 'delete'; readonly key: KeyRow; readonly old?: Partial<R>; readonly cause?: 'update' })
  | (Common & { readonly op: 'truncate' })
  /** A row that is larger than the server sends, of which only the key is known. */
  | (Common & { readonly op: 'oversize'; readonly of: 'insert' | 'update'; readonly key: KeyRow; readonly newKey?: KeyRow })

/** What a reader of changes gets. `place` is where to go on from: store it together with what was done. */
export type ChangeEvent<R = Row> =
  | { readonly type: 'rows'; readonly rows: readonly R[] }
  | { readonly type: 'live'; readonly place: Place }
  /** With `more`, further parts of the transaction may follow: those that concern this reader. */
  | { readonly type: 'tx'; readonly position: Position; readonly xid: number; readonly ts: string; readonly more: boolean; readonly changes: readonly Change<R>[]; readonly place: Place }
  /** What was read so far is not the beginning of what follows: it begins anew, with rows if that was asked for. */
  | { readonly type: 'gap'; readonly error: WalcastError }

export interface ChangesOptions {
  /** Where to begin: a place that was stored, the first transaction not before a time, `earliest`, or now, which is the default. */
  readonly from?: Place | { readonly time: string | Date } | 'earliest' | 'now'
  /** Begin with the rows that are there. */
  readonly snapshot?: boolean
  /** Have `old` rows, where they are known. */
  readonly old?: boolean
  readonly ops?: readonly ('insert' | 'update' | 'delete' | 'truncate')[]
  /** Give transactions as a whole, however many changes they have; otherwise a large one comes in parts. */
  readonly whole?: boolean
  /** Changes that are kept for a reader who is slow, 10,000. Beyond, the server keeps them. */
  readonly buffer?: number
  /** If the place is lost: throw, which is the default, or begin anew with a snapshot after a `gap`. */
  readonly onGap?: 'throw' | 'snapshot'
  readonly signal?: AbortSignal
}

/** A message that an application wrote with `pg_logical_emit_message`. */
export interface Message {
  readonly position: Position
  /** 0 if it was written outside of a transaction. */
  readonly xid: number
  /** Null if it is larger than the server sends; `\x…` if it is no text (`encoding`). */
  readonly content: string | null
  readonly encoding?: 'hex'
}

/** Every change of a query's result, in order, at the reader's pace. */
export function changes<S = AnySchema, const T extends Table<S> = Table<S>, const C extends keyof RowOf<S, T> = keyof RowOf<S, T>>(
  client: Client<S>,
  query: Query<S, T, C>,
  options: ChangesOptions = {},
): AsyncIterableIterator<ChangeEvent<Columns<S, T, C>>> {
  const { old, ops } = options
  return new Changes(insideOf(client), { ...fieldsOf(query, { fieldsOf: orderOf }), ...(old && { old }), ...(ops && { ops }) }, options)
}

/** The messages that applications write under a prefix with `pg_logical_emit_message`: all, or those of one content. */
export async function* messages(
  client: Client<any>,
  prefix: string,
  { content, ...options }: Pick<ChangesOptions, 'from' | 'buffer' | 'signal'> & { readonly content?: string } = {},
): AsyncGenerator<Message, void, undefined> {
  for await (const event of new Changes<unknown>(insideOf(client), { messages: prefix, ...(content !== undefined && { content }) }, options)) {
    if (event.type !== 'tx') continue
    const { position, xid, changes } = event
    for (const { content, encoding } of changes as unknown as readonly Message[]) {
      yield { position, xid, content, ...(encoding && { encoding }) }
    }
  }
}

/**
 * A reader of changes at its own pace. It holds a bounded number of them; beyond, it leaves the stream and comes back to its
 * place once they are read: the server's journal is the buffer.
 */
export class Changes<R> implements AsyncIterableIterator<ChangeEvent<R>>, Feed {
  readonly isResult = false
  readonly filled = false
  readonly #needs: readonly string[]
  #place: Place | undefined
  #started = false
  #isPaused = false
  #isOver = false
  #error: WalcastError | undefined
  #events: ChangeEvent<R>[] = []
  #held = 0
  #gathered: Change<R>[] = []
  /** The last part of what is gathered. */
  #part: Tx | undefined
  #decode: Decode = (raw) => raw
  #columns: string | undefined
  #begun: Place | undefined
  #waiting: (() => void) | undefined
  #unlisten: (() => void) | undefined
  readonly #aborted = (): void => this.finish()

  readonly fields: Fields
  #options: ChangesOptions
  readonly #inside: Inside

  constructor(
    inside: Inside,
    fields: Fields,
    options: ChangesOptions,
  ) {
    this.#inside = inside
    this.fields = fields
    this.#options = options
    const { from } = options
    if (typeof from === 'object' && 'position' in from) this.#place = from
    this.#needs = [...(typeof from === 'object' && 'time' in from ? ['time'] : []), ...('content' in fields ? ['content'] : []), ...(fields.order_by || fields.limit !== undefined ? ['range'] : [])]
    options.signal?.addEventListener('abort', this.#aborted)
    if (options.signal?.aborted) this.#isOver = true
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  async next(): Promise<IteratorResult<ChangeEvent<R>>> {
    for (;;) {
      const event = this.#events.shift()
      if (event) {
        if (event.type === 'tx') this.#held -= event.changes.length
        return { done: false, value: event }
      }
      if (this.#error) {
        const error = this.#error
        this.#error = undefined
        throw error
      }
      if (this.#isOver) return { done: true, value: undefined }
      if (this.#waiting) throw new WalcastError('bad_request', 'a reader of changes is read by one loop at a time')
      if (!this.#started || this.#isPaused) {
        this.#started = true
        this.#isPaused = false
        this.#start()
        continue
      }
      await new Promise<void>((resolve) => (this.#waiting = resolve))
    }
  }

  async return(): Promise<IteratorResult<ChangeEvent<R>>> {
    this.finish()
    return { done: true, value: undefined }
  }

  lacking(hello: Hello): WalcastError | undefined {
    return lacking(this.#needs, hello)
  }

  request(): Record<string, unknown> {
    const place = this.#place
    const options = this.#options
    const { fields } = this
    if (place) return goOn(place, fields)
    if (options.snapshot) return { ...fields, snapshot: true }
    const { from } = options
    if (typeof from === 'object' && 'time' in from) return { ...fields, from: { time: from.time } }
    return from === 'earliest' ? { ...fields, from } : { ...fields }
  }

  accepted(message: Subscribed, epoch: string): void {
    const { columns } = message
    const before = this.#columns
    this.#columns = JSON.stringify(columns)
    this.#decode = this.#inside.decoderFor(this.fields.table ?? '', columns ?? [])
    const resumes = this.#place !== undefined
    if (resumes && before !== undefined && before !== this.#columns) throw misfit()
    this.#begun = placeOf(message, epoch)
    // Rows have no place before `live`; changes have.
    if (resumes || !this.#options.snapshot) this.#place = this.#begun
  }

  snapshot(rows: readonly Row[]): void {
    this.#give({ type: 'rows', rows: rows.map(this.#decode) as R[] })
  }

  take(changes: readonly WireChange[], _: boolean, tx: Tx): void {
    const own = changes.map((change) => this.#change(change))
    // The end of a transaction is not told to those whom it does not concern.
    if (this.#part && endOf(this.#part.position) !== endOf(tx.position)) this.#flush()
    // A part that has been given, or is held here, is not asked for again.
    if (this.#place) this.#place = { ...this.#place, position: tx.position }
    if (this.#options.whole) {
      this.#gathered.push(...own)
      this.#part = tx
      if (!tx.more) this.#flush()
    } else this.#giveTx(tx, own, tx.position)
    // Before `live` the rows of a snapshot have no place to come back to.
    if (this.#place && this.#held > (this.#options.buffer ?? 10_000)) this.#pause()
  }

  advance(position: Position): void {
    if (this.#place) this.#place = { ...this.#place, position: later(this.#place.position, position) }
  }

  live(position: Position): void {
    if (!position.includes(':')) this.#flush()
    this.#place = { ...this.#begun!, position }
    this.#give({ type: 'live', place: this.#place })
  }

  settle(): void {
    this.#flush()
  }

  lost(): void {
    // Rows without a place come again.
    if (this.#begun && !this.#place && this.#options.snapshot) this.#gap(new WalcastError('closed', 'the connection was lost before all rows had come: they come again'))
    this.#begun = undefined
  }

  restart(error: WalcastError): void {
    if (this.#options.onGap !== 'snapshot') {
      this.#stop()
      return this.fail(error)
    }
    this.#place = undefined
    this.#options = { ...this.#options, snapshot: true }
    this.#gap(error)
  }

  fail(error: WalcastError): void {
    this.#unlisten?.()
    this.#options.signal?.removeEventListener('abort', this.#aborted)
    this.#error = error
    this.#isOver = true
    this.#wake()
  }

  /** Ends it, from whichever side. */
  finish(error?: WalcastError): void {
    if (this.#isOver) return
    this.#isOver = true
    this.#error = error
    this.#events = []
    this.#options.signal?.removeEventListener('abort', this.#aborted)
    this.#stop()
    this.#wake()
  }

  /** Gives what was gathered of a transaction, of which nothing more comes. */
  #flush(): void {
    const part = this.#part
    this.#part = undefined
    if (part) this.#giveTx(part, this.#gathered.splice(0), endOf(part.position))
  }

  #giveTx({ xid, ts, more }: Tx, changes: Change<R>[], position: Position): void {
    if (changes.length === 0) return
    this.#held += changes.length
    const place = { ...(this.#place ?? this.#begun!), position }
    this.#give({ type: 'tx', position, xid, ts, more: more === true && position.includes(':'), changes, place })
  }

  #start(): void {
    const { failure, session, act, use, onConnection } = this.#inside
    if (failure?.code === 'closed') return this.fail(failure)
    this.#unlisten = onConnection(() => {
      const { failure } = this.#inside
      if (failure?.code === 'closed') this.finish(failure)
    })
    act(() => {
      session.add(this)
      use()
    })
  }

  #stop(): void {
    const { session, act } = this.#inside
    this.#unlisten?.()
    act(() => session.remove(this))
  }

  #pause(): void {
    this.#isPaused = true
    this.#stop()
  }

  #gap(error: WalcastError): void {
    this.#gathered = []
    this.#part = undefined
    this.#columns = undefined
    this.#give({ type: 'gap', error })
  }

  #give(event: ChangeEvent<R>): void {
    if (this.#isOver) return
    this.#events.push(event)
    this.#wake()
  }

  #wake(): void {
    this.#waiting?.()
    this.#waiting = undefined
  }

  #change({ op, seq, row, key, old, new_key, cause, unchanged = [], undecided, as_before, oversize, ...message }: WireChange): Change<R> {
    const common = { seq, ...(undecided && { undecided }), ...(as_before && { asBefore: as_before }), ...(cause && { cause }) }
    if (op === 'truncate') return { ...common, op }
    if (op === 'delete') return { ...common, op, key: key ?? {}, ...(old && { old: this.#decode(old) as Partial<R> }) }
    // A logical message: `messages` makes of it what its readers get.
    if (op === 'message') return { ...common, op, ...message } as never
    if (oversize) return { ...common, op: 'oversize', of: op as 'insert' | 'update', key: key ?? {}, ...(new_key && { newKey: new_key }) }
    if (!row || (op !== 'insert' && op !== 'update')) throw new WalcastError('bad_frame', `the server sent a change that is none: ${op}`)
    const own = { ...common, row: this.#decode(row) as R, unchanged }
    if (op === 'insert') return { ...own, op }
    return { ...own, op, ...(key && { key }), ...(old && { old: this.#decode(old) as Partial<R> }) }
  }
}
