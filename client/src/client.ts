import { type ChangeEvent, Changes, type ChangesOptions } from './changes.js'
import { WalcastError, asError } from './error.js'
import { type EntryChange, Fold } from './fold.js'
import { type Connection, Link } from './link.js'
import type { ClientOptions, Inspection, Message } from './options.js'
import type { Position } from './position.js'
import type { Column, Frame } from './protocol.js'
import { type Dehydrated, type Host, LiveQuery, type LiveQueryOptions, type QueryState, type Shared } from './query.js'
import { addressOf, fieldsOf, identityOf } from './request.js'
import { type Feed, Session } from './session.js'
import { type Opened, type PageEvent, type Platform, type SocketClass, platform as realPlatform } from './socket.js'
import type { Token, TokenReason } from './token.js'
import type { AnyQuery, AnySchema, Columns, KeyOf, Query, RowOf, Table } from './types.js'
import { type Decode, decoder } from './values.js'
import { type WaitOptions, type WaitTarget, Waits } from './waits.js'

/** A timer that is so late was asleep. */
const LATE_MS = 5000

/** The reader of a query that all share who have no options for it; nobody may close it. For the adapters of frameworks. */
export let readerOf: (client: Client<any>, query: AnyQuery, initial: Dehydrated | undefined) => LiveQuery<any, any>

/** Live queries over one connection. Made by `createClient`. */
export class Client<S = AnySchema> {
  readonly #platform: Platform
  readonly #link: Link
  readonly #session: Session
  readonly #address: string
  readonly #host: Host
  readonly #shared = new Map<string, Shared>()
  readonly #connectionListeners = new Set<(now: Connection, before: Connection) => void>()
  readonly #warned = new Set<string>()
  readonly #waits: Waits
  readonly #dirty = new Set<Shared>()
  readonly #inspectors = new Set<(type: 'sent' | 'received', text: string) => void>()
  readonly #unwatch: () => void
  #token: Token | undefined
  #socket: Opened | undefined
  #question: AbortController | undefined
  #depth = 0
  #isTelling = false
  #hasFrame = false
  #cancelTimer: (() => void) | undefined
  #timerAt = Infinity
  /** Everything was live on this connection. */
  #isGood = false
  #cleared = 0

  readonly #options: ClientOptions<S>

