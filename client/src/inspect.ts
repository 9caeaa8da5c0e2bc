import { type Client, insideOf } from './client.js'
import { type WalcastError, guarded } from './error.js'
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
  const inside = insideOf(client)
  const { address, link, session, results, act } = inside
  // The same function may listen twice.
  const own: typeof listener = (type, text) => listener(type, text)
  const { listeners } = (inside.tap ??= tap())
  listeners.add(own)
  return {
    address,
    get queries() {
      return results.all.map((fold) => {
        const { identity, fields, status, error, shown, entries, readers } = fold
        return { identity, fields, status, error, place: shown, rows: entries.length, listeners: readers.size, at: standing(session, fold) }
      })
    },
    drop: () => act(() => link.closed(1006, 'dropped')),
    forget: (identity) =>
      act(() => {
        const fold = results.all.find((fold) => fold.identity === identity)
        if (!fold || !session.subscriptions.has(fold)) return
        session.remove(fold)
        fold.restart()
        results.begin(fold)
      }),
    end() {
      // Once: the next one who inspects may have another tap by now.
      if (listeners.delete(own) && listeners.size === 0) inside.tap = undefined
    },
  }
}

/** Hears every message. */
export interface Tap {
  (type: 'sent' | 'received', text: string): void
  readonly listeners: Set<(type: 'sent' | 'received', text: string) => void>
}

function tap(): Tap {
  const listeners: Tap['listeners'] = new Set()
  const tell = (type: 'sent' | 'received', text: string): void => {
    for (const listener of listeners) guarded(() => listener(type, text))
  }
  return Object.assign(tell, { listeners })
}
