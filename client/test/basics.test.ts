import { describe, expect, test } from 'vitest'
import { backoff } from '../src/backoff.js'
import { WalcastError } from '../src/error.js'
import { comparePositions, isPosition } from '../src/position.js'
import { isSql, sql, wireParam } from '../src/sql.js'
import { claims } from '../src/token.js'
import { parse, parsers as parsersOf } from '../src/parsers.js'
import { type Decode, floats, shortType } from '../src/values.js'

describe('positions', () => {
  test('are ordered as numbers, and every change of a transaction comes before its end', () => {
    const ordered = ['0/1', '0/A', '0/10', '0/FFFFFFFF', '1/0', '1/2:0', '1/2:9', '1/2:10', '1/2', '10/0', 'FFFFFFFF/FFFFFFFF']
    for (const [i, a] of ordered.entries()) for (const [j, b] of ordered.entries()) expect(Math.sign(comparePositions(a, b))).toBe(Math.sign(i - j))
  })

  test('are told from what is none', () => {
    for (const text of ['16/B374D848', '0/0', '16/b374d848:17']) expect(isPosition(text)).toBe(true)
    for (const text of ['', '16', '16/', '16/B374D848:', '/1', 'G/1', '123456789/1', ' 0/1', 5, null]) expect(isPosition(text)).toBe(false)
  })
})

describe('backoff', () => {
  test('doubles up to the most, and takes any part of it', () => {
    expect([0, 1, 2, 6, 1000].map((attempts) => backoff(attempts, 1))).toEqual([500, 1000, 2000, 30_000, 30_000])
    expect(backoff(3, 0)).toBe(0)
    expect(backoff(0, 0.5, { first: 100, most: 50 })).toBe(25)
  })
})

describe('sql', () => {
  test('makes parameters of values', () => {
    const { where, params } = sql`status = ${'paid'} AND amount > ${10n}`
    expect(where).toBe('status = $1 AND amount > $2')
    expect(params).toEqual(['paid', 10n])
    expect(sql`true`.where).toBe('true')
    expect(sql`${1}`.where).toBe('$1')
  })

  test('nests, and numbers the parameters anew', () => {
    const mine = sql`owner = ${7}`
    const open = sql`(state = ${'open'} OR ${sql`urgent AND ${mine}`})`
    const { where, params } = sql`${mine} AND ${open} AND a = ${1}`
    expect(where).toBe('owner = $1 AND (state = $2 OR urgent AND owner = $3) AND a = $4')
    expect(params).toEqual([7, 'open', 7, 1])
    expect(isSql(mine)).toBe(true)
    expect(isSql({ where: 'x' })).toBe(false)
  })

  test('sends values in a form that Postgres reads', () => {
    expect(JSON.stringify([1n, NaN, -Infinity, new Date(0), [2n, null], { a: 1 }, true].map((value) => wireParam(value, '$1')))).toBe(
      '["1","NaN","-Infinity","1970-01-01T00:00:00.000Z",["2",null],{"a":1},true]',
    )
    expect(() => wireParam(undefined, '$3')).toThrow('the parameter $3 is undefined')
    expect(() => wireParam([undefined], '$1')).toThrow('undefined')
  })
})

describe('errors', () => {
  test('show the place in the predicate, which the server counts in bytes', () => {
    const where = "naïve = 'é' AND statsu = 1"
    const offset = new TextEncoder().encode("naïve = 'é' AND ").length
    const error = new WalcastError('bad_predicate', 'there is no column "statsu"', { offset }, where)
    expect(error.message).toBe(`there is no column "statsu"\n  ${where}\n                  ^`)
    expect(error.offset).toBe(16)
    expect(error.query).toBe(where)
    expect(error.retryable).toBe(false)
  })

  test('show the line that holds the place, also at the end of the text', () => {
    expect(new WalcastError('bad_predicate', 'no', { offset: 8 }, 'a = 1\n\tOR b\nOR c').message).toBe('no\n  \tOR b\n  \t ^')
    expect(new WalcastError('bad_predicate', 'no', { offset: 5 }, 'a = (').message).toBe('no\n  a = (\n       ^')
    expect(new WalcastError('unknown_table', 'no').message).toBe('no')
  })

  test('say whether the same may work later', () => {
    for (const [code, details, retryable] of [
      ['internal', {}, true],
      ['limit_exceeded', { limit: 'subject_snapshots' }, true],
      ['limit_exceeded', { limit: 'row_bytes' }, false],
      ['rate_limited', {}, true],
      ['unknown_table', {}, false],
    ] as const) {
      expect(new WalcastError(code, '', details).retryable).toBe(retryable)
    }
  })
})

