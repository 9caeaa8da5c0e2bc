/** Live queries in Vue. */
import { type ComputedRef, type InjectionKey, type MaybeRefOrGetter, type Plugin, computed, inject, shallowRef, toValue, watchEffect } from 'vue'
import { NOTHING } from '../query.js'
import type { AnySchema, Client, Columns, KeyOf, LiveQuery, LiveQueryOptions, Query, QueryState, RowOf, Table, WalcastError } from '../index.js'

const CLIENT: InjectionKey<Client<any>> = Symbol.for('walcast.client')

/** Gives an application's components the client: `createApp(App).use(walcast(client))`. */
export const walcast = (client: Client<any>): Plugin => ({ install: (app) => void app.provide(CLIENT, client) })

/** A live query in a component. Rows are not made reactive one by one: they are replaced where they change. */
export interface UseLiveQuery<Out, Key> {
  readonly rows: ComputedRef<readonly Out[]>
  readonly status: ComputedRef<QueryState<Out>['status']>
  readonly error: ComputedRef<WalcastError | undefined>
  readonly state: ComputedRef<QueryState<Out>>
  /** The query itself; undefined while there is none. */
  readonly live: ComputedRef<LiveQuery<Out, Key> | undefined>
}

export interface UseOptions<In, Out> extends LiveQueryOptions<In, Out> {
  /** The client, where it is not that of the application. */
  readonly client?: Client<any>
}

/**
 * A live query, which may be a ref or a getter, and null for none yet. It is read while the component is mounted; on a
 * server it shows `initial` and reads nothing.
 */
export function useLiveQuery<S = AnySchema, const T extends Table<S> = Table<S>, const C extends keyof RowOf<S, T> = keyof RowOf<S, T>, Out = Columns<S, T, C>>(
  query: MaybeRefOrGetter<Query<S, T, C> | null | undefined>,
  { client = inject(CLIENT), ...options }: UseOptions<Columns<S, T, C>, Out> = {},
): UseLiveQuery<Out, KeyOf<S, T>> {
  if (!client) throw new Error('there is no client: app.use(walcast(client)), or useLiveQuery(query, { client })')
  const changes = shallowRef(0)
  const live = computed(() => {
    const asked = toValue(query)
    return asked ? ((client as Client<S>).liveQuery<T, C, Out>(asked, options as LiveQueryOptions<Columns<S, T, C>, Out>) as LiveQuery<Out, KeyOf<S, T>>) : undefined
  })
  const state = computed(() => {
    void changes.value
    return (live.value?.state ?? NOTHING) as QueryState<Out>
  })
  const changed = (): void => void changes.value++
  watchEffect(
    (onCleanup) => {
      const reading = live.value
      if (!reading) return
      onCleanup(reading.onChange(changed))
      // What came before it was read.
      changed()
    },
    // After it is mounted, and not on a server.
    { flush: 'post' },
  )
  return { rows: computed(() => state.value.rows), status: computed(() => state.value.status), error: computed(() => state.value.error), state, live }
}
