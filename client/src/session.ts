import { type BackoffOptions, backoff } from './backoff.js'
import { WalcastError, asError, isBusy } from './error.js'
import { type Position, comparePositions, later } from './position.js'
import type { ErrorFrame, Frame, Hello, Subscribed, Tx, WireChange } from './protocol.js'
import type { Row } from './values.js'

/** What a subscription feeds: the rows of a query, or a reader of changes. */
export interface Feed {
  /** It is a result of a query; otherwise a reader of changes, for which nobody waits. */
  readonly isResult: boolean
  /** It shows a result: those that come back together are seen again together. */
  readonly filled: boolean
  /** It may come from elsewhere: it is asked for once that is known. */
  readonly isLoading?: boolean
  /** The predicate, for errors that are about a place in it. */
  readonly fields: { readonly where?: string | undefined }
  /** The optional parts of the protocol without which it cannot be. */
  readonly needs?: readonly string[]
  /** The fields of `subscribe` that make it whole, or let it go on where it was. */
  request(epoch: string): Record<string, unknown>
  /** Returns false if it cannot go on where it was: it begins anew. */
  accepted(message: Subscribed, epoch: string): boolean
  snapshot(rows: readonly Row[]): void
  /** Takes what a transaction does here. Returns false if that does not fit: it begins anew. */
  take(changes: readonly WireChange[], isWhole: boolean, tx: Tx): boolean
  advance(position: Position): void
  live(position: Position): void
  settle(position: Position): void
  lost(): void
  restart(error: WalcastError): void
  fail(error: WalcastError): void
}

export interface SessionEffects {
  send(message: Record<string, unknown>): void
  /** These have something new to be seen; all at once. */
  changed(feeds: readonly Feed[]): void
  /** What is live is complete up to a later place, or one more is live. */
  advanced(): void
  random(): number
}

interface Subscription {
  readonly feed: Feed
  /** Its name on the connection, while it has one: each subscription has another, since old messages may still come. */
  id: string | undefined
  phase: 'waiting' | 'asked' | 'accepted' | 'live'
  /** When it is asked for again. */
  at: number
  /** Asked for in a row without becoming live. */
  attempts: number
  /** When it began anew, of the last minute. */
  restarts: number[]
  /** Complete up to here. */
  position: Position | undefined
}

const BEGIN_ANEW = ['resume_expired', 'resume_invalid', 'schema_changed']
/** Results that come back after a disconnect are seen together; one that takes longer holds the others up no more. */
const TOGETHER_MS = 5000
const MINUTE_MS = 60_000
/** Transactions whose numbers are remembered. */
const MOST_XIDS = 1000

/**
 * The subscriptions of one client over its connections. Pure: frames and the time go in, messages and results come out.
 *
 * The one thing to know: everything on a connection stands at one place, `position`, but what is still on its way to it
 * (its frames have an `id`).
 */
export class Session {
  hello: Hello | undefined
  /** The epoch of the last connection. */
  epoch: string | undefined
  /** Complete up to here, whatever is live. */
  position: Position | undefined
  /** The transactions that came last. */
  readonly xids: Set<number> = new Set()

  readonly #byFeed = new Map<Feed, Subscription>()
  readonly #byId = new Map<string, Subscription>()
  #names = 0
  /** The last transaction has not come to its end. */
  #isPart = false
  readonly #returning = new Set<Subscription>()
  #togetherUntil = 0
  /** Their rows are on the way, or wait until those of others have come. */
  readonly #snapshots = new Set<Subscription>()
  readonly #heldBack = new Set<Subscription>()
  /** Live, with something that is not seen yet. */
  readonly #unseen = new Set<Subscription>()

  readonly #out: SessionEffects
  readonly #options: BackoffOptions | undefined

  constructor(
    out: SessionEffects,
    options?: BackoffOptions,
  ) {
    this.#out = out
    this.#options = options
  }

