import type { Param } from '../index.js'

/** A condition of TanStack DB: what is read of its `BasicExpression`. Known by `type`, since there may be two copies of that package. */
export type Expression =
  | { readonly type: 'ref'; readonly path: readonly string[] }
  | { readonly type: 'val'; readonly value: unknown }
  | { readonly type: 'func'; readonly name: string; readonly args: readonly Expression[] }

/** A condition in SQL. */
export interface Condition {
  readonly where: string
  readonly params: readonly Param[]
  /** The conditions that it consists of, and where they stand in the text. */
  readonly parts: readonly { readonly start: number; readonly end: number; readonly expression: Expression }[]
  /** What must hold together. A condition with more of them, or the same, has none but rows of this one. */
  readonly conjuncts: ReadonlySet<string>
}

export interface PushDown {
  /** The number of parameters that come before. */
  readonly after?: number
  /** What is not pushed down, as `describe` describes it. */
  readonly weakened?: ReadonlySet<string>
  /** Columns that say nothing about what the database holds. */
  readonly local?: readonly string[]
  /** Called where a part is left to the collection: then the rows are more than it shows. */
  readonly onWeaker?: () => void
}

/** Values in one list; the server takes no longer ones. */
export const MOST_VALUES = 1000

const COMPARISONS: Readonly<Record<string, readonly [sql: string, turned: string]>> = {
  eq: ['=', '='],
  gt: ['>', '<'],
  gte: ['>=', '<='],
  lt: ['<', '>'],
  lte: ['<=', '>='],
  like: ['LIKE', ''],
  ilike: ['ILIKE', ''],
}

/** A condition that is neither true nor false for all rows. */
type Node =
  | { readonly joined: ' AND ' | ' OR '; readonly parts: readonly Node[] }
  | { readonly not: Node }
  /** Text, with the parameters between its pieces. */
  | { readonly texts: readonly string[]; readonly params: readonly Param[]; readonly expression: Expression }

/**
 * The part of a condition that the server can decide. What it cannot, or not as the collection would, is left to the
 * collection, which filters again: it becomes TRUE, or FALSE where it is negated, so that no row is missing.
 */
export function pushDown(expression: Expression | undefined, { after = 0, weakened, local = [], onWeaker }: PushDown = {}): Condition | boolean {
  const weaken = (negated: boolean): boolean => {
    onWeaker?.()
    return !negated
  }
  const build = (expression: Expression, negated: boolean): Node | boolean => {
    if (expression.type === 'func') {
      const { name, args } = expression
      if (name === 'and' || name === 'or') {
        // Of FALSE in an AND, and of TRUE in an OR, the rest does not matter.
        const decides = name === 'or'
        const joined = decides ? ' OR ' : ' AND '
        const parts: Node[] = []
        for (const arg of args) {
          const part = build(arg, negated)
          if (part === decides) return decides
          if (typeof part === 'object') parts.push(...('joined' in part && part.joined === joined ? part.parts : [part]))
        }
        return parts.length < 2 ? (parts[0] ?? !decides) : { joined, parts }
      }
      if (name === 'not') {
        const inner = build(args[0]!, !negated)
        return typeof inner === 'object' ? { not: inner } : !inner
      }
    }
    if (expression.type === 'val') return typeof expression.value === 'boolean' ? expression.value : negated
    return weakened?.size && weakened.has(describe(expression)) ? weaken(negated) : leaf(expression, negated)
  }

  const leaf = (expression: Expression, negated: boolean): Node | boolean => {
    const node = (texts: readonly string[], ...params: readonly Param[]): Node => ({ texts, params, expression })
    if (expression.type !== 'func') {
      const name = columnOf(expression, local)
      return name === undefined ? weaken(negated) : node([name])
    }
    const { name, args } = expression
    const [left, right] = args as [Expression, Expression]
    const column = left && columnOf(left, local)
    if (name === 'isNull') return column === undefined ? weaken(negated) : node([`${column} IS NULL`])
    if (name === 'in') {
      const values = right?.type === 'val' && column !== undefined ? listOf(right.value) : undefined
      if (!values) return weaken(negated)
      if (values.length === 0) return false
      const lists = chunks(values)
      const texts = [`(${column} = ANY(`, ...lists.slice(1).map(() => `) OR ${column} = ANY(`), '))']
      return node(lists.length > 1 ? texts : [`${column} = ANY(`, ')'], ...lists)
    }
    const comparison = COMPARISONS[name]
    if (!comparison || !right) return weaken(negated)
    const [sql, turned] = comparison
    const other = columnOf(right, local)
    if (column !== undefined && other !== undefined) return node([`${column} ${sql} ${other}`])
    const value = left.type === 'val' ? left.value : right.type === 'val' ? right.value : undefined
    if ((left.type !== 'val' || other === undefined) && (right.type !== 'val' || column === undefined)) return weaken(negated)
    // Comparing with nothing is unknown, and no row is there for it.
    if (value === null || value === undefined) return negated
    if (!isParam(value)) return weaken(negated)
    if (turned) return column === undefined ? node([`${other} ${turned} `, ''], value) : node([`${column} ${sql} `, ''], value)
    // A backslash is one more letter there, and escapes the next here.
    return column !== undefined && typeof value === 'string' ? node([`${column} ${sql} `, ''], value.replaceAll('\\', '\\\\')) : weaken(negated)
  }

  const node = expression === undefined || build(expression, false)
  if (typeof node === 'boolean') return node
  const conjuncts = 'joined' in node && node.joined === ' AND ' ? node.parts : [node]
  const describeNode = (part: Node): string => {
    const { where, params } = render(part, 0)
    return textOf([where, params])
  }
  return { ...render(node, after), conjuncts: new Set(conjuncts.map(describeNode)) }
}

