/**
 * A place in the history of a database: a Postgres LSN as text, `16/B374D848`, or a place inside a transaction,
 * `16/B374D848:17`. Positions compare within one epoch only.
 */
export type Position = string

const FORM = /^([0-9a-f]{1,8})\/([0-9a-f]{1,8})(?::(\d+))?$/i

export const isPosition = (text: unknown): text is Position => typeof text === 'string' && FORM.test(text)

/** A text that sorts as the position does: the end of a transaction comes after each change in it. */
const sortable = (position: Position): string => `${position.toUpperCase()}~`.replace(/\w+/g, (part) => part.padStart(16, '0'))

/** Orders positions of one epoch: negative if `a` comes before `b`, 0 if they are the same. */
export function comparePositions(a: Position, b: Position): number {
  const [x, y] = [sortable(a), sortable(b)]
  return x < y ? -1 : Number(x > y)
}

/** The later of two positions of one epoch. */
export const later = (a: Position | undefined, b: Position): Position =>
  a !== undefined && comparePositions(a, b) > 0 ? a : b

/** The end of the transaction that a position lies in. */
export const endOf = (position: Position): Position => position.split(':', 1)[0]!
