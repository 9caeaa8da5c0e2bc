/** Live queries in React: hooks that render with each change, and on servers. */
import { type Context, type FunctionComponent, type ReactNode, createContext, createElement, useCallback, useContext, useEffect, useMemo, useState, useSyncExternalStore } from 'react'
import { type Client, insideOf } from '../client.js'
import type { AnySchema, Columns, Connection, Dehydrated, KeyOf, LiveQuery, Query, QueryState, RowOf, Table } from '../index.js'
import { keyText } from '../fold.js'
import { NOTHING, onRow } from '../query.js'
import { identityOf } from '../request.js'
import type { AnyQuery } from '../types.js'
import { firstOf, isOwn, once, plainOf } from './readers.js'

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
    const all = [initial ?? []].flat() as Dehydrated[]
    // Notes whose they are, for when they are asked for.
    for (const result of all) isOwn(client, result)
    return { client, initial: new Map(all.map((result) => [result.query, result])) }
  }, [client, initial])
  return createElement(Provided.Provider, { value: provided }, children)
}

export interface UseOptions<In, Out> {
  /** Makes what the component gets from a row: once per row that changed. It must not depend on anything else. */
  readonly map?: (row: In) => Out
  /** Throw an error of the query, for the next error boundary. */
  readonly throwOnError?: boolean
}

export interface SelectOptions<In, Out, Selected> extends UseOptions<In, Out> {
  /** What the component needs of the result: it renders only if that changed. */
  readonly select: (state: QueryState<Out>) => Selected
  /** If two selections are the same; `Object.is` unless said otherwise. */
  readonly isEqual?: (a: Selected, b: Selected) => boolean
}

/** The hooks, with the types of a schema. */
export interface Hooks<S> {
  /** What `select` makes of a live query. */
  useLiveQuery<const T extends Table<S>, const C extends keyof RowOf<S, T> = keyof RowOf<S, T>, Out = Columns<S, T, C>, Selected = QueryState<Out>>(
    query: Query<S, T, C> | null,
    options: SelectOptions<Columns<S, T, C>, Out, Selected>,
  ): Selected
  /** A live query; null for none yet. It is read while the component is mounted. */
  useLiveQuery<const T extends Table<S>, const C extends keyof RowOf<S, T> = keyof RowOf<S, T>, Out = Columns<S, T, C>>(
    query: Query<S, T, C> | null,
    options?: UseOptions<Columns<S, T, C>, Out>,
  ): QueryState<Out>
  /** The same, which suspends until there is a whole result and throws if there can be none. */
  useSuspenseLiveQuery<const T extends Table<S>, const C extends keyof RowOf<S, T> = keyof RowOf<S, T>, Out = Columns<S, T, C>>(
    query: Query<S, T, C>,
    options?: Omit<UseOptions<Columns<S, T, C>, Out>, 'throwOnError'>,
  ): QueryState<Out>
  /** One row of a live query: for the lines of a long list, which render by themselves. */
  useRow<const T extends Table<S>, const C extends keyof RowOf<S, T> = keyof RowOf<S, T>>(query: Query<S, T, C>, key: KeyOf<S, T>): Columns<S, T, C> | undefined
  useConnection(): Connection
  /** The client of the provider. */
  useWalcast(): Client<S>
}

type Any = any
const IDLE: Connection = { name: 'idle' }

function useProvided(): Provided {
  const provided = useContext(Provided)
  if (!provided) throw new Error('there is no <WalcastProvider client={…}> around this component')
  return provided
}

function useAnyClient(): Client<Any> {
  return useProvided().client
}

function useAnyConnection(): Connection {
  const client = useProvided().client
  const subscribe = useCallback((changed: () => void) => client.onConnection(changed), [client])
  return useSyncExternalStore(
    subscribe,
    () => client.connection,
    () => IDLE,
  )
}

/** The reader of a query, the same for as long as the query is equal. Nothing starts before a component is mounted. */
function useReader(query: AnyQuery | null, map?: (row: Any) => Any): LiveQuery<Any, Any> | undefined {
  const { client, initial } = useProvided()
  const identity = query && identityOf(query, insideOf(client).sort)
  // Functions are no part of what a query is: a map that is another function each time changes nothing.
  return useMemo(() => {
    if (identity === null) return undefined
    const given = initial.get(identity)
    const sent = given && isOwn(client, given) ? given : undefined
    return map ? client.liveQuery(query as Any, { map, ...(sent && { initial: sent }) }) : plainOf(client, query!, sent)
  }, [client, initial, identity])
}

const same = (state: Any): Any => state
const nobody = (): (() => void) => () => {}

