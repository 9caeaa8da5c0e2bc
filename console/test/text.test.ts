import { describe, expect, test } from 'vitest'
import { ago, brief, bytes, duration, identifier, lookOf, shortPosition, tableName } from '../src/text/format.js'
import { asHook, asTail } from '../src/text/snippets.js'
import { type Address, parseAddress, printAddress } from '../src/text/url.js'

describe('the address', () => {
  test.each<Address>([
    { place: 'query', table: 'orders', where: `status = 'paid' AND "Ö d" LIKE '%?&#=+%'\n`, order: { by: { column: 'amount' }, desc: true }, source: undefined, ops: undefined, xid: undefined },
    { place: 'query', table: 'a."b.c"', where: undefined, order: { by: 'newest', desc: false }, source: 'shop', ops: undefined, xid: undefined },
    { place: 'stream', table: undefined, where: undefined, order: undefined, source: undefined, ops: 'insert,update', xid: '701' },
  ])('says all there is', (address) => expect(parseAddress(printAddress(address))).toEqual(address))

  test('is short, and whatever stands there is a place', () => {
    expect(printAddress({ place: 'health' })).toBe('#health')
    expect(printAddress({ place: 'query', order: { by: 'key', desc: false } })).toBe('#query')
    for (const hash of ['', '#', '#nowhere?x=%', '#/query', '#query?sort=-']) expect(parseAddress(hash).place).toBe('query')
  })
})

describe('numbers and values', () => {
  test('have their units', () => {
    expect([0, 1023, 1024, 16 * 1024 ** 2, 1.5 * 1024 ** 4].map(bytes)).toEqual(['0 bytes', '1,023 bytes', '1 kB', '16 MB', '1.5 TB'])
    expect([0, 0.0004, 0.0021, 0.25, 1.34, 240, 9000, 200_000].map(duration)).toEqual(['0 ms', '< 1 ms', '2.1 ms', '250 ms', '1.3 s', '4 min', '2.5 h', '2.3 d'])
    expect(ago(1000, 4500)).toBe('3 s ago')
    expect(shortPosition('16/B374D848')).toBe('…74D848')
  })

  test('NULL, an empty text and what did not come do not look alike', () => {
    expect([null, '', undefined, 0, false, 'x'].map(lookOf)).toEqual(['null', 'empty', 'absent', 'plain', 'plain', 'plain'])
  })

  test('of ten million characters the beginning is all that is worked on', () => {
    let looked = 0
    const deep = { a: 1, list: Array.from({ length: 1000 }, () => ({ get x() { looked++; return 'y' } })) }
    expect(brief('a\nb\tc')).toBe('a⏎b c')
    expect(brief('x'.repeat(10_000_000)).length).toBe(161)
    expect(brief(deep, 40)).toBe('{"a": 1, "list": [{"x": "y"}, {"x": "y"}…')
    expect(looked).toBeLessThan(10)
  })
})

describe('what one copies', () => {
  test('is what the shell, SQL and JavaScript read back', () => {
    expect(asTail({ table: 'orders', where: "note = 'it''s'" }, 'ws://127.0.0.1:8080/v1/stream')).toBe(`walcast tail orders --url ws://127.0.0.1:8080/v1/stream --where 'note = '\\''it'\\'''\\''s'\\'''`)
    expect(asHook({ table: 'orders', where: "a = '${x}`\\'" })).toContain("where: `a = '\\${x}\\`\\\\'`")
    const undecided = { table: 'orders', where: 'n > 1', isUndecided: true }
    expect(asHook(undecided)).toContain("useLiveQuery({ table: 'orders', where: 'n > 1', undecided: 'send' })")
    expect(asTail(undecided, 'ws://a')).toBe(`walcast tail orders --url ws://a --where 'n > 1' --undecided send`)
    expect(['orders', 'Orders', 'order', 'a"b'].map(identifier)).toEqual(['orders', '"Orders"', '"order"', '"a""b"'])
    expect([tableName('public', 'orders'), tableName('support', 'Tickets')]).toEqual(['orders', 'support."Tickets"'])
  })
})