  constructor(
    url: string | URL,
    options: ClientOptions<S>,
    platform: Platform | undefined,
  ) {
    this.#options = options
    this.#address = addressOf(url, options.numbers)
    this.#platform = platform ?? realPlatform(options.share ? options.share(options.webSocket ?? (globalThis.WebSocket as SocketClass | undefined)) : options.webSocket)
    this.#token = options.token
    const { random } = this.#platform
    this.#link = new Link(
      {
        open: () => this.#open(),
        send: (message) => this.#send(message),
        drop: () => this.#drop(),
        ask: (reason, generation) => void this.#ask(reason, generation),
        changed: (now, before) => this.#connectionChanged(now, before),
        lost: () => this.#session.lost(),
        forget: () => this.#forget(),
        random,
      },
      () => this.#token !== undefined,
      options.backoff,
    )
    this.#session = new Session(
      {
        send: (message) => this.#send(message),
        changed: (feeds) => this.#changed(feeds),
        advanced: () => this.#advanced(),
        took: (xid) => this.#waits.took(xid),
        random,
      },
      options.backoff,
    )
    this.#waits = new Waits(this.#session, { send: (message) => this.#send(message), warn: (text) => this.#warn('', text), tell: () => this.#tell() })
    const client = this
    this.#host = {
      claim: (query, shared) => this.#claim(query, shared),
      release: (query, shared) => this.#release(query, shared),
      onConnection: (changed) => this.onConnection(changed),
      guarded,
      get failure() {
        return client.#failure
      },
    }
    this.#unwatch = this.#platform.watch((event) => this.#act(() => this.#page(event)))
    if (options.connect === 'now') this.connect()
  }

  /** The state of the connection. The same object until it changed. */
  get connection(): Connection {
    return this.#link.connection
  }

  /** Calls with each change of the connection's state. Returns what ends that. */
  onConnection(changed: (now: Connection, before: Connection) => void): () => void {
    const listener: typeof changed = (now, before) => changed(now, before)
    this.#connectionListeners.add(listener)
    return () => void this.#connectionListeners.delete(listener)
  }

  /** A live query. Equal ones share one subscription, whatever their options. */
  liveQuery<const T extends Table<S>, const C extends keyof RowOf<S, T> = keyof RowOf<S, T>, Out = Columns<S, T, C>>(
    query: Query<S, T, C>,
    options: LiveQueryOptions<Columns<S, T, C>, Out> = {},
  ): LiveQuery<Out, KeyOf<S, T>> {
    return new LiveQuery(this.#host, this.#share(query), options)
  }

  /** The result once, for a server that renders a page: `dehydrated` goes along with it, and the page goes on from there. */
  async query<const T extends Table<S>, const C extends keyof RowOf<S, T> = keyof RowOf<S, T>, Out = Columns<S, T, C>>(
    query: Query<S, T, C>,
    options: LiveQueryOptions<Columns<S, T, C>, Out> = {},
  ): Promise<QueryState<Out> & { readonly dehydrated: Dehydrated }> {
    const { signal, ...others } = options
    const live = this.liveQuery<T, C, Out>(query, others)
    const state = await live.settled(signal)
    return { ...state, dehydrated: live.dehydrate()! }
  }

  /** Every change of a query's result, in order, at the reader's pace. */
  changes<const T extends Table<S>, const C extends keyof RowOf<S, T> = keyof RowOf<S, T>>(
    query: Query<S, T, C>,
    options: ChangesOptions = {},
  ): AsyncIterableIterator<ChangeEvent<Columns<S, T, C>>> {
    const { old, ops } = options
    return this.#read({ ...fieldsOf(query), ...(old && { old }), ...(ops && { ops }) }, options)
  }

  /** The messages that applications write under a prefix with `pg_logical_emit_message`: all, or those of one content. */
  async *messages(
    prefix: string,
    { content, ...options }: Pick<ChangesOptions, 'from' | 'buffer' | 'signal'> & { readonly content?: string } = {},
  ): AsyncGenerator<Message, void, undefined> {
    for await (const event of this.#read<unknown>({ messages: prefix, ...(content !== undefined && { content }) }, options)) {
      if (event.type !== 'tx') continue
      const { position, xid, changes } = event
      for (const { content, encoding } of changes as unknown as readonly Message[]) {
        yield { position, xid, content, ...(encoding && { encoding }) }
      }
    }
  }

  /**
   * Waits until all queries of this client are complete up to a place, and their listeners were told: then they show what
   * was written before it. The place is what `SELECT pg_current_wal_insert_lsn()` gives after COMMIT. `xid`
   * (`pg_current_xact_id()::xid::text` in the transaction) is enough where the transaction changed a row of a query: give
   * it beside the position, not alone. Resolves with the place that is reached.
   */
  waitFor(target: WaitTarget, options: WaitOptions = {}): Promise<Position> {
    if (this.connection.name === 'closed') return Promise.reject(closed())
    let waited!: Promise<Position>
    this.#act(() => {
      waited = this.#waits.add(target, options, this.#platform.now())
      this.#use()
    })
    return waited
  }

  /** Takes another token or provider, at once. Null logs out: the connection ends, and what was seen is forgotten. */
  async setToken(token: Token | null): Promise<void> {
    this.#act(() => {
      this.#token = token ?? undefined
      if (token === null) {
        this.#link.logOut()
        this.#waits.rejectAll(closed())
      } else if (this.connection.name !== 'idle' || this.#session.size > 0) this.#link.renew(this.#platform.now())
    })
  }

  /** Connects now, also after it gave up. Queries that ended with an error are tried again. */
  connect(): void {
    this.#act(() => {
      for (const { fold, readers } of this.#shared.values()) {
        if (!fold.error || readers.size === 0) continue
        fold.revive()
        this.#session.add(fold)
        this.#changed([fold])
      }
      this.#link.connect(this.#platform.now())
    })
  }

  /** Leaves the server until `connect`. Rows stay as they are. */
  disconnect(): void {
    this.#act(() => this.#link.disconnect())
  }

  /** Forgets what is stored. What is seen stays, and is not stored again before it changes. */
  async clear(): Promise<void> {
    this.#cleared++
    for (const shared of this.#shared.values()) if (shared.stored !== undefined) shared.stored = NaN
    await this.#options.persist?.clear()
  }

  /** For tools that show what a client does: `@walcast/client/devtools` is one. Costs nothing while nobody listens. */
  inspect(listener: (type: 'sent' | 'received', text: string) => void): Inspection {
    this.#inspectors.add(listener)
    const client = this
    return {
      address: this.#address,
      get queries() {
        return [...client.#shared.values()].map(({ fold, readers }) => {
          const { identity, fields, status, error, shown, entries } = fold
          return { identity, fields, status, error, place: shown, rows: entries.length, listeners: readers.size, at: client.#session.standing(fold) }
        })
      },
      drop: () =>
        this.#act(() => {
          this.#link.closed(1006, 'dropped', this.#platform.now())
        }),
      forget: (identity) =>
        this.#act(() => {
          const { fold } = this.#shared.get(identity) ?? {}
          if (!fold || !this.#session.has(fold)) return
          this.#session.remove(fold)
          fold.restart()
          this.#session.add(fold)
          this.#changed([fold])
        }),
      end: () => void this.#inspectors.delete(listener),
    }
  }

  /** Ends it for good. */
  async close(): Promise<void> {
    if (this.connection.name === 'closed') return
    this.#act(() => {
      this.#link.disconnect('closed')
      this.#waits.rejectAll(closed())
      for (const reader of this.#readers) reader.finish(closed())
      this.#unwatch()
    })
    this.#cancelTimer?.()
  }

  readonly #readers = new Set<Changes<any>>()

  #read<R>(fields: { readonly table?: string; readonly where?: string } & Readonly<Record<string, unknown>>, options: ChangesOptions): Changes<R> {
    const control = {
      start: (feed: Feed) => {
        if (this.connection.name === 'closed') return feed.fail(closed())
        this.#readers.add(feed as Changes<R>)
        this.#act(() => {
          this.#session.add(feed)
          this.#use()
        })
      },
      stop: (feed: Feed) => {
        this.#readers.delete(feed as Changes<R>)
        this.#act(() => this.#session.remove(feed))
      },
    }
    return new Changes<R>(fields, options, control, (table, columns) => this.#decoderFor(table, columns))
  }

  // Readers.

  /** What equal queries share. If nobody reads it, it goes after a while. */
  #share(query: AnyQuery): Shared {
    const identity = identityOf(query)
    const known = this.#shared.get(identity)
    if (known) return known
    const fields = fieldsOf(query)
    const fold = new Fold(identity, fields, (table, columns) => this.#decoderFor(table, columns), (text) => this.#warn(fields.table, text))
    const shared: Shared = { fold, readers: new Set(), idleSince: this.#platform.now(), told: 0 }
    this.#shared.set(identity, shared)
    this.#arm()
    return shared
  }

  static {
    readerOf = (client, query, initial) => {
      const shared = client.#share(query)
      return (shared.plain ??= new LiveQuery(client.#host, shared, initial ? { initial } : {}))
    }
  }

  #claim(query: LiveQuery<any, any>, own: Shared): Shared {
    const { identity } = own.fold
    const shared = this.#shared.get(identity) ?? own
    this.#shared.set(identity, shared)
    if (shared.fold.error && shared.readers.size === 0) shared.fold.revive()
    shared.readers.add(query)
    if (query.isStored) this.#load(shared)
    this.#act(() => {
      if (!this.#session.has(shared.fold) && !shared.fold.error) this.#session.add(shared.fold)
      this.#use()
    })
    return shared
  }

  /** Looks once whether a result is stored. */
  #load(shared: Shared): void {
    const { persist } = this.#options
    if (!persist || shared.stored !== undefined) return
    const { fold } = shared
    shared.stored = NaN
    if (fold.filled || this.#session.has(fold)) return
    const cleared = this.#cleared
    const take = (stored?: Dehydrated): void =>
      this.#act(() => {
        fold.isLoading = false
        if (stored && cleared === this.#cleared && fold.load(stored)) {
          shared.stored = fold.steps + 1
          this.#changed([fold])
        }
        this.#session.loaded(fold)
      })
    fold.isLoading = true
    persist.load(this.#address + fold.identity).then(take, () => take())
  }

  #save(shared: Shared, steps: readonly (readonly EntryChange[])[]): void {
    const { fold, stored } = shared
    const { persist } = this.#options
    if (!persist || stored === undefined) return
    const isKnown = !Number.isNaN(stored)
    const news = isKnown && fold.shown ? steps.slice(stored && stored - 1) : undefined
    // Nothing new; or nothing there, neither here.
    if (fold.shown ? stored === 0 && news!.length === 0 : !isKnown) return
    shared.stored = fold.shown ? 0 : NaN
    persist.save(this.#address + fold.identity, fold, news, () => {
      const position = shared.told === fold.version ? this.#session.standing(fold) : undefined
      return position === undefined ? undefined : { ...fold.shown!, position }
    })
  }

  #release(query: LiveQuery<any, any>, shared: Shared): void {
    shared.readers.delete(query)
    shared.idleSince = this.#platform.now()
    this.#arm()
  }

  #use(): void {
    if (this.#options.connect !== 'manual' && this.connection.name === 'idle') this.#link.connect(this.#platform.now())
  }

  /** Queries that nobody has read for a while. */
  #sweep(now: number): void {
    for (const [identity, shared] of this.#shared) {
      if (now < this.#idleUntil(shared)) continue
      this.#shared.delete(identity)
      this.#session.remove(shared.fold)
    }
  }

  #idleUntil({ readers, idleSince }: Shared): number {
    return readers.size > 0 ? Infinity : idleSince + (this.#options.linger ?? 5000)
  }

  // Events.

  /** Does something, and then what follows from it: listeners, waits, the next timer. */
  #act(work: () => void): void {
    this.#depth++
    try {
      work()
    } finally {
      if (--this.#depth === 0) this.#after()
    }
  }

  #after(): void {
    if (this.#options.batch === 'transaction') this.#tell()
    else if (this.#dirty.size > 0 && !this.#hasFrame) {
      this.#hasFrame = true
      this.#platform.frame(() => {
        this.#hasFrame = false
        this.#tell()
      })
    }
    this.#arm()
  }

  /** Tells listeners what is new. All results have changed before the first of them hears. */
  #tell(): void {
    if (this.#isTelling) return
    this.#isTelling = true
    while (this.#dirty.size > 0) {
      const told = [...this.#dirty].filter((shared) => shared.told !== shared.fold.version)
      this.#dirty.clear()
      const diffs = told.map(({ fold }) => fold.diff())
      for (const shared of told) shared.told = shared.fold.version
      told.forEach((shared, i) => {
        guarded(() => this.#save(shared, diffs[i]!))
        for (const reader of [...shared.readers]) guarded(() => reader.tell(diffs[i]!))
      })
    }
    this.#isTelling = false
  }

  #changed(feeds: readonly Feed[]): void {
    for (const feed of feeds) {
      if (!(feed instanceof Fold)) continue
      const shared = this.#shared.get(feed.identity)
      if (shared?.fold === feed) this.#dirty.add(shared)
    }
  }

  #arm(): void {
    const { name } = this.connection
    let at = Math.min(this.#link.wakeAt, this.#session.wakeAt, this.#waits.wakeAt)
    for (const shared of this.#shared.values()) at = Math.min(at, this.#idleUntil(shared))
    if (name === 'closed' || at === Infinity) at = Infinity
    if (at === this.#timerAt) return
    this.#cancelTimer?.()
    this.#timerAt = at
    const now = this.#platform.now()
    this.#cancelTimer = at === Infinity ? undefined : this.#platform.later(() => this.#tick(), Math.max(0, at - now))
  }

  #tick(): void {
    const now = this.#platform.now()
    // A machine that slept, or a clock that was set.
    const isLate = Math.abs(now - this.#timerAt) > LATE_MS
    this.#timerAt = Infinity
    this.#act(() => {
      if (isLate) this.#link.woke(now)
      this.#link.tick(now)
      this.#session.tick(now)
      this.#sweep(now)
      this.#waits.tick(now, this.connection.name)
    })
  }

  #page(event: PageEvent): void {
    const now = this.#platform.now()
    if (event === 'away') this.#link.away()
    else if (event === 'back') this.#link.back(now)
    else if (event === 'offline') this.#link.offline(now)
    else this.#link.woke(now)
  }

  #open(): void {
    let isOver = false
    const heard = (work: () => void): void => {
      if (!isOver) this.#act(work)
    }
    try {
      const socket = this.#platform.open(this.#address, {
        opened: () => heard(() => this.#link.opened()),
        text: (data) => heard(() => this.#receive(data)),
        closed: (code, reason) => heard(() => this.#link.closed(code, reason, this.#platform.now())),
      })
      this.#socket = {
        send: (text) => socket.send(text),
        close: () => {
          isOver = true
          socket.close()
        },
      }
    } catch (error) {
      this.#link.garbled(asError('unsupported', error, 'there can be no connection'), this.#platform.now())
    }
  }

  #drop(): void {
    this.#socket?.close()
    this.#socket = undefined
    this.#waits.lost()
    this.#isGood = false
  }

  #send(message: Record<string, unknown>): void {
    const text = JSON.stringify(message)
    if (this.#socket) this.#inspected('sent', text)
    this.#socket?.send(text)
  }

  #inspected(type: 'sent' | 'received', text: string): void {
    for (const listener of this.#inspectors) guarded(() => listener(type, text))
  }

  #receive(data: unknown): void {
    const now = this.#platform.now()
    this.#inspected('received', String(data))
    try {
      const frame = JSON.parse(String(data)) as Frame
      if (this.connection.name === 'connecting' && frame.type !== 'hello' && frame.type !== 'error') throw new Error('no hello')
      this.#link.receive(frame, now)
      if (frame.type === 'hello') {
        if (this.connection.name !== 'open') return
        this.#session.greeted(frame, now)
        this.#waits.greeted(frame.epoch)
      } else this.#session.receive(frame, now)
      if (frame.type === 'pong' && frame.position !== undefined) this.#waits.ponged()
      if (frame.type === 'error' && frame.id === undefined && !this.#waits.refused(frame, now) && this.connection.name === 'open') this.#warn('', `${frame.code}: ${frame.message}`)
    } catch (error) {
      const what = this.connection.name === 'connecting' ? `what answers at ${this.#address} is no walcast server` : 'the server sent what is not of the protocol'
      this.#link.garbled(asError('bad_frame', error, `${what}: ${String(data).slice(0, 80)}`), now)
    }
  }

  #connectionChanged(now: Connection, before: Connection): void {
    if (now.name !== 'connecting' && now.name !== 'open') this.#question?.abort()
    for (const listener of [...this.#connectionListeners]) guarded(() => listener(now, before))
  }

  async #ask(reason: TokenReason, generation: number): Promise<void> {
    this.#question?.abort()
    const { signal } = (this.#question = new AbortController())
    try {
      const token = this.#token
      const answer = typeof token === 'function' ? await token({ reason, signal }) : (token ?? null)
      if (answer !== null && typeof answer !== 'string') throw new WalcastError('bad_token', `the token provider gave ${typeof answer} instead of a text or null`)
      await undefined
      this.#act(() => this.#link.tokenIs(generation, answer, this.#platform.now()))
    } catch (error) {
      this.#act(() => this.#link.noToken(generation, error, this.#platform.now()))
    }
  }

  /** Why there is no connection, and will be none by itself. */
  get #failure(): WalcastError | undefined {
    const { connection } = this
    return connection.name === 'closed' ? closed() : 'error' in connection ? connection.error : undefined
  }

  /** Somebody else asks from now on. */
  #forget(): void {
    void this.clear().catch(() => {})
    for (const { fold } of this.#shared.values()) {
      fold.forget()
      this.#changed([fold])
    }
  }

  #advanced(): void {
    if (this.#waits.isEmpty && this.#isGood) return
    const { complete } = this.#session
    if (complete === undefined) return
    if (!this.#isGood) this.#link.settled()
    this.#isGood = true
    this.#waits.advanced(complete)
  }

  // What the server says of tables.

  #decoderFor(table: string, columns: readonly Column[]): Decode {
    const known = this.#options.schema?.tables[table]?.columns
    for (const { name, type } of columns) {
      const told = known?.[name]
      if (told !== undefined && told !== type) this.#warn(table, `${name} is ${type} in the database and ${told} in the schema: run walcast types again`)
    }
    return decoder(table, columns, this.#options.parsers)
  }

  #warn(table: string, text: string): void {
    const key = `${table} ${text}`
    if (this.#warned.has(key)) return
    this.#warned.add(key)
    const { onWarning } = this.#options
    if (onWarning) guarded(() => onWarning({ table, text }))
    else console.warn(`walcast: ${table && `${table}: `}${text}`)
  }
}

const closed = (): WalcastError => new WalcastError('closed', 'the client was closed')

/** What a listener throws is the application's to see, and no reason for others not to hear. */
function report(thrown: unknown): void {
  if (typeof reportError === 'function') reportError(thrown)
  else console.error(thrown)
}

/** Does what is the application's: if that throws, others do not suffer. */
function guarded(run: () => void): void {
  try {
    run()
  } catch (error) {
    report(error)
  }
}

/** A client of one server. It connects with its first query. */
export function createClient<S = AnySchema>(url: string | URL, options: ClientOptions<S> = {}): Client<S> {
  return new Client<S>(url, options, undefined)
}
