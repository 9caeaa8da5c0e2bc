/** Collections of TanStack DB that are live queries. */
import type { BaseCollectionConfig, Collection, CollectionConfig, DeleteMutationFnParams, InferSchemaOutput, InsertMutationFnParams, UpdateMutationFnParams } from '@tanstack/db'
import { type AnySchema, type Client, type Columns, type Dehydrated, type Position, type Query, type RowOf, type Status, type Table, type WaitOptions, WalcastError, sort, waitFor } from '../index.js'
import { insideOf } from '../client.js'
import { type Note, isNote, later } from './note.js'
import { onDemand } from './on-demand.js'
import type { Key } from './rows.js'
import { type Run, whole } from './whole.js'

/** Where a write stands: what `SELECT pg_current_wal_insert_lsn()` gave after its COMMIT; `xid` beside it, if it is known. */
export interface Written {
  readonly position?: Position
  readonly xid?: string | number | bigint
}

/** Writes to the database. What it returns is waited for: until then the optimistic change stays. */
export type Write<Params> = (params: Params) => Promise<Written | void>

/** `collection.utils`. */
export interface WalcastUtils extends Record<string, any> {
  /** Waits until the collection shows what was written before a place: `waitFor` of `@walcast/client`. */
  waitFor(target: Position | Written, options?: WaitOptions): Promise<Position>
  /** Where its rows stood when they last changed. */
  position(): Position | undefined
  /** The status of its live query; on demand, of the one that is farthest from `live`. */
  status(): Status
}

export interface WalcastCollectionConfig<S, T extends Table<S>, C extends keyof RowOf<S, T>, K extends Key, Row extends object = Columns<S, T, C>>
  extends Omit<BaseCollectionConfig<Row, K, never, WalcastUtils>, 'onInsert' | 'onUpdate' | 'onDelete' | 'schema' | 'utils'> {
  readonly client: Client<S>
  readonly query: Query<S, T, C>
  readonly onInsert?: Write<InsertMutationFnParams<Row, K, WalcastUtils>>
  readonly onUpdate?: Write<UpdateMutationFnParams<Row, K, WalcastUtils>>
  readonly onDelete?: Write<DeleteMutationFnParams<Row, K, WalcastUtils>>
  /** A result to begin with: `dehydrated` of `client.query(…)` on a server. */
  readonly initial?: Dehydrated
  /** On demand: columns that the collection alone filters by, since a parser makes values of them that compare otherwise. */
  readonly local?: readonly (keyof Row & string)[]
}

/** A schema of Zod, Valibot and others: `StandardSchemaV1`. */
type StandardSchema = NonNullable<Collection['config']['schema']>

/** The options for `createCollection`; `X` is never where the collection has no schema. */
export type WalcastCollectionOptions<Row extends object, K extends Key, X extends StandardSchema = never> = CollectionConfig<Row, K, X, WalcastUtils> & { readonly utils: WalcastUtils }

/** Makes the options of a collection. Its rows have the types of the table, or of the output of `schema`. */
interface OptionsOf {
  <X extends StandardSchema, S = AnySchema, const T extends Table<S> = Table<S>, const C extends keyof RowOf<S, T> = keyof RowOf<S, T>, K extends Key = Key>(
    config: WalcastCollectionConfig<S, T, C, K, InferSchemaOutput<X>> & { readonly schema: X },
  ): WalcastCollectionOptions<InferSchemaOutput<X>, K, X> & { readonly schema: X }
  <S = AnySchema, const T extends Table<S> = Table<S>, const C extends keyof RowOf<S, T> = keyof RowOf<S, T>, K extends Key = Key>(
    config: WalcastCollectionConfig<S, T, C, K> & { readonly schema?: never },
  ): WalcastCollectionOptions<Columns<S, T, C>, K> & { readonly schema?: never }
}

/**
 * Options for `createCollection`: the collection is the live query. With `syncMode: 'on-demand'` it has the rows that its own
 * live queries ask for. `schema` is a Standard Schema, as of Zod or Valibot, for what is inserted and updated: its output is
 * what rows are.
 */
export const walcastCollectionOptions: OptionsOf = ((config: AnyConfig) => {
  const { client, query, syncMode } = config
  // Of its own queries some have an order.
  insideOf(client).sort ??= sort
  if (syncMode !== 'on-demand') return optionsOf(config, whole)
  if (query.orderBy) throw new WalcastError('bad_request', 'a collection on demand has no order: its own queries have one')
  return optionsOf(config, onDemand)
}) as OptionsOf

/** The same for collections that are whole queries alone, without what those on demand take: less than half the size. */
export const wholeCollectionOptions: OptionsOf = ((config: AnyConfig) => optionsOf(config, whole)) as OptionsOf

type AnyConfig = WalcastCollectionConfig<AnySchema, string, string, Key>

function optionsOf(config: AnyConfig, run: typeof whole): WalcastCollectionOptions<any, Key, any> {
  const { client, query: _, initial, local, ...others } = config
  const { results } = insideOf(client)
  let current: Run | undefined
  let stored: Note | undefined
  let forgotten: number
  const store = (note: Note | undefined): void => {
    stored = note
    forgotten = results.forgotten
  }
  /** What is stored, unless it is of somebody who has logged out since. */
  const known = (): Note | undefined => (forgotten === results.forgotten ? stored : undefined)
  store(initial)

  const handlers: Record<string, Write<unknown>> = {}
  for (const name of ['onInsert', 'onUpdate', 'onDelete'] as const) {
    const write = config[name] as Write<unknown> | undefined
    if (!write) continue
    handlers[name] = async (params) => {
      const written = await write(params)
      if (written && (written.position ?? written.xid) !== undefined) {
        await waitFor(client, written).catch((error: WalcastError) => {
          // It is written, and is seen once the connection is back.
          if (error.code !== 'timeout') throw error
        })
      }
      return written
    }
  }

  return {
    // Text is ordered as JavaScript and Postgres' collation "C" do, and times as text are in order.
    defaultStringCollation: { stringSort: 'lexical' },
    ...others,
    ...handlers,
    sync: {
      rowUpdateMode: 'full',
      sync: (sync) => {
        const own = (current = run(config, sync, known()))
        return {
          ...own,
          cleanup: () => {
            store(own.result?.())
            own.end()
            if (current === own) current = undefined
          },
        }
      },
      exportSyncMeta: () => (current ? current.note() : known()),
      importSyncMeta: (meta) => {
        if (isNote(meta)) store(meta)
      },
      mergeSyncMeta: (now, incoming) => (!isNote(incoming) ? now : isNote(now) ? later(now, incoming) : incoming),
    },
    utils: {
      waitFor: (target: Position | Written, options?: WaitOptions) => waitFor(client, target, options),
      position: () => current?.position(),
      status: () => current?.status() ?? 'connecting',
    },
  } as WalcastCollectionOptions<any, Key, any>
}
