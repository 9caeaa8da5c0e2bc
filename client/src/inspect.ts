import { type Client, insideOf } from './client.js'
import type { WalcastError } from './error.js'
import type { Status } from './fold.js'
import type { Position } from './position.js'
import type { Place } from './protocol.js'
import { standing } from './session.js'

/** What a tool sees of a client, and can do to it. */
export interface Inspection {
  /** The address of the stream. */
  readonly address: string
  readonly queries: readonly {
    readonly identity: string
    readonly fields: Readonly<Record<string, unknown>>
    readonly status: Status
    readonly error: WalcastError | undefined
    /** Where the rows changed last. */
    readonly place: Place | undefined
    /** Up to where they are complete; undefined if they are not live. */
    readonly at: Position | undefined
    readonly rows: number
    readonly listeners: number
  }[]
  /** Loses the connection, which comes back as after any loss. */
  drop(): void
  /** Has a query begin anew. */
  forget(identity: string): void
  end(): void
}

/** For tools that show what a client does: `@walcast/client/devtools` is one. Costs nothing while nobody listens. */
export function inspect(client: Client<any>, listener: (type: 'sent' | 'received', text: string) => void): Inspection {
  const { address, link, session, results, inspectors, act } = insideOf(client)
  // The same function may listen twice.
  const own: typeof listener = (type, text) => listener(type, text)
  inspectors.add(own)
  return {
    address,
    get queries() {
      return results.all.map(({ fold, readers }) => {
        const { identity, fields, status, error, shown, entries } = fold
        return { identity, fields, status, error, place: shown, rows: entries.length, listeners: readers.size, at: standing(session, fold) }
      })
    },
    drop: () => act(() => link.closed(1006, 'dropped')),
    forget: (identity) =>
      act(() => {
        const fold = results.all.map(({ fold }) => fold).find((fold) => fold.identity === identity)
        if (!fold || !session.subscriptions.has(fold)) return
        session.remove(fold)
        fold.restart()
        results.begin(fold)
      }),
    end: () => void inspectors.delete(own),
  }
}
