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
  /** What of the protocol it needs that the server does not know; undefined if it can be asked for. */
  lacking(hello: Hello): WalcastError | undefined
  /** The fields of `subscribe` that make it whole, or let it go on where it was. */
  request(epoch: string): Readonly<Record<string, unknown>>
  /** Throws `schema_changed` if it cannot go on where it was: it begins anew. */
  accepted(message: Subscribed, epoch: string): void
  snapshot(rows: readonly Row[]): void
  /** Takes what a transaction does here. Throws `schema_changed` if that does not fit: it begins anew. */
  take(changes: readonly WireChange[], isWhole: boolean, tx: Tx): void
  advance(position: Position): void
  live(position: Position): void
  settle(position: Position): void
  lost(): void
  restart(error: WalcastError): void
  fail(error: WalcastError): void
}

export interface SessionEffects {
  send(message: Record<string, unknown>): void
  /** This has something new to be seen; all that is told of at once is seen at once. */
  changed(feed: Feed): void
  /** What is live is complete up to a later place, or one more is live. */
  advanced(): void
  now(): number
  random(): number
}

export interface Subscription {
  readonly feed: Feed
  /** Its name on the connection, while it has one: each subscription has another, since old messages may still come. */
  id: string | undefined
  phase: 'waiting' | 'asked' | 'accepted' | 'live'
  /** When it is asked for again. */
  at: number
  /** Asked for in a row without becoming live. */
  attempts: number
  /** When it began anew, of the last minute. */
  restarts: readonly number[]
  /** Complete up to here. */
  position: Position | undefined
}

/** The subscriptions of one client over its connections. */
export interface Session {
  readonly hello: Hello | undefined
  /** The epoch of the last connection. */
  readonly epoch: string | undefined
  /** Complete up to here, whatever is live. */
  readonly position: Position | undefined
  /** The transactions that came last. */
  readonly xids: ReadonlySet<number>
  readonly subscriptions: ReadonlyMap<Feed, Subscription>
  /** What came can be seen: no part of a transaction is missing, and those that come back together are all there. */
  readonly isOpen: boolean
  /** Every query that has not failed is live, and what came of it is seen. */
  readonly isSettled: boolean
  /** When `tick` is due. */
  readonly wakeAt: number
  tick(): void
  /** Subscribes to it; once more when what there is of it has come. */
  add(feed: Feed): void
  remove(feed: Feed): void
  /** Takes a message; the greeting begins a connection. */
  receive(frame: Frame): void
  /** The connection is gone. */
  lost(): void
}

const BEGIN_ANEW = ['resume_expired', 'resume_invalid', 'schema_changed']
/** Results that come back after a disconnect are seen together; one that takes longer holds the others up no more. */
const TOGETHER_MS = 5000
const MINUTE_MS = 60_000
/** Transactions whose numbers are remembered. */
const MOST_XIDS = 1000

/** Up to where a subscription that is live is complete. */
const placeOf = (position: Position | undefined, subscription: Subscription): Position =>
  position === undefined ? subscription.position! : later(subscription.position, position)

/** Where a result that is live stands now, if all that came of it is seen. */
export function standing(session: Session, feed: Feed): Position | undefined {
  const subscription = session.subscriptions.get(feed)
  return session.isOpen && subscription?.phase === 'live' ? placeOf(session.position, subscription) : undefined
}

/** Every query that has not failed is complete up to here. */
export function completeTo(session: Session): Position | undefined {
  if (!session.isSettled) return undefined
  const places = [...session.subscriptions.values()].flatMap((subscription) => (subscription.feed.isResult ? placeOf(session.position, subscription) : []))
  return places.reduce<Position | undefined>((least, place) => (least === undefined || comparePositions(place, least) < 0 ? place : least), session.position)
}

/**
 * Makes a session. Pure: frames and the time go in, messages and results come out.
 *
 * The one thing to know: everything on a connection stands at one place, `position`, but what is still on its way to it
 * (its frames have an `id`).
 */
