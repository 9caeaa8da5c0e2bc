import { guarded } from './error.js'
import { type EntryChange, Fold } from './fold.js'
import type { Inside } from './inside.js'
import { type Dehydrated, LiveQuery } from './query.js'
import { fieldsOf, identityOf } from './request.js'
import type { Feed } from './session.js'
import type { AnyQuery } from './types.js'

/** One of a client's results, which several readers of an equal query share. */
export interface SharedResult {
  readonly fold: Fold
  readonly readers: Set<LiveQuery<any, any>>
  /** The reader without options, for those who share one. */
  plain?: LiveQuery<any, any>
  /** Nobody has read it since then. */
  idleSince: number
  /** The version that listeners were told of. */
  told: number
  /** Undefined: it is not stored. 0: as it was told; more: the next steps, all but one of that number, are there. NaN: something else is there. */
  stored?: number
}

/** The results of a client's queries: who shares which, when listeners are told, and what is stored. */
export class Results {
  readonly #inside: Inside
  readonly #shared = new Map<string, SharedResult>()
  /** What listeners have not been told of. */
  readonly #dirty = new Set<SharedResult>()
  #isTelling = false
  #cleared = 0

  constructor(inside: Inside) {
    this.#inside = inside
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
    const inside = this.#inside
    const fields = fieldsOf(query)
    const fold = new Fold(identity, fields, inside.decoderFor, (text) => inside.warn(fields.table, text))
    const shared: SharedResult = { fold, readers: new Set(), idleSince: inside.now(), told: 0 }
    this.#shared.set(identity, shared)
    inside.arm()
    return shared
  }

  /** The reader of a query that all share who have no options for it; nobody may close it. For the adapters of frameworks. */
  plain(query: AnyQuery, initial: Dehydrated | undefined): LiveQuery<any, any> {
    const shared = this.share(query)
    return (shared.plain ??= new LiveQuery(this.#inside, shared, initial ? { initial } : {}))
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
    if (query.isStored) this.#load(shared)
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
      const told = [...this.#dirty].filter((shared) => shared.told !== shared.fold.version)
      this.#dirty.clear()
      const diffs = told.map(({ fold }) => fold.diff())
      for (const shared of told) shared.told = shared.fold.version
      told.forEach((shared, i) => {
        guarded(() => this.#save(shared, diffs[i]!))
        for (const reader of [...shared.readers]) guarded(() => reader.tell(diffs[i]!))
      })
    }
    this.#isTelling = false
  }

  /** Tries again what ended with an error and is still read. */
  revive(): void {
    for (const { fold, readers } of this.all) {
      if (!fold.error || readers.size === 0) continue
      fold.revive()
      this.#begin(fold)
    }
  }

  /** Has a result begin anew. */
  restart(identity: string): void {
    const { session } = this.#inside
    const { fold } = this.#shared.get(identity) ?? {}
    if (!fold || !session.has(fold)) return
    session.remove(fold)
    fold.restart()
    this.#begin(fold)
  }

  #begin(fold: Fold): void {
    this.#inside.session.add(fold)
    this.changed([fold])
  }

  /** Somebody else asks from now on. */
  forget(): void {
    void this.clear().catch(() => {})
    for (const { fold } of this.all) {
      fold.forget()
      this.changed([fold])
    }
  }

  /** Forgets what is stored. */
  async clear(): Promise<void> {
    this.#cleared++
    for (const shared of this.all) if (shared.stored !== undefined) shared.stored = NaN
    await this.#inside.options.persist?.clear()
  }

  /** Looks once whether a result is stored. */
  #load(shared: SharedResult): void {
    const { options, session, address, act } = this.#inside
    const { persist } = options
    const { fold } = shared
    if (!persist || shared.stored !== undefined) return
    shared.stored = NaN
    if (fold.filled || session.has(fold)) return
    const cleared = this.#cleared
    const take = (stored?: Dehydrated): void =>
      act(() => {
        fold.isLoading = false
        if (stored && cleared === this.#cleared && fold.load(stored)) {
          shared.stored = fold.steps + 1
          this.changed([fold])
        }
        session.loaded(fold)
      })
    fold.isLoading = true
    persist.load(address + fold.identity).then(take, () => take())
  }

  #save(shared: SharedResult, steps: readonly (readonly EntryChange[])[]): void {
    const { fold, stored } = shared
    const { options, session, address } = this.#inside
    const { persist } = options
    if (!persist || stored === undefined) return
    const isKnown = !Number.isNaN(stored)
    const news = isKnown && fold.shown ? steps.slice(stored && stored - 1) : undefined
    // Nothing new; or nothing there, neither here.
    if (fold.shown ? stored === 0 && news!.length === 0 : !isKnown) return
    shared.stored = fold.shown ? 0 : NaN
    persist.save(address + fold.identity, fold, news, () => {
      const position = shared.told === fold.version ? session.standing(fold) : undefined
      return position === undefined ? undefined : { ...fold.shown!, position }
    })
  }
}
