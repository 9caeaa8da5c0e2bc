import { IR, and, eq, gt, gte, ilike, inArray, isNull, isUndefined, like, lower, lt, lte, not, or } from '@tanstack/db'
import { expect, test } from 'vitest'
import { type Expression, pushDown, valuesOf } from '../src/tanstack-db/predicate.js'

/** Columns as a collection's subset names them. */
const ref = (...path: string[]): any => new IR.PropRef(path)
const down = (expression: unknown, { after = 0, local = [] as string[] } = {}): unknown => {
  const condition = pushDown([expression as Expression], after, local)
  return condition ? condition.where === '' || [condition.where, ...condition.params] : false
}

test('comparisons become SQL with parameters, whichever side the column is on', () => {
  expect(down(eq(ref('status'), 'paid'))).toEqual(['"status" = $1', 'paid'])
  expect(down(and(gt(ref('a'), 1), gte(ref('b'), 2n), lt(ref('c'), 3), lte(ref('d'), 4)))).toEqual(['"a" > $1 AND "b" >= $2 AND "c" < $3 AND "d" <= $4', 1, 2n, 3, 4])
  expect(down(gt(5 as any, ref('a')))).toEqual(['"a" < $1', 5])
  expect(down(lte(ref('a'), ref('b')))).toEqual(['"a" <= "b"'])
  expect(down(eq(ref('odd "name"'), true))).toEqual(['"odd ""name""" = $1', true])
  const at = new Date(0)
  expect(down(gt(ref('at'), at))).toEqual(['"at" > $1', at])
})

test('lists, patterns, nulls and logic become SQL', () => {
  expect(down(or(isNull(ref('a')), not(inArray(ref('b'), ['x', null, 'y']))))).toEqual(['"a" IS NULL OR NOT ("b" = ANY($1))', ['x', 'y']])
  expect(down(and(like(ref('a'), 'x%'), ilike(ref('b'), '_y')))).toEqual(['"a" LIKE $1 AND "b" ILIKE $2', 'x%', '_y'])
  expect(down(and(eq(ref('a'), 1), or(eq(ref('b'), 2), eq(ref('c'), 3))), { after: 2 })).toEqual(['"a" = $3 AND ("b" = $4 OR "c" = $5)', 1, 2, 3])
  expect(down(ref('done'))).toEqual(['"done"'])
  expect(down(undefined)).toBe(true)
})

test('a backslash in a pattern is a letter, as the collection has it', () => {
  expect(down(like(ref('path'), 'C:\\%'))).toEqual(['"path" LIKE $1', 'C:\\\\%'])
})

test('lists beyond a thousand values are split', () => {
  const values = Array.from({ length: 2500 }, (_, i) => i)
  const [where, ...params] = down(and(inArray(ref('id'), values), eq(ref('a'), 1))) as [string, ...any[]]
  expect(where).toBe('("id" = ANY($1) OR "id" = ANY($2) OR "id" = ANY($3)) AND "a" = $4')
  expect(params.map((list) => list.length ?? list)).toEqual([1000, 1000, 500, 1])
})

test('what SQL does not say is weakened: TRUE under an even number of NOTs, FALSE under an odd one', () => {
  const strange = eq(lower(ref('name')), 'x')
  expect(down(strange)).toBe(true)
  expect(down(not(strange))).toBe(true)
  expect(down(and(strange, eq(ref('a'), 1)))).toEqual(['"a" = $1', 1])
  expect(down(or(strange, eq(ref('a'), 1)))).toBe(true)
  expect(down(not(or(strange, eq(ref('a'), 1))))).toEqual(['NOT ("a" = $1)', 1])
  expect(down(not(and(strange, eq(ref('a'), 1))))).toBe(true)
  expect(down(not(not(strange)))).toBe(true)
  // Paths into documents, bytes, what the collection itself adds, columns that are its own affair.
  for (const own of [eq(ref('data', 'x'), 1), eq(ref('raw'), new Uint8Array(2)), eq(ref('$synced'), true), isUndefined(ref('a')), eq(ref('a'), { b: 1 }), like(ref('a'), ref('b'))]) {
    if (own.type === 'func' && own.name === 'like') expect(down(own)).toEqual(['"a" LIKE "b"'])
    else expect(down(own)).toBe(true)
  }
  expect(down(and(eq(ref('a'), 1), eq(ref('b'), 2)), { local: ['a'] })).toEqual(['"b" = $1', 2])
})

test('comparing with nothing is unknown: no row is there for it', () => {
  expect(down(eq(ref('a'), null))).toBe(false)
  expect(down(not(eq(ref('a'), undefined)))).toBe(false)
  expect(down(or(eq(ref('a'), null), eq(ref('b'), 1)))).toEqual(['"b" = $1', 1])
  expect(down(inArray(ref('a'), []))).toBe(false)
})

test('demands for values of one column are known as such', () => {
  expect(valuesOf(eq(ref('a'), 1) as any)).toMatchObject({ column: { path: ['a'] }, values: [1] })
  expect(valuesOf(inArray(ref('a'), [1, null, 2]) as any)).toMatchObject({ values: [1, 2] })
  expect(valuesOf(and(eq(ref('a'), 1), eq(ref('b'), 1)) as any)).toBeUndefined()
  expect(valuesOf(eq(ref('a'), ref('b')) as any)).toBeUndefined()
})
