import type { Dehydrated, EntryChange, Kept, Persistence, Place } from '../index.js'
import type { Fold } from '../fold.js'
import { standing } from '../session.js'

/** Where results are stored. Whatever fails, the client goes on without it. */
export interface Store {
  /** What is stored under a name; undefined if there is nothing. */
  load(name: string): Promise<Dehydrated | undefined>
  /**
   * A result has changed: by these steps, or to whatever it is now. `place` tells where it stands when that is asked, which
   * may be beyond what changed last.
   */
  save(name: string, result: Kept, steps: readonly (readonly EntryChange[])[] | undefined, place: () => Place | undefined): void
  clear(): Promise<void>
}

/** Has a client keep its results in a store. */
export const keep =
  (store: Store): Persistence =>
  (inside) => {
    const { address, session, act } = inside
    /** Of results that are stored, 0: as it was told; more: the next steps, all but one of that number, are there. -1: something else is there. */
    const stored = new WeakMap<Fold, number>()
    let cleared = 0
    return {
      claimed(fold, { persist }) {
        if (persist === false || stored.has(fold)) return
        stored.set(fold, -1)
        if (fold.filled || session.subscriptions.has(fold)) return
        const before = cleared
        const take = (found?: Dehydrated): void =>
          act(() => {
            fold.isLoading = false
            if (found && before === cleared && fold.load(found)) {
              stored.set(fold, fold.steps.length + 1)
              inside.results.changed(fold)
            }
            if (session.subscriptions.has(fold)) session.add(fold)
          })
        fold.isLoading = true
        store.load(address + fold.identity).then(take, () => take())
      },

      tell(steps, fold) {
        const { shown } = fold
        const before = stored.get(fold)
        if (before === undefined) return
        const isKnown = before >= 0
        const news = isKnown && shown ? steps.slice(before && before - 1) : undefined
        // Nothing new; or nothing there, neither here.
        if (shown ? before === 0 && news!.length === 0 : !isKnown) return
        stored.set(fold, shown ? 0 : -1)
        const place = (): Place | undefined => {
          const position = fold.told === fold.version ? standing(session, fold) : undefined
          return position ? { ...fold.shown!, position } : undefined
        }
        store.save(address + fold.identity, fold, news?.map(({ changes }) => changes), place)
      },

      async clear() {
        cleared++
        for (const fold of inside.results.all) if (stored.has(fold)) stored.set(fold, -1)
        await store.clear()
      },
    }
  }