  /** When `tick` is due. */
  get wakeAt(): number {
    if (!this.hello) return Infinity
    let at = this.#returning.size > 0 ? this.#togetherUntil : Infinity
    for (const { id, at: own } of this.#byFeed.values()) if (!id) at = Math.min(at, own)
    return at
  }

  /** Every query that has not failed is live, and what came of it is seen. */
  get isSettled(): boolean {
    return this.#isOpen && [...this.#byFeed.values()].every(({ feed, phase }) => !feed.isResult || phase === 'live')
  }

  /** Every query that has not failed is complete up to here. */
  get complete(): Position | undefined {
    if (!this.isSettled) return undefined
    let least = this.position
    for (const subscription of this.#byFeed.values()) {
      const place = subscription.feed.isResult ? this.#placeOf(subscription) : undefined
      if (place === undefined) continue
      if (least === undefined || comparePositions(place, least) < 0) least = place
    }
    return least
  }

  /** What came can be seen: no part of a transaction is missing, and those that come back together are all there. */
  get #isOpen(): boolean {
    return this.hello !== undefined && !this.#isPart && this.#returning.size === 0
  }

  has(feed: Feed): boolean {
    return this.#byFeed.has(feed)
  }

  get size(): number {
    return this.#byFeed.size
  }

  add(feed: Feed): void {
    const subscription: Subscription = { feed, id: undefined, phase: 'waiting', at: 0, attempts: 0, restarts: [], position: undefined }
    this.#byFeed.set(feed, subscription)
    if (this.hello) this.#ask(subscription)
  }

  /** What there is of it is there. */
  loaded(feed: Feed): void {
    const subscription = this.#byFeed.get(feed)
    if (this.hello && subscription && !subscription.id) this.#ask(subscription)
  }

  /** Where a result that is live stands now, if all that came of it is seen. */
  standing(feed: Feed): Position | undefined {
    const subscription = this.#byFeed.get(feed)
    return this.#isOpen && subscription?.phase === 'live' && !this.#unseen.has(subscription) ? this.#placeOf(subscription) : undefined
  }

  remove(feed: Feed): void {
    const subscription = this.#byFeed.get(feed)
    if (!subscription) return
    this.#pause(subscription)
    this.#byFeed.delete(feed)
    this.#returning.delete(subscription)
    feed.lost()
    this.#settle()
  }

