/** The console's address: place, table, predicate and order, so that a link shows a colleague the same. */

export const PLACES = ['query', 'stream', 'health', 'clients', 'tables'] as const
export type Place = (typeof PLACES)[number]

/** `key` and `newest` are orders of their own; otherwise a column. */
export interface Order {
  readonly by: 'key' | 'newest' | { readonly column: string }
  readonly desc: boolean
}

export interface Address {
  readonly place: Place
  readonly source?: string | undefined
  readonly table?: string | undefined
  readonly where?: string | undefined
  readonly order?: Order | undefined
  /** Of Stream: which changes. */
  readonly ops?: string | undefined
  readonly xid?: string | undefined
}

/** Stands behind the `#`: browsers do not send that to any server, and a predicate may name what is private. */
export function parseAddress(hash: string): Address {
  const [path = '', search = ''] = hash.replace(/^#\/?/, '').split(/\?(.*)/s)
  const place = PLACES.find((name) => name === path) ?? 'query'
  const given = new URLSearchParams(search)
  const text = (name: string): string | undefined => given.get(name) || undefined
  const sort = text('sort')
  return { place, source: text('source'), table: text('table'), where: text('where'), order: sort ? parseOrder(sort) : undefined, ops: text('ops'), xid: text('xid') }
}

export function printAddress({ place, source, table, where, order, ops, xid }: Address): string {
  const given = new URLSearchParams()
  for (const [name, value] of Object.entries({ source, table, where, sort: order && printOrder(order), ops, xid })) if (value) given.set(name, value)
  const search = given.toString()
  return `#${place}${search && `?${search}`}`
}

/** `key`, `-key`, `newest`, `column:amount`, `-column:amount`. */
function parseOrder(text: string): Order {
  const desc = text.startsWith('-')
  const name = desc ? text.slice(1) : text
  if (name.startsWith('column:')) return { by: { column: name.slice(7) }, desc }
  return { by: name === 'newest' ? 'newest' : 'key', desc }
}

function printOrder({ by, desc }: Order): string | undefined {
  const name = typeof by === 'object' ? `column:${by.column}` : by
  return name === 'key' && !desc ? undefined : `${desc ? '-' : ''}${name}`
}
