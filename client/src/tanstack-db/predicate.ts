import type { Param } from '../index.js'

/** A condition of TanStack DB: what is read of its `BasicExpression`. Known by `type`, since there may be two copies of that package. */
export type Expression =
  | { readonly type: 'ref'; readonly path: readonly string[] }
  | { readonly type: 'val'; readonly value: unknown }
  | { readonly type: 'func'; readonly name: string; readonly args: readonly Expression[] }

/** A condition in SQL. */
export interface Condition {
  /** Empty: all rows. */
  readonly where: string
  readonly params: readonly Param[]
  /** The comparisons that it consists of, by their text. */
  readonly parts: ReadonlyMap<string, Expression>
  /** What must hold together, by `textOf`. A condition with more of them, or the same, has none but rows of this one. */
  readonly conjuncts: ReadonlyMap<string, Expression>
  /** Nothing is left to the collection: it shows all of these rows. */
  readonly isWhole: boolean
}

/** Values in one list; the server takes no longer ones. */
const MOST_VALUES = 1000

const COMPARISONS: Readonly<Record<string, string>> = { eq: '=', gt: '>', gte: '>=', lt: '<', lte: '<=', like: 'LIKE', ilike: 'ILIKE' }

/**
 * The part of conditions, which hold together, that the server can decide; undefined if no row has it. What the server cannot
 * decide, or not as the collection would, is left to the collection, which filters again: it becomes TRUE, or FALSE where it is
 * negated, so that no row is missing. `after` parameters come before; `local` are columns that say nothing about what the
 * database holds; `weakened` is what is not pushed down, by `textOf`.
 */
export function pushDown(expressions: readonly (Expression | undefined)[], after = 0, local: readonly string[] = [], weakened?: ReadonlySet<string>): Condition | undefined {
  const params: Param[] = []
  const parts = new Map<string, Expression>()
  const conjuncts = new Map<string, Expression>()
  let isWhole = true
  const param = (value: Param): string => `$${after + params.push(value)}`
  const weaken = (negated: boolean): boolean => {
    isWhole = false
    return !negated
  }

  const build = (expression: Expression, negated: boolean): string | boolean => {
    if (expression.type === 'val') return typeof expression.value === 'boolean' ? expression.value : negated
    if (expression.type === 'func') {
      const { name, args } = expression
      if (name === 'and' || name === 'or') return joined(args, negated, name === 'or')
      if (name === 'not') {
        const inner = build(args[0]!, !negated)
        return typeof inner === 'string' ? `NOT (${inner})` : !inner
      }
    }
    const text = weakened?.size && weakened.has(textOf(expression)) ? undefined : leaf(expression, negated)
    if (typeof text === 'string') parts.set(text, expression)
    return text ?? weaken(negated)
  }

  /** Of FALSE in an AND, and of TRUE in an OR, the rest does not matter. */
  const joined = (expressions: readonly Expression[], negated: boolean, decides: boolean, into?: Map<string, Expression>): string | boolean => {
    const { length } = params
    const texts: string[] = []
    for (const expression of expressions) {
      const text = build(expression, negated)
      if (text === decides) {
        params.length = length
        return decides
      }
      if (typeof text !== 'string') continue
      texts.push(text)
      into?.set(textOf(expression), expression)
    }
    if (texts.length < 2) return texts[0] ?? !decides
    return texts.map((text) => (/ (AND|OR) /.test(text) ? `(${text})` : text)).join(decides ? ' OR ' : ' AND ')
  }

  /** A comparison; undefined if the server cannot decide it. */
  const leaf = (expression: Expression, negated: boolean): string | boolean | undefined => {
    const { name, args } = expression.type === 'func' ? expression : { name: '', args: [expression] }
    const [column, other] = args.map((arg) => columnOf(arg, local))
    const sql = COMPARISONS[name]
    if (!name) return column
    if (column && name === 'isNull') return `${column} IS NULL`
    if (column && other && sql) return `${column} ${sql} ${other}`
    const compared = args[column ? 1 : 0]
    if (!(column ?? other) || compared?.type !== 'val') return undefined
    const { value } = compared
    if (column && name === 'in') {
      const lists = chunks(listOf(value))
      return lists && lists.length > 0 && lists.map((list) => `${column} = ANY(${param(list)})`).join(' OR ')
    }
    if (!sql) return undefined
    // Comparing with nothing is unknown, and no row is there for it.
    if (value === null || value === undefined) return negated
    const isPattern = sql.endsWith('LIKE')
    if (isPattern ? !column || typeof value !== 'string' : !isParam(value)) return undefined
    const turned = column ? sql : sql.replace(/[<>]/, (sign) => (sign === '<' ? '>' : '<'))
    // A backslash is one more letter there, and escapes the next here.
    return `${column ?? other} ${turned} ${param(isPattern ? (value as string).replaceAll('\\', '\\\\') : (value as Param))}`
  }

  const where = joined(expressions.flatMap(conjunctsOf), false, false, conjuncts)
  return where === false ? undefined : { where: where === true ? '' : where, params, parts, conjuncts, isWhole }
}

const conjunctsOf = (expression: Expression | undefined): readonly Expression[] =>
  expression?.type === 'func' && expression.name === 'and' ? expression.args.flatMap(conjunctsOf) : expression ? [expression] : []

/** Anything as text: equal conditions have equal texts. */
export const textOf = (values: unknown): string => JSON.stringify(values, (_, value: unknown) => (typeof value === 'bigint' ? `${value}n` : value))

/** The column and the values of a condition that asks for nothing but one of some values of one column, as joins do. */
export function valuesOf(expression: Expression | undefined, local: readonly string[] = []): { readonly column: Expression; readonly values: readonly Param[] } | undefined {
  if (expression?.type !== 'func' || !/^(eq|in)$/.test(expression.name)) return undefined
  const [column, list] = expression.args as [Expression, Expression]
  const values = list.type === 'val' && columnName(column, local) !== undefined && listOf(expression.name === 'in' ? list.value : [list.value])
  return values ? { column, values } : undefined
}

/** The conditions that a column has one of some values, each of as many as the server takes. */
export const oneOf = (column: Expression, values: readonly Param[]): readonly Expression[] => chunks(values)!.map((list) => ({ type: 'func', name: 'in', args: [column, { type: 'val', value: list }] }))

const chunks = (values: readonly Param[] | undefined): readonly Param[][] | undefined =>
  values && Array.from({ length: Math.ceil(values.length / MOST_VALUES) }, (_, i) => values.slice(i * MOST_VALUES, (i + 1) * MOST_VALUES))

/** The name of a column, if the expression is one of the table's. Names with `$` are what a collection adds. */
export function columnName(expression: Expression, local: readonly string[] = []): string | undefined {
  if (expression.type !== 'ref' || expression.path.length !== 1) return undefined
  const [name] = expression.path as [string]
  return name.startsWith('$') || local.includes(name) ? undefined : name
}

/** The same in SQL. */
function columnOf(expression: Expression, local: readonly string[]): string | undefined {
  const name = columnName(expression, local)
  return name === undefined ? undefined : `"${name.replaceAll('"', '""')}"`
}

/** A value that has a text which Postgres reads: a primitive one, or a time. */
const isParam = (value: unknown): value is string | number | bigint | boolean | Date => Object(value) !== value || (value instanceof Date && !Number.isNaN(value.getTime()))

/** The values of a list; no row has one that is not there. */
function listOf(list: unknown): readonly Param[] | undefined {
  const values = Array.isArray(list) && list.filter((item) => item !== null && item !== undefined)
  return values && values.every(isParam) ? values : undefined
}
