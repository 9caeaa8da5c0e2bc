import { guarded } from './error.js'
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
export class Results {
  readonly keeper: Keeper | undefined
  readonly #inside: Inside
  readonly #shared = new Map<string, SharedResult>()
  /** What listeners have not been told of. */
  readonly #dirty = new Set<SharedResult>()
  #isTelling = false

  constructor(inside: Inside) {
    this.#inside = inside
    this.keeper = inside.options.persist?.(inside)
  }

  get all(): readonly SharedResult[] {
    return [...this.#shared.values()]
  }

  get isDirty(): boolean {
    return this.#dirty.size > 0
  }

  /** When `sweep` is due. */
  get wakeAt(): number {
    return Math.min(...this.all.map((shared) => this.#idleUntil(shared)))
  }

  /** What equal queries share. If nobody reads it, it goes after a while. */
  share(query: AnyQuery): SharedResult {
    const identity = identityOf(query)
    const known = this.#shared.get(identity)
    if (known) return known
    const { decoderFor, warn, now, arm } = this.#inside
    const fields = fieldsOf(query)
    const fold = new Fold(identity, fields, decoderFor, (text) => warn(fields.table, text))
    const shared: SharedResult = { fold, readers: new Set(), idleSince: now(), told: 0 }
    this.#shared.set(identity, shared)
    arm()
    return shared
  }

  /** It is read from now on. Returns the result that it shares, which may be another one than before. */
  claim(query: LiveQuery<any, any>, own: SharedResult): SharedResult {
    const { session, act, use } = this.#inside
    const { identity } = own.fold
    const shared = this.#shared.get(identity) ?? own
    const { fold, readers } = shared
    this.#shared.set(identity, shared)
    if (fold.error && readers.size === 0) fold.revive()
    readers.add(query)
    this.keeper?.claimed(shared, query)
    act(() => {
      if (!session.has(fold) && !fold.error) session.add(fold)
      use()
    })
    return shared
  }

  release(query: LiveQuery<any, any>, shared: SharedResult): void {
    shared.readers.delete(query)
    shared.idleSince = this.#inside.now()
    this.#inside.arm()
  }

  /** Ends subscriptions to what nobody has read for a while. */
  sweep(now: number): void {
    for (const [identity, shared] of this.#shared) {
      if (now < this.#idleUntil(shared)) continue
      this.#shared.delete(identity)
      this.#inside.session.remove(shared.fold)
    }
  }

  #idleUntil({ readers, idleSince }: SharedResult): number {
    return readers.size > 0 ? Infinity : idleSince + (this.#inside.options.linger ?? 5000)
  }

  changed(feeds: readonly Feed[]): void {
    for (const feed of feeds) {
      const shared = feed.isResult && this.#shared.get((feed as Fold).identity)
      if (shared && shared.fold === feed) this.#dirty.add(shared)
    }
  }

  /** Tells listeners what is new. All results have changed before the first of them hears. */
  tell(): void {
    if (this.#isTelling) return
    this.#isTelling = true
    while (this.isDirty) {
      const news: (readonly [SharedResult, Step[]])[] = []
      for (const shared of this.#dirty) {
        const { version, steps } = shared.fold
        if (shared.told !== version) news.push([shared, steps.splice(0)])
        shared.told = version
      }
      this.#dirty.clear()
      for (const [shared, steps] of news) for (const reader of [this.keeper, ...shared.readers]) guarded(() => reader?.tell(steps, shared))
    }
    this.#isTelling = false
  }

  /** Tries again what ended with an error and is still read. */
  revive(): void {
    for (const { fold, readers } of this.all) {
      if (!fold.error || readers.size === 0) continue
      fold.revive()
      this.begin(fold)
    }
  }

  begin(fold: Fold): void {
    this.#inside.session.add(fold)
    this.changed([fold])
  }

  /** Somebody else asks from now on. */
  forget(): void {
    this.keeper?.clear().catch(() => {})
    for (const { fold } of this.all) {
      fold.forget()
      this.changed([fold])
    }
  }
}