  /** Begins on a connection that was greeted. */
  greeted(hello: Hello, now: number): void {
    this.hello = hello
    this.epoch = hello.epoch
    this.#togetherUntil = now + TOGETHER_MS
    for (const subscription of this.#byFeed.values()) this.#ask(subscription)
  }

  /** The connection is gone. */
  lost(): void {
    if (!this.hello) return
    for (const subscription of this.#byFeed.values()) {
      if (subscription.feed.filled && (subscription.phase === 'live' || this.#returning.has(subscription))) this.#returning.add(subscription)
      this.#leave(subscription)
      subscription.feed.lost()
    }
    this.#byId.clear()
    this.#unseen.clear()
    this.hello = this.position = undefined
    this.#isPart = false
    this.#out.changed([...this.#byFeed.keys()])
  }

  tick(now: number): void {
    if (!this.hello) return
    for (const subscription of this.#byFeed.values()) if (!subscription.id && now >= subscription.at) this.#ask(subscription)
    if (now >= this.#togetherUntil) {
      this.#returning.clear()
      this.#settle()
    }
  }

  receive(frame: Frame, now: number): void {
    switch (frame.type) {
      case 'tx':
        return this.#transaction(frame, now)
      case 'progress':
      case 'pong':
        if (frame.position !== undefined) {
          this.position = frame.position
          // The end of a transaction that had nothing more for this connection.
          this.#isPart = frame.position.includes(':')
        }
        return this.#settle()
      case 'error':
        return this.#refused(frame, now)
      case 'subscribed':
      case 'snapshot':
      case 'live': {
        // Else of one that was left meanwhile.
        const subscription = this.#byId.get(frame.id)
        if (subscription) this.#attempt(subscription, now, () => this.#progressed(subscription, frame))
      }
    }
  }

  /** Leaves a subscription, which has a place to go on from if it was live. */
  #pause(subscription: Subscription): void {
    if (subscription.id) this.#out.send({ type: 'unsubscribe', id: subscription.id })
    this.#leave(subscription)
    this.#unseen.delete(subscription)
  }

  #leave(subscription: Subscription): void {
    const { id, feed, phase } = subscription
    if (phase === 'live') feed.advance(this.#placeOf(subscription))
    if (id) this.#byId.delete(id)
    this.#snapshots.delete(subscription)
    this.#heldBack.delete(subscription)
    subscription.id = undefined
    subscription.phase = 'waiting'
  }

  #placeOf({ position }: Subscription): Position {
    return this.position === undefined ? position! : later(position, this.position)
  }

  #ask(subscription: Subscription): void {
    if (subscription.feed.isLoading) return void (subscription.at = Infinity)
    const { features = [], server } = this.hello!
    const missing = subscription.feed.needs?.find((word) => !features.includes(word))
    if (missing !== undefined) return this.#end(subscription, new WalcastError('unsupported', `this server (${server}) does not know "${missing}" yet: update it`))
    const request = subscription.feed.request(this.hello!.epoch)
    // A larger message would end the connection, and with it all other queries.
    const { message_bytes = 65_536 } = this.hello!.limits ?? {}
    if (new TextEncoder().encode(JSON.stringify(request)).length > message_bytes - 100) {
      return this.#end(subscription, new WalcastError('limit_exceeded', `a request may have ${message_bytes} bytes: ask for less at once, with a shorter predicate or fewer parameters`, { limit: 'message_bytes' }))
    }
    if (request.snapshot === true) {
      // The server would refuse more of them at once.
      if (this.#isFull) {
        subscription.at = Infinity
        this.#heldBack.add(subscription)
        return
      }
      this.#snapshots.add(subscription)
    }
    const id = `${++this.#names}`
    Object.assign(subscription, { id, phase: 'asked', at: 0, position: undefined })
    this.#byId.set(id, subscription)
    this.#out.send({ type: 'subscribe', id, ...request })
  }

  get #isFull(): boolean {
    return this.#snapshots.size >= (this.hello?.limits?.subject_snapshots ?? Infinity)
  }

