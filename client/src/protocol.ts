/** The messages of docs/protocol.md as types. What a server sends beyond them is ignored: the protocol may grow. */
import type { Position } from './position.js'
import type { Row } from './values.js'

export interface Column {
  readonly name: string
  /** As `format_type` prints it. */
  readonly type: string
}

export interface WireChange {
  readonly id: string
  readonly seq: number
  readonly op: 'insert' | 'update' | 'delete' | 'truncate' | 'message'
  readonly row?: Row
  readonly key?: Row
  readonly new_key?: Row
  readonly old?: Row
  readonly cause?: 'update'
  readonly unchanged?: readonly string[]
  readonly undecided?: true
  readonly as_before?: true
  readonly oversize?: true
  readonly content?: string | null
  readonly encoding?: 'hex'
}

export interface Hello {
  readonly type: 'hello'
  readonly protocol: number
  readonly server: string
  readonly database: string
  readonly epoch: string
  readonly position: Position
  readonly earliest: Position
  /** Optional parts of the protocol that this server knows. */
  readonly features?: readonly string[]
  readonly limits?: Readonly<Record<string, number>>
}

export interface Subscribed {
  readonly type: 'subscribed'
  readonly id: string
  readonly position: Position
  readonly key: readonly string[]
  readonly columns: readonly Column[]
  readonly replica_identity: string
  readonly now?: string
  /** Of an order: what its columns are in the last of the first rows; null if the range is everything. */
  readonly bound?: readonly unknown[] | null
  readonly warnings: readonly string[]
}

export interface Tx {
  readonly type: 'tx'
  readonly position: Position
  readonly xid: number
  readonly ts: string
  readonly changes: readonly WireChange[]
  readonly more?: true
  readonly id?: string
}

export interface ErrorFrame {
  readonly type: 'error'
  readonly code: string
  readonly message: string
  readonly id?: string
  readonly offset?: number
  readonly limit?: string
  readonly retry_after_ms?: number
  readonly ref?: unknown
}

export type Frame =
  | Hello
  | Subscribed
  | Tx
  | ErrorFrame
  | { readonly type: 'snapshot'; readonly id: string; readonly rows: readonly Row[] }
  | { readonly type: 'live'; readonly id: string; readonly position: Position }
  | { readonly type: 'progress'; readonly position: Position }
  | { readonly type: 'unsubscribed'; readonly id: string }
  | { readonly type: 'pong'; readonly ref?: unknown; readonly position?: Position }
  | { readonly type: 'token_expiring'; readonly expires: string }

/** Where a reader stands: with it, a subscription goes on without a gap. */
export interface Place {
  readonly position: Position
  readonly epoch: string
  /** What `now()` is in the predicate, if it asks for the time. */
  readonly now?: string | undefined
  /** Where the range of a query with an order ends: what the order's columns are there; null if nowhere. */
  readonly bound?: readonly unknown[] | null | undefined
}
