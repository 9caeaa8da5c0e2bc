import { WalcastError, asError, closed, guarded } from './error.js'
import type { Inside } from './inside.js'
import { type Connection, type LinkEffects, makeLink } from './link.js'
import type { ClientOptions } from './options.js'
import type { Frame } from './protocol.js'
import { type Dehydrated, type LiveQuery, type LiveQueryOptions, type QueryState, makeLiveQuery } from './query.js'
import { addressOf } from './request.js'
import { makeResults } from './results.js'
import { type SessionEffects, makeSession } from './session.js'
import { type Opened, type Platform, type SocketClass, platform as realPlatform } from './socket.js'
import type { Token, TokenReason } from './token.js'
import type { AnySchema, Columns, KeyOf, Query, RowOf, Table } from './types.js'
import { floats } from './values.js'

/** Live queries over one connection. Made by `createClient`. */
export interface Client<S = AnySchema> {
  /** The state of the connection. The same object until it changed. */
  readonly connection: Connection
  /** Calls with each change of the connection's state. Returns what ends that. */
  onConnection(changed: (now: Connection, before: Connection) => void): () => void
  /** A live query. Equal ones share one subscription, whatever their options. */
  liveQuery<const T extends Table<S>, const C extends keyof RowOf<S, T> = keyof RowOf<S, T>, Out = Columns<S, T, C>>(
    query: Query<S, T, C>,
    options?: LiveQueryOptions<Columns<S, T, C>, Out>,
  ): LiveQuery<Out, KeyOf<S, T>>
  /** The result once, for a server that renders a page: `dehydrated` goes along with it, and the page goes on from there. */
  query<const T extends Table<S>, const C extends keyof RowOf<S, T> = keyof RowOf<S, T>, Out = Columns<S, T, C>>(
    query: Query<S, T, C>,
    options?: LiveQueryOptions<Columns<S, T, C>, Out>,
  ): Promise<QueryState<Out> & { readonly dehydrated: Dehydrated }>
  /** Takes another token or provider, at once. Null logs out: the connection ends, and what was seen is forgotten. */
  setToken(token: Token | null): Promise<void>
  /** Connects now, also after it gave up. Queries that ended with an error are tried again. */
  connect(): void
  /** Leaves the server until `connect`. Rows stay as they are. */
  disconnect(): void
  /** Forgets what is stored. What is seen stays, and is not stored again before it changes. */
  clear(): Promise<void>
  /** Ends it for good. */
  close(): Promise<void>
}

/** The parts of a client, for the functions and adapters of this package. */
export const insideOf = (client: Client<any>): Inside => client as Inside

/** A timer that is so late was asleep. */
const LATE_MS = 5000

