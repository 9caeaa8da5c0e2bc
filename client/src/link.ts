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

/** What a link has done for it. */
export interface LinkEffects {
  open(): void
  send(message: Record<string, unknown>): void
  /** Leaves the socket, whether or not the other side still answers. Nothing more comes from it. */
  drop(): void
  /** Asks for a token: `token` or `noToken` answers, with the number. */
  ask(reason: TokenReason, generation: number): void
  changed(now: Connection, before: Connection): void
  /** The connection is gone; whatever was under way on it is, too. */
  lost(): void
  /** Somebody else is asking from now on: what the last one saw goes. */
  forget(): void
  random(): number
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

/**
 * One connection that comes back by itself, and the token that it shows. Pure: events and the time go in, effects come out.
 */
export class Link {
  connection: Connection = { name: 'idle' }

  #wanted = false
  /** The page is in the cache of the browser's history. */
  #isAway = false
  #hasSocket = false
  #attempts = 0
  #since = 0
  #heardAt = 0
  /** When the server was asked for a word that has not come; 0: it was not. */
  #askedAt = 0
  #patience = PATIENCE_MS
  #asking: TokenReason | undefined
  #generation = 0
  /** When a token is asked for again, on a connection that lives. */
  #askAt = Infinity
  #askAttempts = 0
  #token: string | null = null
  #tokenAt = 0
  #subject: string | undefined
  #refusal: WalcastError | undefined
  #refusals = 0

  readonly #out: LinkEffects
  /** Whether there is a provider of tokens. */
  readonly #hasToken: () => boolean
  readonly #options: BackoffOptions | undefined

  constructor(
    out: LinkEffects,
    hasToken: () => boolean,
    options?: BackoffOptions,
  ) {
    this.#out = out
    this.#hasToken = hasToken
    this.#options = options
  }

