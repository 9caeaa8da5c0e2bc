import { describe, expect, test } from 'vitest'
import { indexOfByte, placeOf, suggestions, tokens } from '../src/text/sql.js'

const COLUMNS = [
  { name: 'status', type: 'text', enum: ['new', 'paid', "it's"] },
  { name: 'amount', type: 'numeric(10,2)' },
  { name: 'express', type: 'boolean' },
  { name: 'Odd Name', type: 'jsonb' },
]
const words = (text: string): string[] => suggestions(text, text.length, COLUMNS).map((word) => word.text)

describe('the parts of a predicate', () => {
  test('are told apart, and put together they are the text', () => {
    const text = `"Odd Name"->>'k' = 'a''b' AND amount >= 1.5e3 -- x\n OR NOT $1::text[] ü 'open`
    const parts = tokens(text, new Set(['amount', 'Odd Name']))
    expect(parts.map((part) => part.text).join('')).toBe(text)
    expect(parts.filter(({ kind }) => kind !== 'space').map(({ kind }) => kind)).toEqual([
      'column', 'operator', 'text', 'operator', 'text', 'keyword', 'column', 'operator', 'number', 'operator', 'name',
      'keyword', 'keyword', 'parameter', 'operator', 'name', 'open', 'close', 'name', 'unfinished',
    ])
  })

  test('of any text come to an end', () => {
    for (const text of ['', '\u0000', '😀 = 1', '"', "'", '`~\\', '\ud800']) expect(tokens(text).map((part) => part.text).join('')).toBe(text)
  })

  test('an error is about a byte of UTF-8, and shows at the word there, or at the end', () => {
    const text = "naïve = '😀' AND amuont > 1"
    const byte = new TextEncoder().encode(text.slice(0, text.indexOf('amuont'))).length
    expect(text.slice(indexOfByte(text, byte))).toBe('amuont > 1')
    expect(placeOf(text, text.indexOf('amuont') + 2)).toEqual({ from: text.indexOf('amuont'), to: text.indexOf('amuont') + 6 })
    expect(placeOf(text, 999)).toEqual({ from: text.length, to: text.length })
  })
})

describe('what may come next', () => {
  test.each([
    ['', ['status', 'amount', 'express', '"Odd Name"', 'NOT', '(']],
    ['sta', ['status']],
    ['status ', ['=', '<>', 'IN (', 'LIKE', 'ILIKE', 'IS NULL', 'IS NOT NULL']],
    ['amount B', ['BETWEEN']],
    ['status = ', ["'new'", "'paid'", "'it''s'", 'amount', 'express', '"Odd Name"']],
    ["status = 'p", ["'paid'"]],
    ["status IN ('new', 'p", ["'paid'"]],
    ["status = 'paid' ", ['AND', 'OR']],
    ["status = 'paid' AND am", ['amount']],
    ['amount BETWEEN 1 AND ', ['status', 'express', '"Odd Name"']],
    ['status IS ', ['NULL', 'NOT NULL', 'TRUE', 'FALSE', 'DISTINCT FROM', 'NOT DISTINCT FROM']],
    ['express = ', ['true', 'false', 'status', 'amount', '"Odd Name"']],
  ])('after %j', (text, expected) => expect(words(text)).toEqual(expected))

  test('replaces the word that is begun, and nothing behind the caret', () => {
    const [first] = suggestions('am > 5', 2, COLUMNS)
    expect(first).toEqual({ text: 'amount', about: 'numeric(10,2)', from: 0, to: 2 })
  })
})
