import { describe, expect, test } from 'vitest'
import { Transactions, columnsOf } from '../src/query/transactions.js'
import { Feed, OPS, changedColumns, ndjson, sizeOf } from '../src/stream/feed.js'

const ALL = { table: undefined, ops: new Set(OPS), xid: '' }
const place = { position: '0/1', epoch: 'e' }
const tx = (position: string, xid: number, ...changes: object[]): any => ({ type: 'tx', position, xid, ts: '2026-01-02T03:04:05.678901Z', more: false, changes, place })
const insert = (seq: number, id: number): object => ({ op: 'insert', seq, row: { id }, unchanged: [] })
const shown = (feed: Feed, filter: object = {}): string[] =>
  feed.lines({ ...ALL, ...filter }).map(({ entry, change }) => ('text' in entry ? entry.text : change ? `${change.table} ${change.op} ${change.seq}` : `xid ${entry.xid}`))

describe('the stream', () => {
  test('puts the changes of several tables into their transaction, in their order', () => {
    const feed = new Feed()
    feed.take('orders', tx('0/10:1', 7, insert(0, 1)))
    feed.take('items', tx('0/10', 7, insert(1, 1), insert(3, 2)))
    feed.take('orders', tx('0/10', 7, { op: 'update', seq: 2, row: { id: 1, n: 2 }, old: { id: 1, n: 1 }, unchanged: [] }))
    feed.take('orders', tx('0/20', 8, { op: 'delete', seq: 0, key: { id: 1 } }))
    expect(shown(feed)).toEqual(['xid 8', 'orders delete 0', 'xid 7', 'orders insert 0', 'items insert 1', 'orders update 2', 'items insert 3'])
    expect(shown(feed, { xid: '7', table: 'orders', ops: new Set(['update']) })).toEqual(['xid 7', 'orders update 2'])
    expect(changedColumns(feed.lines({ ...ALL, ops: new Set(['update'] as const) })[1]!.change!)).toEqual(['n'])
    const saved = ndjson(feed.lines(ALL)).trim().split('\n').map((line) => JSON.parse(line) as Record<string, unknown>)
    expect(saved.map(({ xid, seq }) => [xid, seq])).toEqual([[7, 0], [7, 1], [7, 2], [7, 3], [8, 0]])
    expect(saved[4]).toEqual({ position: '0/20', xid: 8, ts: '2026-01-02T03:04:05.678901Z', seq: 0, table: 'orders', op: 'delete', key: { id: 1 } })
  })

  test('stands still while paused, counts, and goes on', () => {
    const feed = new Feed()
    feed.take('orders', tx('0/10', 7, insert(0, 1)))
    feed.pause()
    feed.take('orders', tx('0/20', 8, insert(0, 2), insert(1, 3)))
    feed.gap('lost')
    expect([shown(feed).length, feed.missed]).toEqual([2, 2])
    feed.resume()
    expect(shown(feed)).toEqual(['lost', 'xid 8', 'orders insert 0', 'orders insert 1', 'xid 7', 'orders insert 0'])
  })

  test('forgets the oldest', () => {
    const feed = new Feed()
    for (let i = 0; i < 60; i++) feed.take('orders', tx(`0/${i}0`, i, ...Array.from({ length: 100 }, (_, seq) => insert(seq, seq))))
    expect(shown(feed).filter((line) => line.startsWith('xid')).length).toBe(50)
    // A further part of what is forgotten does not come back alone.
    feed.take('items', tx('0/00', 0, insert(100, 1)))
    expect(shown(feed).at(-1)).toBe('orders insert 99')
  })

  test('keeps the order of the commits when tables are read one after the other', () => {
    const feed = new Feed()
    const position = (i: number): string => `${i < 100 ? '9' : 'A'}/${(0xff0 + i).toString(16).toUpperCase()}`
    feed.take('orders', tx(position(0), 0, insert(0, 0)))
    feed.gap('lost')
    for (const [at, table] of ['orders', 'items'].entries()) for (let i = 1; i <= 200; i++) if (at === 0 || i % 2 === 0) feed.take(table, tx(position(i), i, insert(at, i)))
    const expected: string[] = []
    for (let i = 200; i > 0; i--) expected.push(`xid ${i}`, 'orders insert 0', ...(i % 2 === 0 ? ['items insert 1'] : []))
    expect(shown(feed)).toEqual([...expected, 'lost', 'xid 0', 'orders insert 0'])
    // Another history begins behind it, wherever its positions are.
    feed.take('orders', { ...tx('0/1', 900, insert(0, 1)), place: { position: '0/1', epoch: 'f' } })
    expect(shown(feed)[0]).toBe('xid 900')
  })

  test('of a large transaction has the first changes, and the number of the others', () => {
    const feed = new Feed()
    const part = (from: number, length: number): object[] => Array.from({ length }, (_, i) => insert(2 * (from + i), i))
    for (const isPaused of [false, true]) {
      if (isPaused) feed.pause()
      const end = isPaused ? '0/20' : '0/10'
      for (let from = 0; from < 100_000; from += 5000) feed.take('orders', tx(`${end}:${from}`, 7, ...part(from, 5000)))
      // Another table's changes of the same transaction come after them, and stand between them.
      feed.take('items', tx(end, 7, insert(1, 1), { op: 'delete', seq: 300_001, key: { id: 1 } }))
    }
    feed.resume()
    const lines = feed.lines(ALL).slice(0, 1002)
    expect(lines.slice(1, 5).map(({ change }) => [change?.table, change?.seq])).toEqual([['orders', 0], ['items', 1], ['orders', 2], ['orders', 4]])
    expect([lines[1000]!.change?.seq, lines[1001]!.more, sizeOf(lines[0]!.entry as any)]).toEqual([1996, 99_002, 100_002])
    expect(feed.lines({ ...ALL, ops: new Set(['delete'] as const) }).map(({ more }) => more)).toEqual([undefined, 1, undefined, 1])
    expect(feed.lines(ALL).filter(({ more }) => more).length).toBe(2)
    expect([feed.total, ndjson(feed.lines(ALL)).trim().split('\n').length]).toEqual([200_004, 2000])
  })
})

describe('the transactions of a result', () => {
  test('are kept, the newest first, and found by their number', () => {
    const all = new Transactions()
    const change = { key: 1, before: { id: 1, n: 1, m: 1 }, row: { id: 1, n: 2, m: 1 } }
    for (let i = 1; i <= 600; i++) all.add({ position: `0/${i}`, xid: i, ts: '2026-01-02T03:04:05Z', changes: [change, { key: 2, before: undefined, row: { id: 2 } }] })
    expect(all.length).toBe(500)
    expect(all.newest(0)).toMatchObject({ number: 600, came: 1, changed: 1, left: 0 })
    expect(all.newest(all.indexOf(550))).toMatchObject({ xid: 550 })
    expect(all.indexOf(100)).toBe(-1)
    expect(columnsOf(change).map(({ name, isChanged }) => [name, isChanged])).toEqual([['n', true], ['id', false], ['m', false]])
  })
})
