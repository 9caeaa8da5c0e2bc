/** Why a token is asked for: to connect, because the one in use expires soon or has expired, or was not accepted. */
export type TokenReason = 'connect' | 'expiring' | 'expired' | 'rejected'

/** Gives a token; null where there is none. `signal` aborts when the answer is not needed any more. */
export type TokenProvider = (ask: { readonly reason: TokenReason; readonly signal: AbortSignal }) => string | null | Promise<string | null>

export type Token = string | TokenProvider

/** What a JSON web token says of itself. Nothing is verified: that is the server's. */
export interface Claims {
  /** When it expires, in milliseconds; never if it does not say. */
  readonly expires: number
  /** Whose it is; undefined if it does not say. */
  readonly subject: string | undefined
}

export function claims(token: string): Claims {
  let told: { readonly exp?: number; readonly iss?: unknown; readonly sub?: unknown } = {}
  try {
    told = { ...JSON.parse(atob(token.split('.')[1]!.replace(/-/g, '+').replace(/_/g, '/'))) }
  } catch {
    // It is none.
  }
  const { exp = Infinity, iss, sub } = told
  return { expires: exp * 1000, subject: sub === undefined ? undefined : JSON.stringify([iss, sub]) }
}