  /** Does something by what the server said, which may be what no server should say. */
  #attempt(subscription: Subscription, now: number, act: () => boolean): void {
    let fits: boolean
    try {
      fits = act()
    } catch (error) {
      this.#pause(subscription)
      return this.#end(subscription, asError('bad_value', error, 'what the server sent cannot be read'))
    }
    if (fits) return
    this.#pause(subscription)
    this.#again(subscription, new WalcastError('schema_changed', 'the columns of the table are others now'), now)
  }

  #progressed(subscription: Subscription, frame: Subscribed | (Frame & { type: 'snapshot' | 'live' })): boolean {
    const { feed } = subscription
    if (frame.type === 'subscribed') {
      subscription.phase = 'accepted'
      subscription.position = frame.position
      if (!feed.accepted(frame, this.hello!.epoch)) return false
      this.#out.changed([feed])
    } else if (frame.type === 'snapshot') {
      feed.snapshot(frame.rows)
      this.#out.changed([feed])
    } else {
      subscription.phase = 'live'
      subscription.attempts = 0
      subscription.position = frame.position
      feed.live(frame.position)
      this.#snapshots.delete(subscription)
      // Inside a transaction, which ends with the connection's next frame without `more`. Or not: then the end of one that
      // only left subscriptions had a part of is not told any more.
      this.#isPart = frame.position.includes(':')
      this.#unseen.add(subscription)
      this.#returning.delete(subscription)
      this.#settle()
    }
    return true
  }

  /** A frame of a transaction: for one subscription that catches up, or for every live one. */
  #transaction(tx: Tx, now: number): void {
    const { id, position, changes } = tx
    if (id !== undefined) {
      const subscription = this.#byId.get(id)
      if (!subscription) return
      return this.#attempt(subscription, now, () => {
        if (!subscription.feed.take(changes, false, tx)) return false
        subscription.position = position
        subscription.feed.advance(position)
        if (!tx.more) this.#took(tx.xid)
        return true
      })
    }
    const isWhole = !tx.more && this.#returning.size === 0
    // Nothing is seen before all of them have taken their changes.
    this.#isPart = true
    const own = new Map<string, WireChange[]>()
    for (const change of changes) {
      const list = own.get(change.id)
      if (list) list.push(change)
      else own.set(change.id, [change])
    }
    for (const [id, list] of own) {
      const subscription = this.#byId.get(id)
      if (subscription?.phase !== 'live') continue
      this.#unseen.add(subscription)
      this.#attempt(subscription, now, () => subscription.feed.take(list, isWhole, tx))
    }
    this.position = position
    this.#isPart = tx.more === true
    if (!tx.more) this.#took(tx.xid)
    this.#settle()
  }

  #took(xid: number): void {
    if (xid !== 0) this.xids.add(xid)
    if (this.xids.size > MOST_XIDS) this.xids.delete(this.xids.values().next().value!)
  }

  #settle(): void {
    if (!this.hello) return
    for (const subscription of this.#heldBack) {
      if (this.#isFull) break
      this.#heldBack.delete(subscription)
      this.#ask(subscription)
    }
    if (!this.#isOpen) return
    const feeds: Feed[] = []
    for (const subscription of this.#unseen) {
      subscription.feed.settle(this.#placeOf(subscription))
      feeds.push(subscription.feed)
    }
    this.#unseen.clear()
    if (feeds.length > 0) this.#out.changed(feeds)
    this.#out.advanced()
  }

  /** The server refused a subscription, or ended it. */
  #refused(frame: ErrorFrame, now: number): void {
    const subscription = frame.id === undefined ? undefined : this.#byId.get(frame.id)
    if (!subscription) return
    const { code, message, type: _, id: __, ...details } = frame
    const error = new WalcastError(code, message, details, subscription.feed.fields.where)
    const wasActive = subscription.phase !== 'asked'
    this.#leave(subscription)
    this.#unseen.delete(subscription)
    // What the client may see is something else now: it looks what that is.
    if (BEGIN_ANEW.includes(code) || (code === 'forbidden' && wasActive)) return this.#again(subscription, error, now)
    if (!isBusy(code, details)) return this.#end(subscription, error)
    this.#returning.delete(subscription)
    const wait = backoff(subscription.attempts++, this.#out.random(), this.#options)
    subscription.at = now + Math.max(wait, frame.retry_after_ms ?? 0)
    subscription.feed.lost()
    this.#out.changed([subscription.feed])
    this.#settle()
  }

  /** Begins anew, with a snapshot. One that does so again and again waits, and ends with the error. */
  #again(subscription: Subscription, error: WalcastError, now: number): void {
    const restarts = (subscription.restarts = [...subscription.restarts.filter((at) => now - at < MINUTE_MS), now])
    if (restarts.length >= 5) return this.#end(subscription, error)
    subscription.feed.restart(error)
    // It may have left instead.
    if (!this.#byFeed.has(subscription.feed)) return this.#settle()
    if (restarts.length < 3) this.#ask(subscription)
    else {
      this.#returning.delete(subscription)
      subscription.at = now + backoff(restarts.length, this.#out.random(), this.#options)
    }
    this.#out.changed([subscription.feed])
    this.#settle()
  }

  #end(subscription: Subscription, error: WalcastError): void {
    this.#byFeed.delete(subscription.feed)
    this.#returning.delete(subscription)
    subscription.feed.fail(error)
    this.#out.changed([subscription.feed])
    this.#settle()
  }
}
