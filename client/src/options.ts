import type { BackoffOptions } from './backoff.js'
import type { WalcastError } from './error.js'
import type { Status } from './fold.js'
import type { Position } from './position.js'
import type { Place } from './protocol.js'
import type { Persistence } from './query.js'
import type { Sharing, SocketClass } from './socket.js'
import type { Token } from './token.js'
import type { AnySchema, SchemaOf } from './types.js'
import type { Parsers } from './values.js'

export interface Warning {
  /** The table that it is about; empty if it is about none. */
  readonly table: string
  readonly text: string
}

export interface ClientOptions<S = AnySchema> {
  /** What `walcast types` wrote: rows get its types, and a warning says where the database has others by now. */
  readonly schema?: SchemaOf<S>
  /** A token, or what gives one whenever one is needed. */
  readonly token?: Token
  /** `bigint` and `numeric` as text, which loses nothing and is the default, or as numbers of JavaScript. */
  readonly numbers?: 'text' | 'native'
  readonly parsers?: Parsers
  /** How often listeners are told: once for each picture (`frame`, the default) or after each transaction. */
  readonly batch?: 'frame' | 'transaction'
  /** Milliseconds that a query which nobody reads stays subscribed, 5000. */
  readonly linger?: number
  /** Where results are stored, for when the page comes again. */
  readonly persist?: Persistence
  /** Has the tabs of an application share one connection: `tabs` of `@walcast/client/tabs`. */
  readonly share?: Sharing
  /** When to connect: with the first query (`first-use`, the default), `now`, or by `connect()` alone. */
  readonly connect?: 'first-use' | 'now' | 'manual'
  readonly backoff?: BackoffOptions
  /** The class of sockets, where there is no `globalThis.WebSocket`. */
  readonly webSocket?: SocketClass
  /** Gets warnings, each text once; `console.warn` unless said otherwise. */
  readonly onWarning?: (warning: Warning) => void
}

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

/** A message that an application wrote with `pg_logical_emit_message`. */
export interface Message {
  readonly position: Position
  /** 0 if it was written outside of a transaction. */
  readonly xid: number
  /** Null if it is larger than the server sends; `\x…` if it is no text (`encoding`). */
  readonly content: string | null
  readonly encoding?: 'hex'
}
