/** Types of the hooks, for the tables of a schema. */
import type { Client, Columns, Connection, KeyOf, Query, QueryState, RowOf, Table } from '../index.js'

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
