import { WalcastError } from './error.js'

/** A value for a `$n` of a predicate: what JSON has, and what has a text that Postgres reads. */
export type Param = string | number | bigint | boolean | null | Date | readonly Param[] | { readonly [name: string]: unknown }

const FRAGMENT: unique symbol = Symbol.for('walcast.sql')

interface Template {
  readonly strings: readonly string[]
  readonly values: readonly (Param | Sql)[]
}

/** A predicate with its parameters, made by `sql`. */
export interface Sql {
  readonly [FRAGMENT]: Template
  /** The text with `$1`, `$2`, … */
  readonly where: string
  readonly params: readonly Param[]
}

/**
 * A predicate from a template: each value becomes a parameter, never text, so there is nothing to escape. Another `sql`
 * inside becomes part of it.
 *
 * ```ts
 * const mine = sql`owner = ${user.id}`
 * const open = sql`${mine} AND state = ${'open'} AND amount > ${100n}`
 * ```
 */
export function sql(strings: TemplateStringsArray, ...values: readonly (Param | Sql)[]): Sql {
  const params: Param[] = []
  const text = ({ strings, values }: Template): string =>
    values.reduce<string>((all, value, i) => all + (isSql(value) ? text(value[FRAGMENT]) : `$${params.push(value)}`) + strings[i + 1], strings[0]!)
  const own = { strings, values }
  return { [FRAGMENT]: own, where: text(own), params }
}

export const isSql = (value: unknown): value is Sql => typeof value === 'object' && value !== null && FRAGMENT in value

/** A parameter as it goes over the wire. */
export function wireParam(value: unknown, name: string): unknown {
  if (value === undefined) throw new WalcastError('bad_request', `the parameter ${name} is undefined: give null where there is no value`)
  // JSON has no numbers for these; Postgres reads the text.
  if (typeof value === 'bigint' || (typeof value === 'number' && !Number.isFinite(value))) return String(value)
  if (Array.isArray(value)) return value.map((item) => wireParam(item, name))
  return value // A Date has its own toJSON.
}