function useResult(client: Client<Any>, live: LiveQuery<Any, Any> | undefined, select: (state: Any) => Any, isEqual: (a: Any, b: Any) => boolean): Any {
  const subscribe = useMemo(() => (live ? (changed: () => void) => live.onChange(changed) : nobody), [live])
  /** What is on the screen: a selection that equals it is no news. */
  const [shown] = useState<{ value?: { selected: Any } }>(() => ({}))
  const [now, first] = useMemo(() => {
    const selector = (): ((state: QueryState<Any>) => Any) => {
      let last: { state: QueryState<Any>; selected: Any } | undefined
      return (state) => {
        if (last?.state === state) return last.selected
        const before = last ?? shown.value
        const selected = select(state)
        last = { state, selected: before && isEqual(before.selected, selected) ? before.selected : selected }
        return last.selected
      }
    }
    const [now, first] = [selector(), selector()]
    return [() => now(live ? live.state : NOTHING), () => first(live ? firstOf(client, live).state : NOTHING)]
  }, [client, live, select, isEqual, shown])
  const selected = useSyncExternalStore(subscribe, now, first)
  useEffect(() => {
    shown.value = { selected }
  }, [shown, selected])
  return selected
}

function useAnyQuery(query: AnyQuery | null, options: Partial<SelectOptions<Any, Any, Any>> = {}): Any {
  const { map, select = same, isEqual = Object.is, throwOnError = false } = options
  const live = useReader(query, map)
  const taken = useCallback((state: QueryState<Any>) => (throwOnError && state.error ? new Thrown(state.error) : select(state)), [select, throwOnError])
  const equal = useCallback((a: Any, b: Any) => !(a instanceof Thrown) && !(b instanceof Thrown) && isEqual(a, b), [isEqual])
  const result = useResult(useAnyClient(), live, taken, equal)
  if (result instanceof Thrown) throw result.error
  return result
}

class Thrown {
  constructor(readonly error: unknown) {}
}

/** What suspended components wait for, by what they read. */
const pending = /* @__PURE__ */ new WeakMap<Client<Any>, Map<string, { readonly promise: Promise<void>; readonly error?: unknown }>>()

function useAnySuspended(query: AnyQuery, options: UseOptions<Any, Any> = {}): QueryState<Any> {
  const { client } = useProvided()
  const live = useReader(query, options.map)!
  const subscribe = useCallback((changed: () => void) => live.onChange(changed), [live])
  const state = useSyncExternalStore(
    subscribe,
    () => live.state,
    () => {
      const first = firstOf(client, live).state
      return first.filled ? first : live.state
    },
  )
  if (state.filled) return state
  const identity = identityOf(query, insideOf(client).sort)
  const waits = once(pending, client, () => new Map())
  const wait = waits.get(identity)
  if (wait?.error) {
    // React renders again at once before a boundary shows it; whoever does so later tries again.
    setTimeout(() => waits.delete(identity))
    throw wait.error
  }
  if (wait) throw wait.promise
  // A render that is thrown away leaves this to `linger`.
  const promise = live.settled().then(
    () => void waits.delete(identity),
    (error: unknown) => void waits.set(identity, { promise, error }),
  )
  waits.set(identity, { promise })
  throw promise
}

function useAnyRow(query: AnyQuery, key: Any): Any {
  const client = useAnyClient()
  const live = useReader(query)!
  const name = keyText(key)
  const subscribe = useCallback((changed: () => void) => onRow(live, key, changed), [live, name])
  return useSyncExternalStore(
    subscribe,
    () => live.get(key),
    () => firstOf(client, live).get(key),
  )
}

const hooks = {
  useLiveQuery: useAnyQuery,
  useSuspenseLiveQuery: useAnySuspended,
  useRow: useAnyRow,
  useConnection: useAnyConnection,
  useWalcast: useAnyClient,
} as unknown as Hooks<AnySchema>

/** The hooks for the tables of a schema: `createHooks<Schema>()`. */
export const createHooks = <S = AnySchema>(): Hooks<S> => hooks as unknown as Hooks<S>

// The same without types of tables.
export const useLiveQuery: Hooks<AnySchema>['useLiveQuery'] = hooks.useLiveQuery
export const useSuspenseLiveQuery: Hooks<AnySchema>['useSuspenseLiveQuery'] = hooks.useSuspenseLiveQuery
export const useRow: Hooks<AnySchema>['useRow'] = hooks.useRow
export const useConnection: Hooks<AnySchema>['useConnection'] = hooks.useConnection
export const useWalcast: Hooks<AnySchema>['useWalcast'] = hooks.useWalcast
