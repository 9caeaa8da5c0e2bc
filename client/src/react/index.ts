/** Live queries in React: hooks that render with each change, and on servers. */
import { type Context, type FunctionComponent, type ReactNode, createContext, createElement, useCallback, useContext, useEffect, useMemo, useRef, useSyncExternalStore } from 'react'
import { type Client, insideOf } from '../client.js'
import { Fold, keyText } from '../fold.js'
import type { AnySchema, Connection, Dehydrated, Kept } from '../index.js'
import { type LiveQuery, type LiveQueryOptions, NOTHING, type QueryState, makeLiveQuery, onRow } from '../query.js'
import { identityOf } from '../request.js'
import type { AnyQuery } from '../types.js'
import type { Hooks, SelectOptions, UseOptions } from './types.js'

export type { Hooks, SelectOptions, UseOptions } from './types.js'

interface Provided {
  readonly client: Client<any>
  /** Results that a server sent along, by the queries that they are of. */
  readonly initial: ReadonlyMap<string, Dehydrated>
}

const Provided: Context<Provided | undefined> = /* @__PURE__ */ createContext<Provided | undefined>(undefined)

export interface ProviderProps {
  readonly client: Client<any>
  /** What `client.query(…)` on a server gave as `dehydrated`: shown at once, and gone on from. */
  readonly initial?: Dehydrated | readonly Dehydrated[]
  readonly children?: ReactNode
}

/** Gives its children the client. */
export const WalcastProvider: FunctionComponent<ProviderProps> = ({ client, initial, children }) => {
  const provided = useMemo(() => {
    // The question also notes whose results they are, for when somebody has logged out.
    const own = ([initial ?? []].flat() as Dehydrated[]).filter((result) => isOwn(client, result))
    return { client, initial: new Map(own.map((result) => [result.query, result])) }
  }, [client, initial])
  return createElement(Provided.Provider, { value: provided }, children)
}

type Any = any
type AnyLive = LiveQuery<Any, Any>
const nothing = (): undefined => undefined
const IDLE: Connection = { name: 'idle' }

function useProvided(): Provided {
  const provided = useContext(Provided)
  if (!provided) throw new Error('no <WalcastProvider> around this component')
  return provided
}

/** The client of the provider. */
export const useWalcast: Hooks<AnySchema>['useWalcast'] = () => useProvided().client

/** The state of the connection. */
export const useConnection: Hooks<AnySchema>['useConnection'] = () => {
  const client = useWalcast()
  return useSyncExternalStore(
    useCallback((changed) => client.onConnection(changed), [client]),
    () => client.connection,
    () => IDLE,
  )
}

const plains = /* @__PURE__ */ new WeakMap<Fold, AnyLive>()
/** How often a client had forgotten what was seen when it was given a result. */
const given = /* @__PURE__ */ new WeakMap<Dehydrated, number>()
const firsts = /* @__PURE__ */ new WeakMap<AnyLive, AnyLive>()

/** The value of a key, which is made first if there is none. */
function once<K, V>(known: { get(key: K): V | undefined; set(key: K, value: V): unknown }, key: K, make: () => V): V {
  const value = known.get(key) ?? make()
  known.set(key, value)
  return value
}

/** True if nobody has logged out since a result was first given: it may be shown. */
function isOwn(client: Client<Any>, result: Dehydrated): boolean {
  const { forgotten } = insideOf(client).results
  return once(given, result, () => forgotten) === forgotten
}

/** The reader that all components without options for a query share; nobody closes it. */
function plainOf(client: Client<Any>, query: AnyQuery, options: LiveQueryOptions<Any, Any>): AnyLive {
  const inside = insideOf(client)
  const fold = inside.results.share(query)
  return once(plains, fold, () => makeLiveQuery<Any, Any>(inside, fold, options))
}

/** A reader of what a query began with, as a server rendered it, whatever came since: the same reader each time, which nothing changes. */
const firstOf = (client: Client<Any>, live: AnyLive): AnyLive =>
  once(firsts, live, () => {
    const inside = insideOf(client)
    const { identity, fields } = live.kept
    return makeLiveQuery<Any, Any>(inside, new Fold(identity, fields, { ...inside, warn: nothing }), live.options)
  })

