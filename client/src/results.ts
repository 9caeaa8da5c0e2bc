import { WalcastError, guarded } from './error.js'
import { Fold, type Step } from './fold.js'
import type { Inside } from './inside.js'
import type { LiveQuery } from './query.js'
import { fieldsOf, identityOf } from './request.js'
import type { Feed } from './session.js'
import type { AnyQuery } from './types.js'

/** One of a client's results, which several readers of an equal query share. */
export interface SharedResult {
  readonly fold: Fold
  readonly readers: Set<LiveQuery<any, any>>
  /** Nobody has read it since then. */
  idleSince: number
  /** The version that listeners were told of. */
  told: number
}

/** Who stores results, and hears of them before their readers do. */
export interface Keeper {
  /** A result is read from now on. */
  claimed(shared: SharedResult, query: LiveQuery<any, any>): void
  tell(steps: readonly Step[], shared: SharedResult): void
  clear(): Promise<void>
}

/** The results of a client's queries: who shares which, and when listeners are told. */
export interface Results {
  readonly keeper: Keeper | undefined
  readonly all: readonly SharedResult[]
  /** There is something that listeners have not been told of. */
  readonly isDirty: boolean
  /** When `tick` is due. */
  readonly wakeAt: number
  /** Ends subscriptions to what nobody has read for a while. */
  tick(): void
  /** What equal queries share. If nobody reads it, it goes after a while. */
  share(query: AnyQuery): SharedResult
  /** It is read from now on. Returns the result that it shares, which may be another one than before. */
  claim(query: LiveQuery<any, any>, own: SharedResult): SharedResult
  release(query: LiveQuery<any, any>, shared: SharedResult): void
  changed(feed: Feed): void
  /** Tells listeners what is new. All results have changed before the first of them hears. */
  tell(): void
  /** Subscribes to it. */
  begin(fold: Fold): void
  /** Tries again what ended with an error and is still read. */
  revive(): void
  /** Somebody else asks from now on. */
  forget(): void
}

export function makeResults(inside: Inside): Results {
  const { session, options, now, arm, act, use } = inside
  const { linger = 5000 } = options
  const keeper = options.persist?.(inside)
  const known = new Map<string, SharedResult>()
  const dirty = new Set<SharedResult>()
  let isTelling = false

  const idleUntil = ({ readers, idleSince }: SharedResult): number => (readers.size > 0 ? Infinity : idleSince + linger)

  function changed(feed: Feed): void {
    const shared = feed.isResult && known.get((feed as Fold).identity)
    if (shared && shared.fold === feed) dirty.add(shared)
  }

  function begin(fold: Fold): void {
    session.add(fold)
    changed(fold)
  }

  return {
    keeper,
    get all() {
      return [...known.values()]
    },
    get isDirty() {
      return dirty.size > 0
    },
    get wakeAt() {
      return Math.min(...[...known.values()].map(idleUntil))
    },

    tick() {
      for (const [identity, shared] of known) {
        if (now() < idleUntil(shared)) continue
        known.delete(identity)
        session.remove(shared.fold)
      }
    },

    share(query) {
      const identity = identityOf(query)
      let shared = known.get(identity)
      if (!shared) {
        const fields = fieldsOf(query)
        if (fields.order_by && !inside.sort) throw new WalcastError('unsupported', 'rows have no order here: createClient(url, { sort }) with `import { sort } from "@walcast/client"`')
        const fold = new Fold(identity, fields, inside)
        shared = { fold, readers: new Set(), idleSince: now(), told: 0 }
        known.set(identity, shared)
        arm()
      }
      return shared
    },

    claim(query, own) {
      const { identity } = own.fold
      const shared = known.get(identity) ?? own
      const { fold, readers } = shared
      known.set(identity, shared)
      if (fold.error && readers.size === 0) fold.revive()
      readers.add(query)
      keeper?.claimed(shared, query)
      act(() => {
        if (!session.subscriptions.has(fold) && !fold.error) session.add(fold)
        use()
      })
      return shared
    },

    release(query, shared) {
      shared.readers.delete(query)
      shared.idleSince = now()
      arm()
    },

    changed,

    tell() {
      if (isTelling) return
      isTelling = true
      while (dirty.size > 0) {
        const news: (readonly [SharedResult, Step[]])[] = []
        for (const shared of dirty) {
          const { version, steps } = shared.fold
          if (shared.told !== version) news.push([shared, steps.splice(0)])
          shared.told = version
        }
        dirty.clear()
        for (const [shared, steps] of news) for (const reader of [keeper, ...shared.readers]) guarded(() => reader?.tell(steps, shared))
      }
      isTelling = false
    },

    begin,

    revive() {
      for (const { fold, readers } of known.values()) {
        if (!fold.error || readers.size === 0) continue
        fold.revive()
        begin(fold)
      }
    },

    forget() {
      keeper?.clear().catch(() => {})
      for (const { fold } of known.values()) {
        fold.forget()
        changed(fold)
      }
    },
  }
}
