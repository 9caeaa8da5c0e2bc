/** The codes of the protocol (docs/protocol.md), and those of the client itself in the last line. */
export type ErrorCode =
  | 'bad_request' | 'bad_predicate' | 'unknown_table' | 'unknown_column' | 'duplicate_id' | 'unknown_id'
  | 'replica_identity' | 'resume_expired' | 'resume_invalid' | 'schema_changed' | 'limit_exceeded' | 'rate_limited'
  | 'unauthenticated' | 'token_expired' | 'forbidden' | 'database_refused' | 'internal'
  | 'closed' | 'timeout' | 'unsupported' | 'bad_url' | 'bad_token' | 'bad_value' | 'bad_frame' | 'refused'
  | (string & {})

/** What the server or the client refused, and why. `message` is for people: it says what is wrong and what to do. */
export class WalcastError extends Error {
  override readonly name = 'WalcastError'
  /** Whether the same may work later, without a change of the query or of the database. */
  declare readonly retryable: boolean
  /** The place in `query` that the error is about, as an index of the text. */
  declare readonly offset?: number
  /** The predicate, as it was sent. */
  declare readonly query?: string
  declare readonly code: ErrorCode
  declare readonly details: Record<string, unknown>

  constructor(code: ErrorCode, message: string, details: Record<string, unknown> = {}, where?: string | undefined) {
    const { offset } = details
    // The server counts the bytes of UTF-8, JavaScript its own units of 16 bits.
    const before = where !== undefined && typeof offset === 'number' ? new TextDecoder().decode(new TextEncoder().encode(where).subarray(0, offset)) : undefined
    super(before === undefined ? message : `${message}\n${caret(where!, before)}`)
    const retryable = isBusy(code, details) || code === 'closed' || code === 'timeout'
    Object.assign(this, { code, details, retryable, query: where, offset: before?.length })
  }
}

/** Errors that say: not now. The same subscription may be asked for again in a while. */
export const isBusy = (code: ErrorCode, details: Record<string, unknown>): boolean =>
  code === 'internal' || code === 'rate_limited' || /^(subject_)?snapshots$/.test(String(details.limit))

/** What was thrown, as a `WalcastError`. */
export const asError = (code: ErrorCode, thrown: unknown, what: string): WalcastError =>
  isError(thrown) ? thrown : new WalcastError(code, `${what}: ${(thrown as Error | undefined)?.message ?? String(thrown)}`)

/** By its name, since an application may have two copies of this package. */
const isError = (thrown: unknown): thrown is WalcastError => (thrown as Error | undefined)?.name === 'WalcastError'

/** The line that holds the place, with a mark below. */
function caret(text: string, before: string): string {
  const start = before.lastIndexOf('\n') + 1
  const line = text.slice(start).split('\n', 1)[0]!
  return `  ${line}\n  ${before.slice(start).replace(/[^\t]/gu, ' ')}^`
}

/** The client was closed, or nobody is logged in any more: what was asked of it is no more. */
export const closed = (message = 'the client was closed'): WalcastError => new WalcastError('closed', message)

/** Does what is the application's. What that throws is for the application to see, and no reason for others not to hear. */
export function guarded(run: () => void): void {
  try {
    run()
  } catch (error) {
    const { reportError = console.error } = globalThis
    reportError(error)
  }
}

/** What the server sends does not fit to what was there before. */
export const misfit = (): WalcastError => new WalcastError('schema_changed', 'the columns of the table are others now')
