import type { Client } from './client.js'
import type { WalcastError } from './error.js'
import type { Tap } from './inspect.js'
import type { Link } from './link.js'
import type { Column, Frame } from './protocol.js'
import type { Results } from './results.js'
import type { Session } from './session.js'
import type { Platform } from './socket.js'
import type { Sort } from './sort.js'
import type { Decode } from './values.js'

/** Who waits until the queries have come as far as their own writes. */
export interface Waits {
  /** Takes a message if it is about a wait. */
  receive(frame: Frame): boolean
  /** What is live is complete up to a later place. */
  advanced(): void
  rejectAll(error: WalcastError): void
}

/** What a client has for its own parts, and for the functions and adapters of this package. Its type hides it from the application. */
export interface Inside extends Client<any> {
  /** The address of the stream. */
  readonly address: string
  /** How rows with an order are sorted. */
  sort: Sort | undefined
  readonly platform: Platform
  readonly link: Link
  readonly session: Session
  readonly results: Results
  /** Once somebody has waited. */
  waits?: Waits
  /** While somebody inspects the client. */
  tap?: Tap | undefined
  /** Why there is no connection, and will be none by itself. */
  readonly failure: WalcastError | undefined
  send(message: Record<string, unknown>): void
  /** Does something, and then what follows from it: listeners, waits, the next timer. */
  act(work: () => void): void
  /** Sets the next timer. */
  arm(): void
  /** Somebody needs the connection. */
  use(): void
  decoderFor(table: string, columns: readonly Column[]): Decode
  /** Says what is odd about a table, or about the connection if the name is empty: each text once. */
  warn(table: string, text: string): void
}
