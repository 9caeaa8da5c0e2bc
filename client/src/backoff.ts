export interface BackoffOptions {
  /** The longest first delay in milliseconds, 500 unless said otherwise. */
  readonly first?: number
  /** The longest delay in milliseconds, 30,000 unless said otherwise. */
  readonly most?: number
}

/**
 * The delay before the next attempt after `attempts` that failed: anything up to twice as much each time (full jitter), so
 * that clients which lost a server together do not come back together.
 */
export const backoff = (attempts: number, random: number, { first = 500, most = 30_000 }: BackoffOptions = {}): number =>
  Math.min(most, first * 2 ** Math.min(attempts, 30)) * random
