import type { Param, Sql } from './sql.js'

/** The tables of a database by their names, as `walcast types` writes them. */
export type AnySchema = Record<string, { row: any; key: any }>

/** What `walcast types` writes beside the types, for the client to compare with what the server says. */
export interface SchemaOf<S> {
  readonly tables: Readonly<Record<string, { readonly key: readonly string[]; readonly columns: Readonly<Record<string, string>> }>>
  /** Never there: it carries the types. */
  readonly types?: S
}

export type Table<S> = keyof S & string
export type RowOf<S, T> = T extends keyof S ? (S[T] extends { row: infer R } ? R : never) : never

type KeyNames<S, T> = T extends keyof S ? (S[T] extends { key: infer K } ? K : never) : never
type IsUnion<T, U = T> = T extends unknown ? ([U] extends [T] ? false : true) : never

/** The key of a row: its key column's value, or of several columns a list of them in the key's order. */
export type KeyOf<S, T> = 0 extends 1 & KeyNames<S, T>
  ? any
  : [KeyNames<S, T>] extends [never]
    ? never
    : IsUnion<KeyNames<S, T>> extends true
      ? readonly unknown[]
      : KeyNames<S, T> extends keyof RowOf<S, T>
        ? RowOf<S, T>[KeyNames<S, T>]
        : any

/** The columns that rows have: those that were asked for, and the key's. */
export type Columns<S, T, C extends keyof RowOf<S, T>> = Pick<RowOf<S, T>, C | (KeyNames<S, T> & keyof RowOf<S, T>)>

/** A live query: a table, and which of its rows. */
export interface Query<S = AnySchema, T extends Table<S> = Table<S>, C extends keyof RowOf<S, T> = keyof RowOf<S, T>> {
  /** `"orders"`, or `"schema.table"`; quoted as in SQL where the name is an odd one. */
  readonly table: T
  /** A predicate in SQL, with `$1`, … for `params`; or one made by `sql`, which has its parameters. All rows if left out. */
  readonly where?: string | Sql
  readonly params?: readonly Param[]
  /** All columns if left out. Those of the key always come. */
  readonly columns?: readonly C[]
  /** What becomes of rows of which the log does not tell whether they left the result: docs/protocol.md, "Unknown membership". */
  readonly undecided?: 'refuse' | 'send' | 'withhold'
  /** With `limit`: the first rows of this order, and from then on the range that they span. The most significant column first. */
  readonly orderBy?: readonly OrderBy<keyof RowOf<S, T>>[]
  /** How many rows to begin with, 1 to 10,000; those that tie with the last of them come, too. */
  readonly limit?: number
}

/** A column of an order. */
export interface OrderBy<C extends PropertyKey = string> {
  readonly column: C
  /** From the greatest to the least. */
  readonly desc?: boolean
  /** Where rows without a value are: `last` unless said otherwise, with `desc` `first`, as in SQL. */
  readonly nulls?: 'first' | 'last'
}

/** A query of whichever table. */
export interface AnyQuery {
  readonly table: string
  readonly where?: string | Sql
  readonly params?: readonly Param[]
  readonly columns?: readonly PropertyKey[]
  readonly undecided?: string
  readonly orderBy?: readonly OrderBy<PropertyKey>[]
  readonly limit?: number
}
