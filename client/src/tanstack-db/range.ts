import type { LoadSubsetOptions } from '@tanstack/db'
import type { Kept, OrderBy } from '../index.js'
import { shortType } from '../values.js'
import { type Expression, columnName } from './predicate.js'

/** The first rows of an order, and the range that they span. */
export interface Range {
  /** The most significant column of the order alone: a collection counts as one what ties in it. */
  readonly order: OrderBy
  readonly limit: number
  /** Beyond a value of the column, if it is a further page. What ties with that is in the one before. */
  readonly cursor?: Expression
}

/** The server lets a range begin with 10,000 rows; more may be asked for than are wanted. */
const MOST_ROWS = 9000

/** The range that a subset asks for, if the server can be asked for it. */
export function rangeOf({ orderBy, limit = 0, offset = 0, cursor }: LoadSubsetOptions, local: readonly string[]): Range | undefined {
  const [first] = orderBy ?? []
  const column = first && columnName(first.expression as Expression, local)
  // A page that begins at a cursor has its own rows alone.
  const rows = limit + (cursor ? 0 : offset)
  if (column === undefined || !limit || rows > MOST_ROWS || first!.compareOptions.stringSort !== 'lexical') return undefined
  const { direction, nulls } = first!.compareOptions
  return {
    order: { column, desc: direction === 'desc', nulls },
    limit: rows,
    ...(cursor && { cursor: cursor.whereFrom as Expression }),
  }
}

/** Types whose values a collection orders as Postgres does, as they come or (int8) as what parsers make of them. */
const SAME_ORDER = /^(int[248]|oid|float[48]|bool|uuid|date|time|timestamp|timestamptz|text|varchar|name)$/

/** Whether the collection has the rows of a result in the order of the server: then those up to the bound are the first ones there, too. */
export function isSameOrder({ columns, entries, shown }: Kept, { order: { column } }: Range): boolean {
  const type = shortType(columns.find(({ name }) => name === column)?.type ?? '')
  if (!SAME_ORDER.test(type)) return false
  const [bound] = shown?.bound ?? []
  // The server orders texts by code points, a collection by units of UTF-16. Up to a text without surrogates both have the same.
  if (/[\ud800-\uffff]/.test(String(bound))) return false
  return entries.every(({ raw, row }) => {
    const value = row[column]
    return /^(int8|float)/.test(type) ? value === null || (typeof value !== 'string' && String(value) === String(raw[column])) : value === raw[column]
  })
}
