import { type BackoffOptions, backoff } from './backoff.js'
import { WalcastError, asError } from './error.js'
import type { Position } from './position.js'
import type { Frame, Hello } from './protocol.js'
import { type TokenReason, claims } from './token.js'

/** The state of a client's connection. */
export type Connection =
  | { readonly name: 'idle' }
  | { readonly name: 'connecting'; readonly attempt: number }
  /** `position`: where the server stood when the connection began. */
  | { readonly name: 'open'; readonly database: string; readonly epoch: string; readonly position: Position }
  | { readonly name: 'waiting'; readonly retryAt: number; readonly reason: string }
  | { readonly name: 'offline' }
  | { readonly name: 'needs-token'; readonly error: WalcastError }
  | { readonly name: 'refused'; readonly code: number; readonly error: WalcastError }
  | { readonly name: 'closed' }

/** What a link has done for it, and the time. */
export interface LinkEffects {
  open(): void
  send(message: Record<string, unknown>): void
  /** Leaves the socket, whether or not the other side still answers. Nothing more comes from it, and what was under way is over. */
  drop(): void
  /** Whether there is a provider of tokens. */
  hasToken(): boolean
  /** Asks for a token: `tokenIs` or `noToken` answers, with the number. */
  ask(reason: TokenReason, generation: number): void
  connectionChanged(now: Connection, before: Connection): void
  /** Somebody else is asking from now on: what the last one saw goes. */
  forget(): void
  now(): number
  random(): number
}

/** One connection that comes back by itself, and the token that it shows. */
export interface Link {
  readonly connection: Connection
  /** When `tick` is due. */
  readonly wakeAt: number
  tick(): void
  connect(): void
  disconnect(name?: 'idle' | 'closed'): void
  /** Forgets whose token it was. */
  logOut(): void
  /** There is another provider of tokens. */
  renew(): void
  /** An answer to `ask`. */
  tokenIs(generation: number, token: string | null): void
  noToken(generation: number, thrown: unknown): void
  /** The socket is open. */
  opened(): void
  receive(frame: Frame): void
  /** What came is not of the protocol. */
  garbled(error: WalcastError): void
  closed(code: number, reason: string): void
  /** Every query is live: the connection is good. */
  settled(): void
  /** There is a network, the page is seen again, or the clock jumped. */
  woke(): void
  offline(): void
  /** The page goes into the cache of the browser's history: one with an open socket could not. */
  away(): void
  back(): void
}

/** After so long without a word from the server it is asked for one. */
const SILENCE_MS = 20_000
/** After as long again it is gone. */
const PATIENCE_MS = 5000
/** The same after a wake: the socket of a network that is gone does not say so. */
const WAKE_PATIENCE_MS = 3000
/** A connection has so long to open and be greeted. */
const GREETING_MS = 15_000
/** After so long a connection is good, and the next one that ends begins with the first delay. */
const GOOD_MS = 10_000
/** Coming back unchanged would end in the same way. */
const FINAL_CODES = [1002, 1007, 1009]