/** The reader of a query, the same for as long as the query is equal. Nothing starts before a component is mounted. */
function useReader(query: AnyQuery | null, map?: (row: Any) => Any): AnyLive | undefined {
  const { client, initial } = useProvided()
  const identity = query && identityOf(query, insideOf(client).sort)
  // Functions are no part of what a query is: a map that is another function each time changes nothing.
  return useMemo(() => {
    if (!identity) return undefined
    const sent = initial.get(identity)
    const options = sent && isOwn(client, sent) ? { initial: sent } : {}
    return map ? client.liveQuery(query as Any, { ...options, map }) : plainOf(client, query!, options)
  }, [client, initial, identity])
}

const same = (state: Any): Any => state

/** Subscribes to a query: the same function for as long as the query is the same. */
const useChanges = (live: AnyLive | undefined): ((changed: () => void) => () => void) => useCallback((changed: () => void) => live?.onChange(changed) ?? nothing, [live])

/** A live query; null for none yet. With `select`, what that makes of it. */
export const useLiveQuery: Hooks<AnySchema>['useLiveQuery'] = (query: AnyQuery | null, { map, select = same, isEqual = Object.is, throwOnError }: Partial<SelectOptions<Any, Any, Any>> = {}): Any => {
  const client = useWalcast()
  const live = useReader(query, map)
  const subscribe = useChanges(live)
  /** The selection on the screen: one that equals it is no news. */
  const shown = useRef<{ selected: Any }>(undefined)
  const [now, first] = useMemo(() => {
    const selector = (stateOf: () => QueryState<Any>): (() => Any) => {
      let last: { state: QueryState<Any>; selected: Any } | undefined
      return () => {
        const state = stateOf()
        if (last?.state !== state) {
          const before = last ?? shown.current
          const selected = select(state)
          last = { state, selected: before && isEqual(before.selected, selected) ? before.selected : selected }
        }
        return last.selected
      }
    }
    return [selector(() => live?.state ?? NOTHING), selector(() => (live ? firstOf(client, live).state : NOTHING))]
  }, [client, live, select, isEqual])
  const error = useSyncExternalStore(subscribe, () => throwOnError && live?.state.error, nothing)
  // Before anything is selected: `select` is spared a state that is thrown.
  if (error) throw error
  const selected = useSyncExternalStore(subscribe, now, first)
  useEffect(() => {
    shown.current = { selected }
  }, [selected])
  return selected
}

/** Ends with the first whole result, or with the reason why there will be none, which it has then. */
interface Wait extends Promise<void> {
  error?: unknown
}

/** Waits of suspended components, by the results that they read. */
const pending = /* @__PURE__ */ new WeakMap<Kept, Wait>()

/** A live query, which suspends until there is a whole result and throws if there can be none. */
export const useSuspenseLiveQuery: Hooks<AnySchema>['useSuspenseLiveQuery'] = (query: AnyQuery, { map }: UseOptions<Any, Any> = {}): QueryState<Any> => {
  const client = useWalcast()
  const live = useReader(query, map)!
  const state = useSyncExternalStore(
    useChanges(live),
    () => live.state,
    () => {
      const first = firstOf(client, live).state
      return first.filled ? first : live.state
    },
  )
  if (state.filled) return state
  const wait = once(pending, live.kept, () => {
    // A render that is thrown away leaves this to `linger`.
    const begun: Wait = live.settled().then(
      () => void pending.delete(live.kept),
      (error) => void (begun.error = error),
    )
    return begun
  })
  // React renders again at once before a boundary shows it; whoever does so later tries again.
  if (wait.error) setTimeout(() => pending.delete(live.kept))
  throw wait.error ?? wait
}

/** One row of a live query: for the lines of a long list, which render by themselves. */
export const useRow: Hooks<AnySchema>['useRow'] = (query: AnyQuery, key: Any): Any => {
  const client = useWalcast()
  const live = useReader(query)!
  const name = keyText(key)
  return useSyncExternalStore(
    useCallback((changed) => onRow(live, key, changed), [live, name]),
    () => live.get(key),
    () => firstOf(client, live).get(key),
  )
}

/** The hooks for the tables of a schema: `createHooks<Schema>()`. */
export const createHooks = <S = AnySchema>(): Hooks<S> => ({ useLiveQuery, useSuspenseLiveQuery, useRow, useConnection, useWalcast }) as unknown as Hooks<S>
