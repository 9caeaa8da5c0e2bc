import type { Entry } from './fold.js'
import { lacking } from './features.js'
import type { WalcastError } from './error.js'
import { type WireOrder, comparison } from './order.js'
import type { Column, Hello } from './protocol.js'
import type { Fields } from './request.js'
import type { AnyQuery, OrderBy } from './types.js'

/** What a client needs for queries with `orderBy` and `limit`. */
export interface Sort {
  /** The fields of `subscribe` that say so. */
  fieldsOf(query: AnyQuery): Pick<Fields, 'columns' | 'order_by' | 'limit'>
  /** What the server does not know; undefined if it can be asked. */
  lacking(fields: Fields, hello: Hello): WalcastError | undefined
  /** Sorts rows; undefined if they have no order. */
  sorter(fields: Fields, columns: readonly Column[], warn: (text: string) => void): ((entries: Entry[]) => Entry[]) | undefined
}

/** Equal orders are spelled alike. */
const wireOrder = ({ column, desc, nulls }: OrderBy<PropertyKey>): WireOrder => ({
  column: column as string,
  desc: desc || undefined,
  nulls: nulls === (desc ? 'first' : 'last') ? undefined : nulls,
})

export const orderOf: Sort['fieldsOf'] = ({ columns, orderBy, limit }) => ({
  // Rows are sorted here: the values that this needs come along.
  columns: columns && [...new Set([...columns, ...(orderBy ?? []).map(({ column }) => column)])],
  order_by: orderBy?.map(wireOrder),
  limit,
})

/** Has a client sort the rows of queries with `orderBy`, and ask for the first ones: `createClient(url, { sort })`. */
export const sort: Sort = {
  fieldsOf: orderOf,
  lacking: ({ order_by, limit }, hello) => lacking(order_by || limit !== undefined ? ['range'] : [], hello),
  sorter({ order_by }, columns, warn) {
    if (!order_by) return undefined
    const compare = comparison(order_by, columns, warn)
    return (entries) => entries.sort((a, b) => compare(a.raw, b.raw))
  },
}