/** Makes a link. Pure: events and the time go in, effects come out. */
export function makeLink(out: LinkEffects, options: BackoffOptions = {}): Link {
  const { now, random, hasToken } = out
  let connection: Connection = { name: 'idle' }
  /** When this state has lasted long enough. */
  let due = Infinity
  /** The page is in the cache of the browser's history. */
  let isAway = false
  let hasSocket = false
  let attempts = 0
  let openSince = 0
  /** The server was asked for a word, which has not come. */
  let isProbed = false
  let asking: TokenReason | undefined
  let generation = 0
  /** When a token is asked for again, on a connection that lives. */
  let askAt = Infinity
  let askAttempts = 0
  let token: string | null = null
  let tokenAt = 0
  let subject: string | undefined
  let refusal: WalcastError | undefined
  let refusals = 0

  const is = (name: Connection['name']): boolean => connection.name === name
  const isWaiting = (): boolean => is('waiting') || is('offline')

  function change(next: Connection, at = Infinity): void {
    const before = connection
    connection = next
    due = at
    out.connectionChanged(next, before)
  }

  /** The socket is no more. */
  function gone(): void {
    askAt = Infinity
    if (!hasSocket) return
    hasSocket = false
    out.drop()
  }

  function leave(): void {
    asking = undefined
    generation++
    gone()
  }

  function ask(reason: TokenReason): void {
    if (!hasToken()) return
    asking = reason
    askAt = Infinity
    out.ask(reason, ++generation)
  }

  /** Connects; with a token that it asks for first, unless there is no reason to. */
  function begin(reason?: TokenReason): void {
    change({ name: 'connecting', attempt: ++attempts }, now() + GREETING_MS)
    if (reason && hasToken()) return ask(reason)
    if (reason) token = null
    open()
  }

  function start(): void {
    if (!isAway) begin('connect')
  }

  function open(): void {
    hasSocket = true
    refusal = undefined
    out.open()
  }

  function wait(reason: string, spread = 0): void {
    const retryAt = now() + backoff(Math.max(0, attempts - 1), random(), options) + random() * spread
    change({ name: 'waiting', retryAt, reason }, retryAt)
  }

  function sleep(until?: number): void {
    leave()
    change({ name: 'offline' }, until)
  }

  function needsToken(error: WalcastError): void {
    leave()
    change({ name: 'needs-token', error })
  }

  function refuse(code: number, error: WalcastError): void {
    change({ name: 'refused', code, error })
  }

  function probe(patience: number): void {
    if (isProbed) return
    isProbed = true
    due = now() + patience
    out.send({ type: 'ping', ref: 0 })
  }

  function greeted({ protocol, database, epoch, position }: Hello): void {
    if (protocol !== 1) {
      gone()
      return refuse(0, new WalcastError('unsupported', `the server speaks version ${protocol} of the protocol: install a version of @walcast/client that does`))
    }
    openSince = now()
    refusals = 0
    change({ name: 'open', database, epoch, position })
  }

  function expiring(left: number): void {
    // The server says so at once of a token that is good for less than half a minute: a new one would be no better.
    if (now() - tokenAt < 1000) askAt = now() + Math.min(15_000, Math.max(1000, left / 2))
    else ask('expiring')
  }

  function noToken(number: number, thrown: unknown): void {
    if (number !== generation || !asking) return
    const error = asError('bad_token', thrown, 'the token provider failed')
    asking = undefined
    // The connection lives on while it may.
    if (is('open')) askAt = now() + 1000 + backoff(askAttempts++, random(), options)
    else wait(error.message)
  }

  function closed(code: number, reason: string): void {
    if (!hasSocket) return
    const wasOpen = is('open')
    if (wasOpen && now() - openSince >= GOOD_MS) attempts = 0
    gone()
    const error = refusal ?? new WalcastError('refused', reason || `the server closed the connection with ${code}`)
    if (refusal || code === 4003 || code === 4500) {
      refusal = error
      if (!hasToken() || ++refusals > 1) return needsToken(error)
      return begin(code === 4003 ? 'expired' : 'rejected')
    }
    if (code >= 4500 || FINAL_CODES.includes(code)) return refuse(code, error)
    const spread = code === 1001 ? Number(/spread=(\d+)/.exec(reason)?.[1] ?? 0) * 1000 : 0
    const why = wasOpen ? 'the connection was lost' : 'no connection: is the address right, is the server running, and does it accept this origin'
    wait(reason || `${why} (${code})`, spread)
  }

  function woke(): void {
    if (is('open')) return probe(WAKE_PATIENCE_MS)
    // A network that has just come may not be all there: the next attempt is soon.
    attempts = 0
    if (isWaiting()) start()
  }

  function disconnect(name: 'idle' | 'closed' = 'idle'): void {
    isAway = false
    leave()
    if (!is('closed')) change({ name })
  }

  return {
    get connection() {
      return connection
    },

    get wakeAt() {
      return Math.min(due, askAt)
    },

    tick() {
      if (now() >= askAt) ask('expiring')
      if (now() < due) return
      if (isWaiting()) start()
      else if (is('open')) {
        if (isProbed) closed(1006, 'the server is silent')
        else probe(PATIENCE_MS)
      } else if (hasSocket) closed(1006, 'the server does not answer')
      else noToken(generation, new WalcastError('timeout', 'the token provider does not answer'))
    },

    connect() {
      if (is('closed') || hasSocket || asking) return
      refusals = attempts = 0
      start()
    },

    disconnect,

    logOut() {
      token = null
      subject = undefined
      disconnect()
      out.forget()
    },

    renew() {
      refusals = 0
      if (is('open')) ask('connect')
      else if (!is('closed')) {
        leave()
        start()
      }
    },

    tokenIs(number, answer) {
      if (number !== generation || !asking) return
      const { expires, subject: whose } = claims(answer ?? '')
      if (expires <= now()) {
        if (asking !== 'expired') return ask('expired')
        return noToken(number, new WalcastError('token_expired', `the token has expired at ${new Date(expires).toISOString()}, by the clock of this machine`))
      }
      asking = undefined
      askAttempts = 0
      askAt = Infinity
      if (refusals > 0 && answer === token) return needsToken(refusal!)
      const isSomebodyElse = subject !== undefined && whose !== subject
      token = answer
      tokenAt = now()
      subject = whose
      if (isSomebodyElse) {
        // A connection is of one subject.
        const wasOpen = hasSocket
        gone()
        out.forget()
        if (wasOpen) return begin()
      }
      if (!is('open')) open()
      else if (token !== null) out.send({ type: 'auth', token })
    },

    noToken,

    opened() {
      if (token !== null) out.send({ type: 'auth', token })
    },

    receive(frame) {
      if (frame.type === 'hello') greeted(frame)
      else if (frame.type === 'token_expiring') expiring(Date.parse(frame.expires) - now())
      else if (frame.type === 'error' && frame.id === undefined && /^(unauthenticated|token_expired)$/.test(frame.code)) refusal = new WalcastError(frame.code, frame.message)
      if (!is('open')) return
      due = now() + SILENCE_MS
      isProbed = false
    },

    garbled(error) {
      const wasOpen = is('open')
      gone()
      if (wasOpen) wait(error.message)
      else refuse(0, error)
    },

    closed,

    settled() {
      attempts = 0
    },

    woke,

    offline() {
      if (is('open')) return probe(WAKE_PATIENCE_MS)
      // Browsers are wrong at times: it tries all the same, now and then.
      if (isWaiting() || is('connecting')) sleep(now() + (options.most ?? 30_000))
    },

    away() {
      isAway = isWaiting() || is('open') || is('connecting')
      if (isAway) sleep()
    },

    back() {
      if (!isAway) return woke()
      isAway = false
      start()
    },
  }
}