describe('tokens', () => {
  const token = (payload: object): string => `e30.${btoa(JSON.stringify(payload)).replace(/\+/g, '-').replace(/\//g, '_').replace(/=/g, '')}.x`

  test('say when they expire and whose they are', () => {
    expect(claims(token({ exp: 5, iss: 'i', sub: '??>>' }))).toEqual({ expires: 5000, subject: '["i","??>>"]' })
    expect(claims(token({}))).toEqual({ expires: Infinity, subject: undefined })
  })

  test('need not be JSON web tokens', () => {
    for (const text of ['', 'opaque', 'a.b.c', 'a.!!.c']) expect(claims(text)).toEqual({ expires: Infinity, subject: undefined })
  })
})

describe('values', () => {
  const decoder = (table: string, columns: { name: string; type: string }[], parsers?: Parameters<typeof parsersOf>[0]): Decode => (parsers ? parsersOf(parsers) : floats)(table, columns)
  const decode = (type: string, value: unknown, parsers?: Parameters<typeof parsersOf>[0]): unknown => decoder('orders', [{ name: 'v', type }], parsers)({ v: value }).v

  test('have the short names of their types', () => {
    for (const [long, short] of [
      ['timestamp(3) with time zone', 'timestamptz'],
      ['timestamp without time zone', 'timestamp'],
      ['character varying(20)[]', 'varchar[]'],
      ['numeric(10,2)', 'numeric'],
      ['bigint', 'int8'],
      ['double precision[]', 'float8[]'],
      ['bit varying(3)', 'varbit'],
      ['mood', 'mood'],
    ] as const) {
      expect(shortType(long)).toBe(short)
    }
  })

  test('that JSON has no numbers for are numbers all the same', () => {
    expect(decode('double precision', 'NaN')).toBeNaN()
    expect(decode('real', '-Infinity')).toBe(-Infinity)
    for (const parsers of [undefined, {}]) expect(decode('double precision[]', [1, 'Infinity', null, [2, 'NaN']], parsers)).toEqual([1, Infinity, null, [2, NaN]])
    expect(decode('real', 'NaN', {})).toBeNaN()
    expect(decode('numeric', 'NaN')).toBe('NaN')
    expect(decode('bigint', '9007199254740993')).toBe('9007199254740993')
  })

  test('are made by parsers of their type, also inside arrays, and null is null', () => {
    const types = { int8: parse.bigint, timestamptz: parse.date, mood: (text: string) => `<${text}>`, bool: (text: string) => text, 'int4[]': (text: string) => text }
    expect(decode('bigint', '5', { types })).toBe(5n)
    expect(decode('bigint[]', ['1', null, ['2']], { types })).toEqual([1n, null, [2n]])
    expect(decode('timestamp(3) with time zone', '2026-01-01T00:00:00+00:00', { types })).toEqual(new Date('2026-01-01T00:00:00Z'))
    expect(decode('app.mood', 'ok', { types })).toBe('<ok>')
    expect(decode('boolean', true, { types })).toBe('true')
    expect(decode('integer[]', [1, 2], { types })).toBe('[1,2]')
    expect(decode('bigint', null, { types })).toBeNull()
    expect(parse.bytes('\\x00ff10')).toEqual(new Uint8Array([0, 255, 16]))
    expect(parse.bytes('\\x')).toEqual(new Uint8Array([]))
    expect(parse.number('1.5')).toBe(1.5)
  })

  test('of a column are made by its own parser', () => {
    const parsers = { types: { text: () => 'type' }, columns: { orders: { v: () => 'column' } } }
    expect(decode('text', 'x', parsers)).toBe('column')
    expect(decoder('public.orders', [{ name: 'v', type: 'text' }], parsers)({ v: 'x' }).v).toBe('column')
    expect(decoder('other', [{ name: 'v', type: 'text' }], parsers)({ v: 'x' }).v).toBe('type')
  })

  test('that nothing parses stay the same object', () => {
    const row = { a: 1 }
    expect(decoder('t', [{ name: 'a', type: 'integer' }])(row)).toBe(row)
  })

  test('that a parser fails on are named', () => {
    const types = { int8: parse.bigint }
    expect(() => decode('bigint', 'x', { types })).toThrow('the parser of orders.v failed on "x": SyntaxError')
  })
})
