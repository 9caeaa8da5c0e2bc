import { WalcastError, asError, closed, guarded } from './error.js'
import type { Inside } from './inside.js'
import { type Connection, Link } from './link.js'
import type { ClientOptions } from './options.js'
import type { Column, Frame } from './protocol.js'
import { type Dehydrated, LiveQuery, type LiveQueryOptions, type QueryState } from './query.js'
import { addressOf } from './request.js'
import { Results } from './results.js'
import { Session } from './session.js'
import { type Opened, type PageEvent, type Platform, type SocketClass, platform as realPlatform } from './socket.js'
import type { Token, TokenReason } from './token.js'
import type { AnySchema, Columns, KeyOf, Query, RowOf, Table } from './types.js'
import { type Decode, decoder } from './values.js'

/** A timer that is so late was asleep. */
const LATE_MS = 5000

/** The parts of a client, for the functions and adapters of this package. */
export let insideOf: (client: Client<any>) => Inside

/** Live queries over one connection. Made by `createClient`. */
export class Client<S = AnySchema> {
  readonly #platform: Platform
  readonly #link: Link
  readonly #session: Session
  readonly #address: string
  readonly #inside: Inside
  readonly #results: Results
  readonly #connectionListeners = new Set<(now: Connection, before: Connection) => void>()
  readonly #warned = new Set<string>()
  readonly #unwatch: () => void
  #token: Token | undefined
  #socket: Opened | undefined
  #question: AbortController | undefined
  #depth = 0
  #hasFrame = false
  #cancelTimer: (() => void) | undefined
  #timerAt = Infinity
  /** Everything was live on this connection. */
  #isGood = false

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
    const send = (message: Record<string, unknown>): void => this.#send(message)
    this.#link = new Link(
      {
        open: () => this.#open(),
        send,
        drop: () => this.#drop(),
        ask: (reason, generation) => void this.#ask(reason, generation),
        changed: (now, before) => this.#connectionChanged(now, before),
        lost: () => this.#session.lost(),
        forget: () => this.#results.forget(),
        random,
      },
      () => this.#token !== undefined,
      options.backoff,
    )
    this.#session = new Session(
      {
        send,
        changed: (feeds) => this.#results.changed(feeds),
        advanced: () => this.#advanced(),
        random,
      },
      options.backoff,
    )
    const client = this
    const inside = {
      options,
      address: this.#address,
      link: this.#link,
      session: this.#session,
      readers: new Set(),
      inspectors: new Set(),
      get results() {
        return client.#results
      },
      get failure() {
        return client.#failure
      },
      now: () => this.#platform.now(),
      send,
      act: (work) => this.#act(work),
      arm: () => this.#arm(),
      use: () => this.#use(),
      onConnection: (changed) => this.onConnection(changed),
      decoderFor: (table, columns) => this.#decoderFor(table, columns),
      warn: (table, text) => this.#warn(table, text),
    } satisfies Inside as Inside
    this.#inside = inside
    this.#results = new Results(inside)
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
    return new LiveQuery(this.#inside, this.#results.share(query), options)
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

  /** Takes another token or provider, at once. Null logs out: the connection ends, and what was seen is forgotten. */
  async setToken(token: Token | null): Promise<void> {
    this.#act(() => {
      this.#token = token ?? undefined
      if (token === null) {
        this.#link.logOut()
        this.#inside.waits?.rejectAll(closed())
      } else if (this.connection.name !== 'idle' || this.#session.size > 0) this.#link.renew(this.#platform.now())
    })
  }

  /** Connects now, also after it gave up. Queries that ended with an error are tried again. */
  connect(): void {
    this.#act(() => {
      this.#results.revive()
      this.#link.connect(this.#platform.now())
    })
  }

  /** Leaves the server until `connect`. Rows stay as they are. */
  disconnect(): void {
    this.#act(() => this.#link.disconnect())
  }

  /** Forgets what is stored. What is seen stays, and is not stored again before it changes. */
  clear(): Promise<void> {
    return this.#results.keeper?.clear() ?? Promise.resolve()
  }

  /** Ends it for good. */
  async close(): Promise<void> {
    if (this.connection.name === 'closed') return
    this.#act(() => {
      this.#link.disconnect('closed')
      this.#inside.waits?.rejectAll(closed())
      for (const reader of this.#inside.readers) reader.finish(closed())
      this.#unwatch()
    })
    this.#cancelTimer?.()
  }

  static {
    insideOf = (client) => client.#inside
  }

  #use(): void {
    if (this.#options.connect !== 'manual' && this.connection.name === 'idle') this.#link.connect(this.#platform.now())
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
    if (this.#options.batch === 'transaction') this.#results.tell()
    else if (this.#results.isDirty && !this.#hasFrame) {
      this.#hasFrame = true
      this.#platform.frame(() => {
        this.#hasFrame = false
        this.#results.tell()
      })
    }
    this.#arm()
  }

  #arm(): void {
    const { name } = this.connection
    let at = Math.min(this.#link.wakeAt, this.#session.wakeAt, this.#inside.waits?.wakeAt ?? Infinity, this.#results.wakeAt)
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
      this.#results.sweep(now)
      this.#inside.waits?.tick(now, this.connection.name)
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
    this.#inside.waits?.lost()
    this.#isGood = false
  }

  #send(message: Record<string, unknown>): void {
    const text = JSON.stringify(message)
    if (this.#socket) this.#inspected('sent', text)
    this.#socket?.send(text)
  }

  #inspected(type: 'sent' | 'received', text: string): void {
    for (const listener of this.#inside.inspectors) guarded(() => listener(type, text))
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
        this.#inside.waits?.ask()
      } else this.#session.receive(frame, now)
      if (frame.type === 'pong' && frame.position !== undefined) this.#inside.waits?.ponged()
      if (frame.type === 'error' && frame.id === undefined && !this.#inside.waits?.refused(frame, now) && this.connection.name === 'open') this.#warn('', `${frame.code}: ${frame.message}`)
    } catch (error) {
      const what = this.connection.name === 'connecting' ? `what answers at ${this.#address} is no walcast server` : 'the server sent what is not of the protocol'
      this.#link.garbled(asError('bad_frame', error, `${what}: ${String(data).slice(0, 80)}`), now)
    }
  }

  #connectionChanged(now: Connection, before: Connection): void {
    if (now.name !== 'connecting' && now.name !== 'open') this.#question?.abort()
    // As long as there was never a connection it may be set up wrongly; one that ends for good has a reason, too.
    const { origin } = (globalThis as { location?: Location }).location ?? {}
    const isNew = now.name === 'waiting' && this.#session.epoch === undefined
    const reason = 'error' in now ? now.error.message : isNew && `${now.reason}${origin ? `; the origin is ${origin}` : ''}`
    if (reason) this.#warn('', `${this.#address}: ${reason}`)
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

  #advanced(): void {
    const { waits } = this.#inside
    if (this.#isGood && !waits?.isWaiting) return
    const { complete } = this.#session
    if (complete === undefined) return
    if (!this.#isGood) this.#link.settled()
    this.#isGood = true
    waits?.advanced(complete)
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

/** A client of one server. It connects with its first query. */
export function createClient<S = AnySchema>(url: string | URL, options: ClientOptions<S> = {}): Client<S> {
  return new Client<S>(url, options, undefined)
}
