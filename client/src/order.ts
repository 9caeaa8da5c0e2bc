import type { Column } from './protocol.js'
import { type Row, shortType } from './values.js'

/** A column of an order, as `subscribe` has it. */
export interface WireOrder {
  readonly column: string
  readonly desc?: boolean | undefined
  readonly nulls?: 'first' | 'last' | undefined
}

export type Compare<T> = (a: T, b: T) => number

const plain: Compare<any> = (a, b) => (a < b ? -1 : a > b ? 1 : 0)

/** By code points, as Postgres does under the collations that the server accepts. JavaScript compares units of UTF-16. */
const text: Compare<string> = (a, b) => {
  const end = Math.min(a.length, b.length)
  let i = 0
  while (i < end && a[i] === b[i]) i++
  if (i === end) return a.length - b.length
  return rank(a.charCodeAt(i)) - rank(b.charCodeAt(i))
}

/** Surrogates stand for what comes after all that is a unit by itself. */
const rank = (unit: number): number => (unit >= 0xd800 && unit < 0xe000 ? unit + 0x10000 : unit)

/** Exactly, also of numbers that come as text since they have more digits than a double. NaN is the greatest. */
const number: Compare<number | string> = (a, b) => {
  const [x, y] = [Number(a), Number(b)]
  const rough = plain(Number.isNaN(x), Number.isNaN(y)) || plain(x, y)
  // To round does not change which of them is less, but may make them equal.
  if (rough !== 0 || typeof a !== 'string' || typeof b !== 'string') return rough
  const isNoNumber = (value: string): boolean => !/\d/.test(value)
  if (isNoNumber(a) || isNoNumber(b)) return plain(isNoNumber(a), isNoNumber(b)) * (x < 0 ? -1 : 1)
  const [[whole = '', part = ''], [others = '', otherPart = '']] = [a.split('.'), b.split('.')]
  const digits = Math.max(part.length, otherPart.length)
  return plain(BigInt(whole + part.padEnd(digits, '0')), BigInt(others + otherPart.padEnd(digits, '0')))
}

/** Dates and times in ISO's form, which sort as text within a year. */
const time: Compare<string> = (a, b) => plain(yearOf(a), yearOf(b)) || plain(a, b)
const yearOf = (value: string): number => (value.endsWith('infinity') ? Number(value.replace('i', 'I')) : parseInt(value, 10) * (value.endsWith('BC') ? -1 : 1))

const BY_TYPE: Readonly<Record<string, Compare<any>>> = {
  int2: number,
  int4: number,
  int8: number,
  oid: number,
  numeric: number,
  float4: number,
  float8: number,
  bool: plain,
  text,
  varchar: text,
  // Blanks at its end do not count.
  bpchar: (a: string, b: string) => text(a.replace(/ +$/, ''), b.replace(/ +$/, '')),
  name: text,
  uuid: text,
  bytea: text,
  time: text,
  date: time,
  timestamp: time,
  timestamptz: time,
}

/**
 * Compares rows as they came by the columns of an order, up to the first one of a type whose order only the database knows,
 * which a warning tells.
 */
export function comparison(order: readonly WireOrder[], columns: readonly Column[], warn: (text: string) => void): Compare<Row> {
  const parts: Compare<Row>[] = []
  for (const { column, desc, nulls = desc ? 'first' : 'last' } of order) {
    const type = columns.find(({ name }) => name === column)?.type ?? ''
    const compare = BY_TYPE[shortType(type)]
    if (!compare) {
      warn(`rows are not sorted by ${column} here, nor by what comes after it: only the database knows the order of ${type}`)
      break
    }
    parts.push((a, b) => {
      // What is not known is where null is: a row that is too large has its key alone.
      const [x, y] = [a[column] ?? null, b[column] ?? null]
      if (x === null || y === null) return plain(x === null, y === null) * (nulls === 'first' ? -1 : 1)
      return compare(x, y) * (desc ? -1 : 1)
    })
  }
  return (a, b) => {
    for (const compare of parts) {
      const found = compare(a, b)
      if (found !== 0) return found
    }
    return 0
  }
}
