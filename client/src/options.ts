import type { BackoffOptions } from './backoff.js'
import type { Persistence } from './query.js'
import type { Sharing, SocketClass } from './socket.js'
import type { Sort } from './sort.js'
import type { Token } from './token.js'
import type { AnySchema, SchemaOf } from './types.js'
import type { DecoderFor } from './values.js'

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
  /** What makes values of what came: `parsers` of this package. */
  readonly parsers?: DecoderFor
  /** For queries with `orderBy` and `limit`: `sort` of this package. A page without such queries does without. */
  readonly sort?: Sort
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