export function makeSession({ send, changed, advanced, now, random }: SessionEffects, options?: BackoffOptions): Session {
  let hello: Hello | undefined
  let epoch: string | undefined
  let position: Position | undefined
  let names = 0
  /** The last transaction has not come to its end. */
  let isPart = false
  let togetherUntil = 0
  const xids = new Set<number>()
  const byFeed = new Map<Feed, Subscription>()
  const byId = new Map<string, Subscription>()
  const returning = new Set<Subscription>()
  /** Their rows are on the way, or wait until those of others have come. */
  const snapshots = new Set<Subscription>()
  const heldBack = new Set<Subscription>()
  /** Live, with something that is not seen yet. */
  const unseen = new Set<Subscription>()

  const isOpen = (): boolean => hello !== undefined && !isPart && returning.size === 0
  const isFull = (): boolean => snapshots.size >= (hello?.limits?.subject_snapshots ?? Infinity)

  /** Leaves a subscription, which has a place to go on from if it was live. */
  function leave(subscription: Subscription): void {
    const { id, feed, phase } = subscription
    if (phase === 'live') feed.advance(placeOf(position, subscription))
    byId.delete(id!)
    snapshots.delete(subscription)
    heldBack.delete(subscription)
    unseen.delete(subscription)
    subscription.id = undefined
    subscription.phase = 'waiting'
  }

  function pause(subscription: Subscription): void {
    if (subscription.id) send({ type: 'unsubscribe', id: subscription.id })
    leave(subscription)
  }

  function ask(subscription: Subscription): void {
    const { feed } = subscription
    subscription.at = Infinity
    if (!hello || feed.isLoading) return
    const error = feed.lacking(hello)
    if (error) return failed(subscription, error)
    const request = feed.request(hello.epoch)
    // A larger message would end the connection, and with it all other queries.
    const most = hello.limits?.message_bytes ?? 65_536
    if (new TextEncoder().encode(JSON.stringify(request)).length > most - 100) {
      return failed(subscription, new WalcastError('limit_exceeded', `a request may have ${most} bytes: ask for less at once`, { limit: 'message_bytes' }))
    }
    if (request.snapshot) {
      // The server would refuse more of them at once.
      if (isFull()) return void heldBack.add(subscription)
      snapshots.add(subscription)
    }
    const id = `${++names}`
    subscription.id = id
    subscription.phase = 'asked'
    subscription.position = undefined
    byId.set(id, subscription)
    send({ type: 'subscribe', id, ...request })
  }

  /** Asks for those that wait for no message of the server, and are due. */
  function askDue(at: number): void {
    for (const subscription of byFeed.values()) if (!subscription.id && at >= subscription.at) ask(subscription)
  }

  /** Does something by what the server said, which may be what no server should say. */
  function attempt(subscription: Subscription, act: () => void): void {
    try {
      act()
    } catch (error) {
      pause(subscription)
      failed(subscription, asError('bad_value', error, 'what the server sent cannot be read'))
    }
  }

  function progressed(subscription: Subscription, frame: Subscribed | (Frame & { type: 'snapshot' | 'live' })): void {
    const { feed } = subscription
    if (frame.type === 'snapshot') feed.snapshot(frame.rows)
    else subscription.position = frame.position
    if (frame.type === 'subscribed') {
      subscription.phase = 'accepted'
      feed.accepted(frame, epoch!)
    }
    if (frame.type !== 'live') return changed(feed)
    subscription.phase = 'live'
    subscription.attempts = 0
    feed.live(frame.position)
    snapshots.delete(subscription)
    returning.delete(subscription)
    unseen.add(subscription)
    // Inside a transaction, which ends with the connection's next frame without `more`. Or not: then the end of one that
    // only left subscriptions had a part of is not told any more.
    isPart = frame.position.includes(':')
    settle()
  }

  /** A frame of a transaction: for one subscription that catches up, or for every live one. */
  function transaction(tx: Tx): void {
    const { id, changes, more } = tx
    if (id !== undefined) {
      const subscription = byId.get(id)
      if (!subscription) return
      return attempt(subscription, () => {
        subscription.feed.take(changes, false, tx)
        subscription.position = tx.position
        subscription.feed.advance(tx.position)
        took(tx)
      })
    }
    const isWhole = !more && returning.size === 0
    // Nothing is seen before all of them have taken their changes.
    isPart = true
    const own = new Map<string, WireChange[]>()
    for (const change of changes) {
      const list = own.get(change.id)
      if (list) list.push(change)
      else own.set(change.id, [change])
    }
    for (const [id, list] of own) {
      const subscription = byId.get(id)
      if (subscription?.phase !== 'live') continue
      unseen.add(subscription)
      attempt(subscription, () => subscription.feed.take(list, isWhole, tx))
    }
    position = tx.position
    isPart = more === true
    took(tx)
    settle()
  }

  function took({ xid, more }: Tx): void {
    if (xid !== 0 && !more) xids.add(xid)
    if (xids.size > MOST_XIDS) xids.delete(xids.values().next().value!)
  }

  function settle(): void {
    for (const subscription of heldBack) {
      if (isFull()) break
      heldBack.delete(subscription)
      ask(subscription)
    }
    if (!isOpen()) return
    for (const subscription of unseen) {
      subscription.feed.settle(placeOf(position, subscription))
      changed(subscription.feed)
    }
    unseen.clear()
    advanced()
  }

  function refused(subscription: Subscription, { type: _, id: __, code, message, ...details }: ErrorFrame): void {
    const isNew = subscription.phase === 'asked'
    leave(subscription)
    failed(subscription, new WalcastError(code, message, details, subscription.feed.fields.where), isNew)
  }

  /** Asks again in a while. */
  function delay(subscription: Subscription, attempts: number, least = 0): void {
    returning.delete(subscription)
    subscription.at = now() + Math.max(backoff(attempts, random(), options), least)
  }

  /**
   * The server refused a subscription or ended it, or what it sent does not fit. It begins anew, with a snapshot, is asked for
   * again later, or ends. One that begins anew again and again waits, and ends with the error.
   */
  function failed(subscription: Subscription, error: WalcastError, isNew = false): void {
    const { feed } = subscription
    const { code, details } = error
    const restarts = subscription.restarts.filter((at) => now() - at < MINUTE_MS)
    // What the client may see is something else now: it looks what that is.
    if ((BEGIN_ANEW.includes(code) || (code === 'forbidden' && !isNew)) && restarts.length < 4) {
      subscription.restarts = [...restarts, now()]
      feed.restart(error)
      // It may have left instead.
      if (!byFeed.has(feed)) return settle()
      if (restarts.length < 2) ask(subscription)
      else delay(subscription, restarts.length + 1)
    } else if (isBusy(code, details)) {
      feed.lost()
      delay(subscription, subscription.attempts++, details.retry_after_ms as number | undefined)
    } else {
      byFeed.delete(feed)
      returning.delete(subscription)
      feed.fail(error)
    }
    changed(feed)
    settle()
  }

  return {
    get hello() {
      return hello
    },
    get epoch() {
      return epoch
    },
    get position() {
      return position
    },
    get isOpen() {
      return isOpen()
    },
    get isSettled() {
      return isOpen() && [...byFeed.values()].every(({ feed, phase }) => !feed.isResult || phase === 'live')
    },
    get wakeAt() {
      if (!hello) return Infinity
      let at = returning.size > 0 ? togetherUntil : Infinity
      for (const { id, at: own } of byFeed.values()) if (!id) at = Math.min(at, own)
      return at
    },
    xids,
    subscriptions: byFeed,

    tick() {
      if (!hello) return
      askDue(now())
      if (now() < togetherUntil) return
      returning.clear()
      settle()
    },

    add(feed) {
      const subscription: Subscription = { feed, id: undefined, phase: 'waiting', at: 0, attempts: 0, restarts: [], position: undefined }
      byFeed.set(feed, subscription)
      ask(subscription)
    },

    remove(feed) {
      const subscription = byFeed.get(feed)
      if (!subscription) return
      pause(subscription)
      byFeed.delete(feed)
      returning.delete(subscription)
      feed.lost()
      settle()
    },

    receive(frame) {
      switch (frame.type) {
        case 'hello':
          hello = frame
          epoch = frame.epoch
          togetherUntil = now() + TOGETHER_MS
          return askDue(Infinity)
        case 'tx':
          return transaction(frame)
        case 'progress':
        case 'pong':
          if (frame.position !== undefined) {
            position = frame.position
            // The end of a transaction that had nothing more for this connection.
            isPart = position.includes(':')
          }
          return settle()
        case 'error':
        case 'subscribed':
        case 'snapshot':
        case 'live': {
          const subscription = byId.get(frame.id!)
          // One that was left meanwhile, or an error that is about none.
          if (!subscription) return
          if (frame.type === 'error') refused(subscription, frame)
          else attempt(subscription, () => progressed(subscription, frame))
        }
      }
    },

    lost() {
      if (!hello) return
      for (const subscription of byFeed.values()) {
        const { feed, phase } = subscription
        if (feed.filled && phase === 'live') returning.add(subscription)
        leave(subscription)
        feed.lost()
        changed(feed)
      }
      hello = position = undefined
      isPart = false
    },
  }
}
