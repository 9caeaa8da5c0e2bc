import { type Client, insideOf } from './client.js'
import { WalcastError } from './error.js'
import type { Inside, Waits } from './inside.js'
import { type Position, comparePositions, isPosition } from './position.js'
import type { ErrorFrame, Hello } from './protocol.js'
import { completeTo } from './session.js'

/** What somebody waits for: a place, or a transaction. */
export type WaitTarget = Position | { readonly position?: Position; readonly xid?: string | number | bigint }

export interface WaitOptions {
  /** Milliseconds after which it rejects with `timeout`, 30,000. */
  readonly timeout?: number
  readonly signal?: AbortSignal
}

interface Wait {
  readonly position: Position | undefined
  readonly xid: number | undefined
  /** The epoch that `position` belongs to, if that is known. */
  readonly epoch: string | undefined
  readonly resolve: (position: Position) => void
  readonly reject: (reason: unknown) => void
}

/** Pings that wait for a place; a server holds a hundred. */
const MOST_PINGS = 50

/**
 * Waits until all queries of a client are complete up to a place, and their listeners were told: then they show what was
 * written before it. The place is what `SELECT pg_current_wal_insert_lsn()` gives after COMMIT. `xid`
 * (`pg_current_xact_id()::xid::text` in the transaction) is enough where the transaction changed a row of a query: give it
 * beside the position, not alone. Resolves with the place that is reached.
 */
export function waitFor(client: Client<any>, target: WaitTarget, options: WaitOptions = {}): Promise<Position> {
  const inside = insideOf(client)
  const { failure, act, use } = inside
  if (failure?.code === 'closed') return Promise.reject(failure)
  let waited!: Promise<Position>
  act(() => {
    const waits = (inside.waits ??= new Waiting(inside)) as Waiting
    waited = waits.add(target, options)
    use()
  })
  return waited
}

/** Those who wait until the queries have come as far as their own writes. */
class Waiting implements Waits {
  readonly #inside: Inside
  readonly #waits = new Set<Wait>()
  /** The connection that these were asked on. */
  #hello: Hello | undefined
  /** The farthest place that the server was asked for. */
  #asked: Position | undefined
  #pings = 0
  #cancel: (() => void) | undefined

  constructor(inside: Inside) {
    this.#inside = inside
    inside.onConnection(() => {
      const { failure } = inside
      if (failure?.code === 'closed') this.rejectAll(failure)
    })
  }

  add(target: WaitTarget, { timeout = 30_000, signal }: WaitOptions): Promise<Position> {
    const { position, xid } = typeof target === 'string' ? { position: target, xid: undefined } : target
    const { session, link, platform } = this.#inside
    return new Promise((resolve, reject) => {
      if (position === undefined ? xid === undefined : !isPosition(position)) {
        throw new WalcastError('bad_request', `waitFor takes a position as pg_current_wal_insert_lsn() gives it, like 16/B374D848, and not ${JSON.stringify(position)}`)
      }
      signal?.throwIfAborted()
      const wait: Wait = {
        position,
        // What is longer has a count of wraparounds before the number that the log has.
        xid: xid === undefined ? undefined : Number(BigInt.asUintN(32, BigInt(xid))),
        epoch: session.epoch,
        resolve: (reached) => finish(() => resolve(reached)),
        reject: (reason) => finish(() => reject(reason)),
      }
      const aborted = (): void => wait.reject(signal!.reason)
      const cancel = platform.later(() => {
        wait.reject(new WalcastError('timeout', `the queries did not come as far as ${position ?? `transaction ${xid}`} in time: the connection is ${link.connection.name}`))
      }, timeout)
      const finish = (act: () => void): void => {
        this.#waits.delete(wait)
        signal?.removeEventListener('abort', aborted)
        cancel()
        act()
      }
      signal?.addEventListener('abort', aborted)
      this.#waits.add(wait)
      this.#ask()
    })
  }

  receive(frame: Parameters<Waits['receive']>[0]): boolean {
    if (frame.type === 'hello') this.#ask()
    else if (frame.type === 'pong' && frame.position !== undefined) this.#ponged()
    else if (frame.type === 'error' && frame.id === undefined) return this.#refused(frame)
    return false
  }

  /** The server has come as far as it was asked for. */
  #ponged(): void {
    this.#pings--
    this.#ask()
  }

  /** An error that is about no query; returns false if it is about no wait either. */
  #refused({ code, message, limit, ref, retry_after_ms = 1000 }: ErrorFrame): boolean {
    if (code === 'rate_limited' || limit === 'reaches') {
      this.#asked = undefined
      this.#cancel?.()
      this.#cancel = this.#inside.platform.later(() => this.#ask(), retry_after_ms)
      return true
    }
    if (!isPosition(ref)) return false
    // Nobody has written so far.
    for (const { position, reject } of [...this.#waits]) if (position === ref) reject(new WalcastError(code, message))
    this.#asked = undefined
    this.#ponged()
    return true
  }

  advanced(): void {
    if (this.#waits.size === 0) return
    const { session, results } = this.#inside
    const complete = completeTo(session)
    if (complete === undefined) return
    const reached = [...this.#waits].filter(({ position, xid, epoch }) => {
      // Positions of another history say nothing here; but everything is live again.
      if (epoch !== undefined && epoch !== session.epoch) return true
      return (position !== undefined && comparePositions(complete, position) >= 0) || (xid !== undefined && session.xids.has(xid))
    })
    if (reached.length === 0) return
    // Listeners hear first.
    results.tell()
    for (const { resolve } of reached) resolve(complete)
  }

  rejectAll(error: WalcastError): void {
    this.#cancel?.()
    for (const { reject } of [...this.#waits]) reject(error)
  }

  /** Asks the server for a word once it has come as far as the farthest that somebody waits for. */
  #ask(): void {
    const { session, send, warn } = this.#inside
    const { hello } = session
    if (!hello) return
    if (hello !== this.#hello) {
      this.#hello = hello
      this.#asked = undefined
      this.#pings = 0
    }
    this.#cancel?.()
    this.advanced()
    let farthest = this.#asked
    for (const { position, epoch } of this.#waits) {
      if (position === undefined || (epoch !== undefined && epoch !== session.epoch)) continue
      if (farthest === undefined || comparePositions(position, farthest) > 0) farthest = position
    }
    if (farthest === this.#asked) return
    if (!hello.features?.includes('reach')) {
      return warn('', 'this server does not know `reach`: waitFor waits until it tells by itself how far it has come, which may take seconds')
    }
    if (this.#pings >= MOST_PINGS) return
    this.#asked = farthest
    this.#pings++
    send({ type: 'ping', ref: farthest, reach: farthest })
  }
}
