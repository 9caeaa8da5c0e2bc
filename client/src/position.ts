/**
 * A place in the history of a database: a Postgres LSN as text, `16/B374D848`, or a place inside a transaction,
 * `16/B374D848:17`. Positions compare within one epoch only.
 */
export type Position = string

const FORM = /^([0-9a-f]{1,8})\/([0-9a-f]{1,8})(?::(\d+))?$/i

export const isPosition = (text: unknown): text is Position => typeof text === 'string' && FORM.test(text)

/** The halves of the LSN, and the change inside of the transaction; its end comes after every change. */
function parts(position: Position): readonly [number, number, number] {
  const [high = '', low = '', seq = Infinity] = position.split(/[/:]/)
  return [parseInt(high, 16), parseInt(low, 16), Number(seq)]
}

/** Orders positions of one epoch: negative if `a` comes before `b`, 0 if they are the same. */
export function comparePositions(a: Position, b: Position): number {
  const [x, y] = [parts(a), parts(b)]
  return x[0] - y[0] || x[1] - y[1] || (x[2] === y[2] ? 0 : x[2] - y[2])
}

/** The later of two positions of one epoch. */
export const later = (a: Position | undefined, b: Position): Position =>
  a !== undefined && comparePositions(a, b) > 0 ? a : b

/** The end of the transaction that a position lies in. */
export const endOf = (position: Position): Position => position.split(':', 1)[0]!
