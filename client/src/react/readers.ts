import { type Client, insideOf } from '../client.js'
import { Fold } from '../fold.js'
import type { Dehydrated } from '../index.js'
import { type LiveQuery, makeLiveQuery } from '../query.js'
import type { AnyQuery } from '../types.js'

type AnyLive = LiveQuery<any, any>

const plains = /* @__PURE__ */ new WeakMap<Fold, AnyLive>()
/** How often a client had forgotten what was seen when it was given a result. */
const given = /* @__PURE__ */ new WeakMap<Dehydrated, readonly [number]>()
const firsts = /* @__PURE__ */ new WeakMap<AnyLive, AnyLive>()

/** What belongs to something, made once. */
export function once<K, V>(known: { get(key: K): V | undefined; set(key: K, value: V): unknown }, key: K, make: () => V): V {
  let value = known.get(key)
  if (!value) known.set(key, (value = make()))
  return value
}

/** True if a result is of who is seen still, and not of somebody who has logged out since it was given first. */
export function isOwn(client: Client<any>, result: Dehydrated): boolean {
  const { forgotten } = insideOf(client).results
  return once(given, result, () => [forgotten] as const)[0] === forgotten
}

/** The reader of a query that all share who have no options for it; nobody closes it. */
export function plainOf(client: Client<any>, query: AnyQuery, initial: Dehydrated | undefined): AnyLive {
  const inside = insideOf(client)
  const fold = inside.results.share(query)
  return once(plains, fold, () => makeLiveQuery<any, any>(inside, fold, initial ? { initial } : {}))
}

/** What a query began with, as it was rendered on a server, whatever came since: the same reader each time, which nothing changes. */
export const firstOf = (client: Client<any>, live: AnyLive): AnyLive =>
  once(firsts, live, () => {
    const inside = insideOf(client)
    const { identity, fields } = live.kept
    return makeLiveQuery<any, any>(inside, new Fold(identity, fields, { ...inside, warn: () => {} }), live.options)
  })
