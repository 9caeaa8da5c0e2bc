import { type Client, insideOf } from '../client.js'
import { type Fold, makeFold } from '../fold.js'
import type { Dehydrated } from '../index.js'
import { type LiveQuery, makeLiveQuery } from '../query.js'
import type { AnyQuery } from '../types.js'

type AnyLive = LiveQuery<any, any>

const plains = /* @__PURE__ */ new WeakMap<Fold, AnyLive>()
const firsts = /* @__PURE__ */ new WeakMap<AnyLive, AnyLive>()

/** The reader of a query that all share who have no options for it; nobody closes it. */
export function plainOf(client: Client<any>, query: AnyQuery, initial: Dehydrated | undefined): AnyLive {
  const inside = insideOf(client)
  const fold = inside.results.share(query)
  const known = plains.get(fold)
  if (known) return known
  const live = makeLiveQuery<any, any>(inside, fold, initial ? { initial } : {})
  plains.set(fold, live)
  return live
}

/** What a query began with, as it was rendered on a server, whatever came since: the same reader each time, which nothing changes. */
export function firstOf(client: Client<any>, live: AnyLive): AnyLive {
  const known = firsts.get(live)
  if (known) return known
  const inside = insideOf(client)
  const { identity, fields } = live.kept
  const first = makeLiveQuery<any, any>(inside, makeFold(identity, fields, { ...inside, warn: () => {} }), live.options)
  firsts.set(live, first)
  return first
}
