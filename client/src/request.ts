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
    address.protocol = address.protocol.replace(/^http/, 'ws')
    if (!/^wss?:$/.test(address.protocol)) throw address
  } catch {
    throw new WalcastError('bad_url', `${String(url)} is no address of a websocket: it looks like wss://example.com/v1/stream`)
  }
  if (address.pathname === '/') address.pathname = '/v1/stream'
  if (numbers !== 'native') address.searchParams.set('numbers', 'string')
  address.hash = ''
  return address.href
}

/** The fields of `subscribe` that say what is asked for. What is undefined is not sent. */
export interface Fields {
  readonly table?: string
  readonly where?: string | undefined
  readonly order_by?: readonly WireOrder[] | undefined
  readonly limit?: number | undefined
  readonly [field: string]: unknown
}

export function fieldsOf({ table, where, params, columns, undecided, orderBy, limit }: AnyQuery): Fields & { readonly table: string } {
  const isMade = isSql(where)
  if (isMade && params) throw new WalcastError('bad_request', 'a predicate made by sql`…` has its parameters: leave params out')
  const predicate = isMade ? where : { where, params }
  return {
    table,
    where: predicate.where,
    params: predicate.params?.length ? predicate.params.map((value, i) => wireParam(value, `$${i + 1}`)) : undefined,
    // Rows are sorted here: the values that this needs come along.
    columns: columns && [...new Set([...columns, ...(orderBy ?? []).map(({ column }) => column)])],
    undecided,
    order_by: orderBy?.map(wireOrder),
    limit,
  }
}

/** A query as text: equal ones have the same. */
export const identityOf = (query: AnyQuery): string => JSON.stringify(fieldsOf({ ...query, ...(query.columns && { columns: [...query.columns].sort() }) }))

/** Equal orders are spelled alike. */
const wireOrder = ({ column, desc, nulls }: OrderBy<PropertyKey>): WireOrder => ({
  column: column as string,
  desc: desc || undefined,
  nulls: nulls === (desc ? 'first' : 'last') ? undefined : nulls,
})

/** The optional parts of the protocol without which a server cannot be asked this. */
export const needsOf = ({ order_by, limit }: Fields): readonly string[] => (order_by || limit !== undefined ? ['range'] : [])

/** Where a subscription begins. */
export const placeOf = ({ position, now, bound }: Subscribed, epoch: string): Place => ({ position, epoch, now, bound })

/** The fields of the `subscribe` that goes on from a place: the first rows are looked for no more, their range is known. */
export const goOn = ({ position, epoch, now, bound }: Place, fields: Fields): Fields => ({
  ...fields,
  limit: bound === undefined ? fields.limit : undefined,
  bound,
  from: position,
  epoch,
  now,
})