function render(node: Node, after: number): Omit<Condition, 'conjuncts'> {
  let where = ''
  const params: Param[] = []
  const parts: Condition['parts'][number][] = []
  const add = (node: Node, isInner = true): void => {
    if ('not' in node) {
      where += 'NOT ('
      add(node.not, false)
      where += ')'
    } else if ('joined' in node) {
      if (isInner) where += '('
      node.parts.forEach((part, i) => {
        if (i > 0) where += node.joined
        add(part)
      })
      if (isInner) where += ')'
    } else {
      const start = where.length
      node.texts.forEach((text, i) => {
        where += text
        if (i < node.params.length) where += `$${after + params.push(node.params[i]!)}`
      })
      parts.push({ start, end: where.length, expression: node.expression })
    }
  }
  add(node, false)
  return { where, params, parts }
}

/** A condition as text: equal ones have equal texts. */
export function describe(expression: Expression): string {
  if (expression.type === 'func') return `${expression.name}(${expression.args.map(describe).join()})`
  return textOf(expression.type === 'ref' ? expression.path : [expression.value])
}

export const textOf = (values: unknown): string => JSON.stringify(values, (_, value: unknown) => (typeof value === 'bigint' ? `${value}n` : value))

/** The column and the values of a condition that asks for nothing but one of some values of one column, as joins do. */
export function valuesOf(expression: Expression | undefined, local: readonly string[] = []): { readonly column: Expression; readonly values: readonly Param[] } | undefined {
  if (expression?.type !== 'func' || expression.args.length !== 2) return undefined
  const [left, right] = expression.args as [Expression, Expression]
  if (columnOf(left, local) === undefined || right.type !== 'val') return undefined
  if (expression.name === 'in') {
    const values = listOf(right.value)
    return values && { column: left, values }
  }
  return expression.name === 'eq' && isParam(right.value) ? { column: left, values: [right.value] } : undefined
}

/** The condition that a column has one of some values. */
export const oneOf = (column: Expression, values: readonly Param[]): Expression => ({
  type: 'func',
  name: values.length === 1 ? 'eq' : 'in',
  args: [column, { type: 'val', value: values.length === 1 ? values[0] : values }],
})

/** Lists of as many values as the server takes. */
export function chunks(values: readonly Param[]): readonly Param[][] {
  const lists: Param[][] = []
  for (let i = 0; i < values.length; i += MOST_VALUES) lists.push(values.slice(i, i + MOST_VALUES))
  return lists
}

/** The name of a column, if the expression is one of the table's. Names with `$` are what a collection adds. */
export function columnName(expression: Expression, local: readonly string[]): string | undefined {
  if (expression.type !== 'ref' || expression.path.length !== 1) return undefined
  const [name] = expression.path as [string]
  return name.startsWith('$') || local.includes(name) ? undefined : name
}

/** The same in SQL. */
function columnOf(expression: Expression, local: readonly string[]): string | undefined {
  const name = columnName(expression, local)
  return name === undefined ? undefined : `"${name.replaceAll('"', '""')}"`
}

/** A value that has a text which Postgres reads. */
function isParam(value: unknown): value is string | number | bigint | boolean | Date {
  return /^(string|number|bigint|boolean)$/.test(typeof value) || (value instanceof Date && !Number.isNaN(value.getTime()))
}

/** The values of a list; no row has one that is not there. */
function listOf(list: unknown): readonly Param[] | undefined {
  if (!Array.isArray(list)) return undefined
  const values = list.filter((item) => item !== null && item !== undefined)
  return values.every(isParam) ? values : undefined
}
