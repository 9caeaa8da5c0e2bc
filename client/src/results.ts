import { guarded } from './error.js'
import { Fold, type Step } from './fold.js'
import type { Inside } from './inside.js'
import type { ClientOptions } from './options.js'
import type { LiveQueryOptions } from './query.js'
import { fieldsOf, identityOf } from './request.js'
import type { Feed } from './session.js'
import type { AnyQuery } from './types.js'

/** Who hears what a result has come to. */
export type Reader = (steps: readonly Step[], fold: Fold) => void

/** Who stores results, and hears of them before their readers do. */
export interface Keeper {
  /** A result is read from now on. */
  claimed(fold: Fold, options: LiveQueryOptions<any, any>): void
  readonly tell: Reader
  clear(): Promise<void>
}

/** The results of a client's queries: who shares which, and when listeners are told. */
export interface Results {
  readonly keeper: Keeper | undefined
  readonly all: readonly Fold[]
  /** How often it has forgotten what was seen: what was given or kept before is of somebody else. */
  readonly forgotten: number
  /** There is something that listeners have not been told of. */
  readonly isDirty: boolean
  /** When `tick` is due. */
  readonly wakeAt: number
  /** Ends subscriptions to what nobody has read for a while. */
  tick(): void
  /** What equal queries share. If nobody reads it, it goes after a while. */
  share(query: AnyQuery): Fold
  /** It is read from now on. Returns the result that it shares, which may be another one than before. */
  claim(reader: Reader, own: Fold, options: LiveQueryOptions<any, any>): Fold
  release(reader: Reader, fold: Fold): void
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

export function makeResults(inside: Inside, { linger = 5000, persist }: ClientOptions<any>): Results {
  const { session, platform, arm, act, use } = inside
  const keeper = persist?.(inside)
  const known = new Map<string, Fold>()
  const dirty = new Set<Fold>()
  let isTelling = false
  let forgotten = 0

  const idleUntil = ({ readers, idleSince }: Fold): number => (readers.size > 0 ? Infinity : idleSince + linger)

  function changed(feed: Feed): void {
    const fold = feed as Fold
    if (known.get(fold.identity) === fold) dirty.add(fold)
  }

  function begin(fold: Fold): void {
    session.add(fold)
    changed(fold)
  }

  function rest(fold: Fold): void {
    fold.idleSince = platform.now()
    arm()
  }

  return {
    keeper,
    get all() {
      return [...known.values()]
    },
    get forgotten() {
      return forgotten
    },
    get isDirty() {
      return dirty.size > 0
    },
    get wakeAt() {
      return Math.min(...[...known.values()].map(idleUntil))
    },

    tick() {
      for (const [identity, fold] of known) {
        if (platform.now() < idleUntil(fold)) continue
        known.delete(identity)
        session.remove(fold)
      }
    },

    share(query) {
      const identity = identityOf(query, inside.sort)
      let fold = known.get(identity)
      if (!fold) {
        fold = new Fold(identity, fieldsOf(query, inside.sort), inside)
        known.set(identity, fold)
        rest(fold)
      }
      return fold
    },

    claim(reader, own, options) {
      const { identity } = own
      const fold = known.get(identity) ?? own
      const { readers } = fold
      known.set(identity, fold)
      if (fold.error && readers.size === 0) fold.revive()
      readers.add(reader)
      keeper?.claimed(fold, options)
      act(() => {
        if (!session.subscriptions.has(fold) && !fold.error) session.add(fold)
        use()
      })
      return fold
    },

    release(reader, fold) {
      fold.readers.delete(reader)
      rest(fold)
    },

    changed,

    tell() {
      if (isTelling) return
      isTelling = true
      while (dirty.size > 0) {
        const news: (readonly [Fold, Step[]])[] = []
        for (const fold of dirty) {
          if (fold.told !== fold.version) news.push([fold, fold.steps.splice(0)])
          fold.told = fold.version
        }
        dirty.clear()
        for (const [fold, steps] of news) for (const reader of [keeper?.tell, ...fold.readers]) guarded(() => reader?.(steps, fold))
      }
      isTelling = false
    },

    begin,

    revive() {
      for (const fold of known.values()) {
        if (!fold.error || fold.readers.size === 0) continue
        fold.revive()
        begin(fold)
      }
    },

    forget() {
      forgotten++
      keeper?.clear().catch(() => {})
      for (const fold of known.values()) {
        fold.forget()
        changed(fold)
      }
    },
  }
}
