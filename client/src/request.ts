import { WalcastError } from './error.js'
import type { WireOrder } from './order.js'
import type { Place, Subscribed } from './protocol.js'
import { isSql, wireParam } from './sql.js'
import type { AnyQuery, OrderBy } from './types.js'

/** The address of the stream. One of a page, `https://…`, is as good. */
export function addressOf(url: string | URL, numbers: 'text' | 'native' = 'text'): string {
  let address: URL
  try {
    address = new URL(url, (globalThis as { location?: Location }).location?.href)
  } catch {
    throw new WalcastError('bad_url', `${JSON.stringify(String(url))} is no address: it looks like wss://example.com/v1/stream`)
  }
  address.protocol = address.protocol.replace(/^http/, 'ws')
  if (!/^wss?:$/.test(address.protocol)) throw new WalcastError('bad_url', `${String(url)} is no address of a websocket: it begins with wss:// or ws://`)
  if (address.pathname === '/') address.pathname = '/v1/stream'
  if (numbers !== 'native') address.searchParams.set('numbers', 'string')
  address.hash = ''
  return address.href
}

/** The fields of `subscribe` that say what is asked for. */
export interface Fields {
  readonly table: string
  readonly where?: string
  readonly params?: readonly unknown[]
  readonly columns?: readonly string[]
  readonly undecided?: string
  readonly order_by?: readonly WireOrder[]
  readonly limit?: number
  readonly [field: string]: unknown
}

export function fieldsOf({ table, where, params, columns, undecided, orderBy, limit }: AnyQuery): Fields {
  if (isSql(where) && params) throw new WalcastError('bad_request', 'a predicate made by sql`…` has its parameters: leave params out')
  const text = isSql(where) ? where.where : where
  const values = (isSql(where) ? where.params : params) ?? []
  return {
    table,
    ...(text !== undefined && { where: text }),
    ...(values.length > 0 && { params: values.map((value, i) => wireParam(value, `$${i + 1}`)) }),
    // Rows are sorted here: the values that this needs come along.
    ...(columns && { columns: (orderBy ? [...new Set([...columns, ...orderBy.map(({ column }) => column)])] : columns) as readonly string[] }),
    ...(undecided && { undecided }),
    ...(orderBy && { order_by: orderBy.map(wireOrder) }),
    ...(limit !== undefined && { limit }),
  }
}

/** A query as text: equal ones have the same. */
export function identityOf(query: AnyQuery): string {
  const { table, where, params, columns, undecided, order_by, limit } = fieldsOf(query)
  const order = order_by || limit !== undefined ? [order_by, limit] : []
  return JSON.stringify([table, where, params, columns && [...columns].sort(), undecided, ...order])
}

/** Equal orders are spelled alike. */
const wireOrder = ({ column, desc, nulls }: OrderBy<PropertyKey>): WireOrder => ({
  column: column as string,
  ...(desc && { desc }),
  ...(nulls && nulls !== (desc ? 'first' : 'last') && { nulls }),
})

/** The optional parts of the protocol without which a server cannot be asked this. */
export const needsOf = (fields: Readonly<Record<string, unknown>>): readonly string[] => [
  ...('content' in fields ? ['content'] : []),
  ...('order_by' in fields || 'limit' in fields ? ['range'] : []),
]

/** Where a subscription begins. */
export const placeOf = ({ position, now, bound }: Subscribed, epoch: string): Place => ({
  position,
  epoch,
  ...(now !== undefined && { now }),
  ...(bound !== undefined && { bound }),
})

/** The fields of the `subscribe` that goes on from a place: the first rows are looked for no more, their range is known. */
export const goOn = (place: Place, fields: Readonly<Record<string, unknown>>): Record<string, unknown> => {
  const { position, epoch, now, bound } = place
  const { limit: _, ...others } = fields
  return { ...(bound === undefined ? fields : { ...others, bound }), from: position, epoch, ...(now !== undefined && { now }) }
}