/** A client on a platform, which a test may play. */
export function clientOn<S = AnySchema>(url: string | URL, options: ClientOptions<S>, platform: Platform): Client<S> {
  const { now, random } = platform
  const { backoff, batch, onWarning, parsers = floats, schema } = options
  const address = addressOf(url, options.numbers)
  const listeners = new Set<(now: Connection, before: Connection) => void>()
  const warned = new Set<string>()
  let token: Token | undefined = options.token
  let socket: Opened | undefined
  let question: AbortController | undefined
  let depth = 0
  let hasFrame = false
  let cancelTimer: (() => void) | undefined
  let timerAt = Infinity
  /** Everything was live on this connection. */
  let isGood = false

  const is = (name: Connection['name']): boolean => link.connection.name === name

  /** Does something, and then what follows from it: listeners, waits, the next timer. */
  function act(work: () => void): void {
    depth++
    try {
      work()
    } finally {
      if (--depth === 0) {
        if (batch === 'transaction') results.tell()
        else if (results.isDirty && !hasFrame) {
          hasFrame = true
          platform.frame(() => {
            hasFrame = false
            results.tell()
          })
        }
        arm()
      }
    }
  }

  function arm(): void {
    const at = is('closed') ? Infinity : Math.min(...parts.map(({ wakeAt }) => wakeAt))
    if (at === timerAt) return
    cancelTimer?.()
    timerAt = at
    cancelTimer = at === Infinity ? undefined : platform.later(tick, Math.max(0, at - now()))
  }

  function tick(): void {
    // A machine that slept, or a clock that was set.
    const isLate = Math.abs(now() - timerAt) > LATE_MS
    timerAt = Infinity
    act(() => {
      if (isLate) link.woke()
      for (const part of parts) part.tick()
    })
  }

  function open(): void {
    try {
      socket = platform.open(address, {
        opened: () => act(link.opened),
        text: (data) => act(() => receive(String(data))),
        closed: (code, reason) => act(() => link.closed(code, reason)),
      })
    } catch (error) {
      link.garbled(asError('unsupported', error, 'there can be no connection'))
    }
  }

  function send(message: Record<string, unknown>): void {
    if (!socket) return
    const text = JSON.stringify(message)
    client.tap?.('sent', text)
    socket.send(text)
  }

  function receive(text: string): void {
    client.tap?.('received', text)
    const wasConnecting = is('connecting')
    try {
      const frame = JSON.parse(text) as Frame
      if (wasConnecting && !/^(hello|error)$/.test(frame.type)) throw new Error('no hello')
      link.receive(frame)
      if (!is('open')) return
      session.receive(frame)
      if (!client.waits?.receive(frame) && frame.type === 'error' && frame.id === undefined) warn('', `${frame.code}: ${frame.message}`)
    } catch (error) {
      const what = wasConnecting ? `what answers at ${address} is no walcast server` : 'the server sent what is not of the protocol'
      link.garbled(asError('bad_frame', error, `${what}: ${text.slice(0, 80)}`))
    }
  }

  function connectionChanged(now: Connection, before: Connection): void {
    if (!is('connecting') && !is('open')) question?.abort()
    // As long as there was never a connection it may be set up wrongly; one that ends for good has a reason, too.
    const { origin } = (globalThis as { location?: Location }).location ?? {}
    const isNew = now.name === 'waiting' && session.epoch === undefined
    const reason = 'error' in now ? now.error.message : isNew && `${now.reason}${origin ? `; the origin is ${origin}` : ''}`
    if (reason) warn('', `${address}: ${reason}`)
    for (const listener of [...listeners]) guarded(() => listener(now, before))
  }

  async function ask(reason: TokenReason, generation: number): Promise<void> {
    question?.abort()
    const { signal } = (question = new AbortController())
    try {
      const answer = await (typeof token === 'function' ? token({ reason, signal }) : token!)
      if (answer !== null && typeof answer !== 'string') throw new WalcastError('bad_token', `the token provider gave ${typeof answer} instead of a text or null`)
      act(() => link.tokenIs(generation, answer))
    } catch (error) {
      act(() => link.noToken(generation, error))
    }
  }

  /** Says what is odd, each text once. */
  function warn(table: string, text: string): void {
    const message = `${table && `${table}: `}${text}`
    if (warned.has(message)) return
    warned.add(message)
    if (onWarning) guarded(() => onWarning({ table, text }))
    else console.warn(`walcast: ${message}`)
  }

  const effects: LinkEffects & SessionEffects = {
    open,
    send,
    drop() {
      socket?.close()
      socket = undefined
      isGood = false
      session.lost()
    },
    hasToken: () => token !== undefined,
    ask,
    connectionChanged,
    forget: () => results.forget(),
    changed: (feed) => results.changed(feed),
    advanced() {
      if (!isGood && session.isSettled) {
        isGood = true
        link.settled()
      }
      client.waits?.advanced()
    },
    now,
    random,
  }
  const link = makeLink(effects, backoff)
  const session = makeSession(effects, backoff)
  // Nothing of the options is a part of it: a token is not for what logs objects.
  const client: Inside = {
    address,
    sort: options.sort,
    link,
    session,
    get results() {
      return results
    },
    get failure() {
      const { connection } = link
      return is('closed') ? closed() : 'error' in connection ? connection.error : undefined
    },
    platform,
    send,
    act,
    arm,
    use() {
      if (options.connect !== 'manual' && is('idle')) link.connect()
    },
    decoderFor(table, columns) {
      const known = schema?.tables[table]?.columns
      for (const { name, type } of columns) {
        const told = known?.[name]
        if (told !== undefined && told !== type) warn(table, `${name} is ${type} in the database and ${told} in the schema: run walcast types again`)
      }
      return parsers(table, columns)
    },
    warn,

    get connection() {
      return link.connection
    },

    onConnection(changed) {
      const listener: typeof changed = (now, before) => changed(now, before)
      listeners.add(listener)
      return () => void listeners.delete(listener)
    },

    liveQuery: (query, options = {}) => makeLiveQuery(client, results.share(query as never), options),

    async query(query, { signal, ...options } = {}) {
      const live = client.liveQuery(query as never, options as never)
      const state = await live.settled(signal)
      return { ...state, dehydrated: live.dehydrate()! } as never
    },

    async setToken(next) {
      act(() => {
        token = next ?? undefined
        if (next === null) {
          link.logOut()
          client.waits?.rejectAll(closed('logged out meanwhile'))
        } else if (!is('idle') || session.subscriptions.size > 0) link.renew()
      })
    },

    connect() {
      act(() => {
        results.revive()
        link.connect()
      })
    },

    disconnect: () => act(link.disconnect),

    async clear() {
      await results.keeper?.clear()
    },

    async close() {
      if (is('closed')) return
      act(() => {
        link.disconnect('closed')
        unwatch()
      })
    },
  }
  const results = makeResults(client, options)
  const parts = [link, session, results]
  const unwatch = platform.watch((event) => act(link[event]))

  if (options.connect === 'now') client.connect()
  return client
}

/** A client of one server. It connects with its first query. */
export function createClient<S = AnySchema>(url: string | URL, options: ClientOptions<S> = {}): Client<S> {
  const { share, webSocket } = options
  return clientOn(url, options, realPlatform(share ? share(webSocket ?? (globalThis.WebSocket as SocketClass | undefined)) : webSocket))
}