  /** When `tick` is due. */
  get wakeAt(): number {
    if (this.#isAway) return Infinity
    switch (this.connection.name) {
      case 'waiting':
        return this.connection.retryAt
      case 'offline':
        return this.#since + (this.#options?.most ?? 30_000)
      case 'connecting':
        return this.#since + GREETING_MS
      case 'open':
        return Math.min(this.#askAt, this.#askedAt ? this.#askedAt + this.#patience : this.#heardAt + SILENCE_MS)
      default:
        return Infinity
    }
  }

  connect(now: number): void {
    if (this.connection.name === 'closed') return
    this.#wanted = true
    if (this.#hasSocket || this.#asking) return
    this.#refusals = this.#attempts = 0
    this.#start(now)
  }

  disconnect(name: 'idle' | 'closed' = 'idle'): void {
    this.#wanted = false
    this.#leave()
    if (this.connection.name !== 'closed') this.#change({ name })
  }

  /** Forgets whose token it was. */
  logOut(): void {
    this.#token = null
    this.#subject = undefined
    this.disconnect()
    this.#out.forget()
  }

  /** There is another provider of tokens. */
  renew(now: number): void {
    this.#refusals = 0
    if (this.connection.name === 'open') this.#ask('connect')
    else if (this.connection.name !== 'closed') {
      this.#leave()
      this.#wanted = true
      this.#start(now)
    }
  }

  /** An answer to `ask`. */
  tokenIs(generation: number, token: string | null, now: number): void {
    if (generation !== this.#generation || !this.#asking) return
    const reason = this.#asking
    const { expires, subject } = claims(token ?? '')
    if (expires <= now) {
      if (reason !== 'expired') return this.#ask('expired')
      return this.noToken(generation, new WalcastError('token_expired', `the token has expired at ${new Date(expires).toISOString()}, by the clock of this machine`), now)
    }
    this.#asking = undefined
    this.#askAttempts = 0
    this.#askAt = Infinity
    if (this.#refusals > 0 && token === this.#token) return this.#needsToken(this.#refusal!)
    const isSomebodyElse = this.#subject !== undefined && subject !== this.#subject
    this.#token = token
    this.#tokenAt = now
    this.#subject = subject
    if (isSomebodyElse) {
      // A connection is of one subject.
      const wasOpen = this.#hasSocket
      if (wasOpen) this.#gone()
      this.#out.forget()
      if (wasOpen) return this.#begin(now)
    }
    if (this.connection.name !== 'open') this.#open()
    else if (token !== null) this.#out.send({ type: 'auth', token })
  }

  noToken(generation: number, thrown: unknown, now: number): void {
    if (generation !== this.#generation || !this.#asking) return
    const error = asError('bad_token', thrown, 'the token provider failed')
    this.#asking = undefined
    // The connection lives on while it may.
    if (this.connection.name === 'open') this.#askAt = now + 1000 + backoff(this.#askAttempts++, this.#out.random(), this.#options)
    else this.#wait(now, error.message)
  }

  opened(): void {
    if (this.#token !== null) this.#out.send({ type: 'auth', token: this.#token })
  }

  receive(frame: Frame, now: number): void {
    this.#heardAt = now
    this.#askedAt = 0
    if (frame.type === 'hello') this.#greeted(frame, now)
    else if (frame.type === 'token_expiring') this.#expiring(Date.parse(frame.expires) - now, now)
    else if (frame.type === 'error' && frame.id === undefined && /^(unauthenticated|token_expired)$/.test(frame.code)) {
      this.#refusal = new WalcastError(frame.code, frame.message)
    }
  }

  #expiring(left: number, now: number): void {
    // The server says so at once of a token that is good for less than half a minute: a new one would be no better.
    if (now - this.#tokenAt < 1000) this.#askAt = now + Math.min(15_000, Math.max(1000, left / 2))
    else this.#ask('expiring')
  }

  /** What came is not of the protocol. */
  garbled(error: WalcastError, now: number): void {
    const wasOpen = this.connection.name === 'open'
    this.#gone()
    if (wasOpen) this.#wait(now, error.message)
    else this.#refuse(0, error)
  }

  closed(code: number, reason: string, now: number): void {
    if (!this.#hasSocket) return
    const wasOpen = this.connection.name === 'open'
    if (wasOpen && now - this.#since >= GOOD_MS) this.#attempts = 0
    this.#gone()
    if (!this.#wanted || this.#isAway) return
    const error = this.#refusal ?? new WalcastError('refused', reason || `the server closed the connection with ${code}`)
    if (this.#refusal || code === 4003 || code === 4500) {
      this.#refusal = error
      if (!this.#hasToken() || ++this.#refusals > 1) return this.#needsToken(error)
      return this.#begin(now, code === 4003 ? 'expired' : 'rejected')
    }
    if (code >= 4500 || FINAL_CODES.includes(code)) return this.#refuse(code, error)
    const spread = code === 1001 ? Number(/spread=(\d+)/.exec(reason)?.[1] ?? 0) * 1000 : 0
    const why = wasOpen ? 'the connection was lost' : 'no connection: is the address right, is the server running, and does it accept this origin'
    this.#wait(now, reason || `${why} (${code})`, spread)
  }

  /** Every query is live: the connection is good. */
  settled(): void {
    this.#attempts = 0
  }

  /** There is a network, the page is seen again, or the clock jumped. */
  woke(now: number): void {
    if (this.connection.name === 'open') return this.#probe(now, WAKE_PATIENCE_MS)
    // A network that has just come may not be all there: the next attempt is soon.
    this.#attempts = 0
    if (this.#isWaiting) this.#start(now)
  }

  offline(now: number): void {
    if (this.connection.name === 'open') return this.#probe(now, WAKE_PATIENCE_MS)
    if (!this.#isWaiting && this.connection.name !== 'connecting') return
    this.#leave()
    // Browsers are wrong at times: it tries all the same, now and then.
    this.#since = now
    this.#change({ name: 'offline' })
  }

  /** The page goes into the cache of the browser's history: one with an open socket could not. */
  away(): void {
    const { name } = this.connection
    if (name !== 'open' && name !== 'connecting' && !this.#isWaiting) return
    this.#isAway = true
    this.#leave()
    this.#change({ name: 'offline' })
  }

  back(now: number): void {
    if (this.#isAway) {
      this.#isAway = false
      this.#start(now)
    } else this.woke(now)
  }

  tick(now: number): void {
    if (now < this.wakeAt || this.#isAway) return
    if (this.#isWaiting) return this.#start(now)
    if (this.connection.name === 'connecting') {
      if (this.#hasSocket) return this.closed(1006, 'the server does not answer', now)
      return this.noToken(this.#generation, new WalcastError('timeout', 'the token provider does not answer'), now)
    }
    if (now >= this.#askAt) this.#ask('expiring')
    if (this.#askedAt && now >= this.#askedAt + this.#patience) return this.closed(1006, 'the server is silent', now)
    if (now >= this.#heardAt + SILENCE_MS) this.#probe(now, PATIENCE_MS)
  }

  get #isWaiting(): boolean {
    return this.connection.name === 'waiting' || this.connection.name === 'offline'
  }

  #start(now: number): void {
    if (this.#wanted && !this.#isAway) this.#begin(now, 'connect')
  }

  /** Connects; with a token that it asks for first, unless there is no reason to. */
  #begin(now: number, reason?: TokenReason): void {
    this.#since = now
    this.#change({ name: 'connecting', attempt: ++this.#attempts })
    if (reason && this.#hasToken()) this.#ask(reason)
    else {
      if (reason) this.#token = null
      this.#open()
    }
  }

  #open(): void {
    this.#hasSocket = true
    this.#refusal = undefined
    this.#out.open()
  }

  #greeted(hello: Hello, now: number): void {
    if (hello.protocol !== 1) {
      this.#gone()
      return this.#refuse(0, new WalcastError('unsupported', `the server speaks version ${hello.protocol} of the protocol, this client version 1: install another version of @walcast/client`))
    }
    this.#since = now
    this.#refusals = 0
    const { database, epoch, position } = hello
    this.#change({ name: 'open', database, epoch, position })
  }

  #ask(reason: TokenReason): void {
    if (!this.#hasToken()) return
    this.#asking = reason
    this.#askAt = Infinity
    this.#out.ask(reason, ++this.#generation)
  }

  #probe(now: number, patience: number): void {
    if (this.#askedAt) return
    this.#askedAt = now
    this.#patience = patience
    this.#out.send({ type: 'ping', ref: 0 })
  }

  #wait(now: number, reason: string, spread = 0): void {
    const delay = backoff(Math.max(0, this.#attempts - 1), this.#out.random(), this.#options) + this.#out.random() * spread
    this.#change({ name: 'waiting', retryAt: now + delay, reason })
  }

  #needsToken(error: WalcastError): void {
    this.#leave()
    this.#change({ name: 'needs-token', error })
  }

  #refuse(code: number, error: WalcastError): void {
    this.#change({ name: 'refused', code, error })
  }

  #leave(): void {
    this.#asking = undefined
    this.#askAt = Infinity
    this.#generation++
    this.#gone()
  }

  /** The socket is no more. */
  #gone(): void {
    if (!this.#hasSocket) return
    this.#hasSocket = false
    this.#askedAt = 0
    this.#out.drop()
    this.#out.lost()
  }

  #change(connection: Connection): void {
    const before = this.connection
    this.connection = connection
    this.#out.changed(connection, before)
  }
}
