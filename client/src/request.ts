import { WalcastError } from './error.js'
import type { WireOrder } from './order.js'
import type { Place, Subscribed } from './protocol.js'
import type { Sort } from './sort.js'
import { isSql, wireParam } from './sql.js'
import type { AnyQuery } from './types.js'

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

/** What is asked for; with an order, `sort` knows how. */
export function fieldsOf(query: AnyQuery, sort?: Pick<Sort, 'fieldsOf'>): Fields & { readonly table: string } {
  const { table, where, params, columns, undecided, orderBy, limit } = query
  const isMade = isSql(where)
  if (isMade && params) throw new WalcastError('bad_request', 'a predicate made by sql`…` has its parameters: leave params out')
  if ((orderBy ?? limit) !== undefined && !sort) throw new WalcastError('unsupported', 'this client sorts no rows: import sort from @walcast/client, and createClient(url, { sort })')
  const predicate = isMade ? where : { where, params }
  return {
    table,
    where: predicate.where,
    params: predicate.params?.length ? predicate.params.map((value, i) => wireParam(value, `$${i + 1}`)) : undefined,
    columns,
    undecided,
    ...sort?.fieldsOf(query),
  }
}

/** A query as text: equal ones have the same. */
export const identityOf = (query: AnyQuery, sort?: Sort): string =>
  JSON.stringify(fieldsOf({ ...query, ...(query.columns && { columns: [...query.columns].sort() }) }, sort))

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
