import { expect, test } from 'vitest'
import { changes } from '../src/index.js'
import { comparison } from '../src/order.js'
import type { Query } from '../src/types.js'
import { Talk, type Tables, promises } from './support/talk.js'

const RANGE = { features: ['reach', 'range'] }
const FIRST: Query<Tables, 'task'> = { table: 'task', where: 'id > 0', orderBy: [{ column: 'title', desc: true }, { column: 'id' }], limit: 2 }
const ASKED = { type: 'subscribe', table: 'task', where: 'id > 0', order_by: [{ column: 'title', desc: true }, { column: 'id' }] }
const B = { id: 1, title: 'b' }
const A = { id: 2, title: 'a' }

async function begun(query: Query<Tables, 'task'> = FIRST) {
  const talk = new Talk()
  const live = talk.client.liveQuery(query)
  live.onChange(() => {})
  await talk.greet(RANGE)
  return { talk, live }
}

async function back(talk: Talk, hello: object = {}): Promise<void> {
  talk.socket.end(1006)
  talk.platform.pass(1000)
  await talk.greet({ ...RANGE, ...hello })
}

test('the first rows of an order are asked for by it, and come back by their bound', async () => {
  const { talk, live } = await begun()
  expect(talk.sent).toEqual([{ ...ASKED, id: '1', limit: 2, snapshot: true }])
  talk.fill([A, B], '0/100', { bound: ['a', 2] })
  expect(live.state.rows).toEqual([B, A])
  await back(talk)
  expect(talk.take()).toEqual([{ ...ASKED, id: '2', bound: ['a', 2], from: '0/100', epoch: 'e1' }])
  // Also where the connection is lost before it was live again.
  await back(talk)
  expect(talk.sent).toEqual([{ ...ASKED, id: '3', bound: ['a', 2], from: '0/100', epoch: 'e1' }])
})

test('a bound of nothing is one, too', async () => {
  const { talk } = await begun()
  talk.fill([A], '0/100', { bound: null })
  await back(talk)
  expect(talk.take()).toEqual([{ ...ASKED, id: '2', bound: null, from: '0/100', epoch: 'e1' }])
})

test('rows that come anew are the first ones again', async () => {
  const { talk, live } = await begun()
  talk.accept('0/100', { bound: ['a', 2] })
  // Before it was live.
  await back(talk)
  expect(talk.take()).toEqual([{ ...ASKED, id: '2', limit: 2, snapshot: true }])
  talk.say({ type: 'subscribed', id: '2', position: '0/100', key: ['id'], columns: [{ name: 'id', type: 'integer' }, { name: 'title', type: 'text' }], replica_identity: 'full', bound: ['a', 2], warnings: [] })
  talk.say({ type: 'snapshot', id: '2', rows: [B, A] })
  talk.say({ type: 'live', id: '2', position: '0/100' })
  // In another history.
  await back(talk, { epoch: 'e2' })
  expect(talk.take()).toEqual([{ ...ASKED, id: '3', limit: 2, snapshot: true }])
  // Of a place that is pruned.
  talk.say({ type: 'subscribed', id: '3', position: '0/100', key: ['id'], columns: [{ name: 'id', type: 'integer' }, { name: 'title', type: 'text' }], replica_identity: 'full', bound: ['b', 1], warnings: [] })
  talk.say({ type: 'snapshot', id: '3', rows: [B] })
  talk.say({ type: 'live', id: '3', position: '0/100' })
  expect(live.dehydrate()!.place).toEqual({ position: '0/100', epoch: 'e2', bound: ['b', 1] })
  await back(talk, { epoch: 'e2' })
  expect(talk.take()[0]).toMatchObject({ id: '4', bound: ['b', 1], from: '0/100' })
  talk.say({ type: 'error', id: '4', code: 'resume_expired', message: 'pruned', earliest: '0/200' })
  expect(talk.take()).toEqual([{ ...ASKED, id: '5', limit: 2, snapshot: true }])
  expect(live.state).toMatchObject({ status: 'catching-up', rows: [B] })
})

test('a result that is sent along with a page has its bound', async () => {
  const { talk, live } = await begun()
  talk.fill([A, B], '0/100', { bound: ['a', 2] })
  const initial = JSON.parse(JSON.stringify(live.dehydrate()))
  const page = new Talk()
  const query = page.client.liveQuery(FIRST, { initial })
  // Sorted before the server has said anything.
  expect(query.state.rows).toEqual([B, A])
  query.onChange(() => {})
  await page.greet(RANGE)
  expect(page.take()).toEqual([{ ...ASKED, id: '1', bound: ['a', 2], from: '0/100', epoch: 'e1' }])
  expect(page.client.liveQuery({ ...FIRST, limit: 3 }, { initial }).state.filled).toBe(false)
})

test('order and limit are part of what a query is, however they are spelled', async () => {
  const { talk } = await begun()
  const count = (query: Query<Tables, 'task'>): number => {
    talk.take()
    talk.client.liveQuery(query).onChange(() => {})
    return talk.take().length
  }
  expect(count({ ...FIRST, orderBy: [{ column: 'title', nulls: 'first', desc: true }, { desc: false, column: 'id', nulls: 'last' }] })).toBe(0)
  expect(count({ ...FIRST, columns: ['id'] })).toBe(1)
  // What rows are sorted by comes along.
  expect(count({ ...FIRST, columns: ['title', 'id'] })).toBe(0)
  expect(count({ ...FIRST, orderBy: [{ column: 'title', desc: true, nulls: 'last' }, { column: 'id' }] })).toBe(1)
  expect(count({ ...FIRST, orderBy: [{ column: 'id' }, { column: 'title', desc: true }] })).toBe(1)
  expect(count({ ...FIRST, limit: 3 })).toBe(1)
  expect(count({ table: 'task', where: 'id > 0' })).toBe(1)
})

test('rows stay sorted, with those that tie in the order in which they came', async () => {
  const { talk, live } = await begun({ ...FIRST, orderBy: [{ column: 'title' }] })
  const ids = (): number[] => live.state.rows.map(({ id }) => id)
  const id = talk.fill([{ id: 1, title: 'm' }, { id: 2, title: 'k' }, { id: 3, title: 'm' }], '0/100', { bound: ['m'] })
  expect(ids()).toEqual([2, 1, 3])
  const before = live.state.rows
  talk.tx('0/200', [{ id, op: 'insert', row: { id: 4, title: 'b' } }, { id, op: 'update', row: { id: 2, title: 'm' } }, { id, op: 'delete', key: { id: 3 } }])
  expect(ids()).toEqual([4, 1, 2])
  expect(live.state.rows[1]).toBe(before[1])
  expect(before.map(({ id }) => id)).toEqual([2, 1, 3])
  // Of a row that is too large only the key is known.
  talk.tx('0/300', [{ id, op: 'update', oversize: true, key: { id: 4 } }])
  expect(ids()).toEqual([1, 2, 4])
})

test('rows of a first snapshot are sorted as they come', async () => {
  const talk = new Talk()
  const live = talk.client.liveQuery(FIRST, { partial: true })
  live.onChange(() => {})
  await talk.greet(RANGE)
  const id = talk.accept('0/100', { bound: ['a', 2] })
  talk.say({ type: 'snapshot', id, rows: [A] })
  talk.say({ type: 'snapshot', id, rows: [B] })
  expect(live.state.rows).toEqual([B, A])
})

test('a client that was not given what sorts says so', () => {
  const talk = new Talk({ sort: undefined as never })
  expect(() => talk.client.liveQuery(FIRST)).toThrow('createClient(url, { sort })')
  expect(talk.client.liveQuery({ table: 'task', where: 'id > 0' }).state.status).toBe('connecting')
})

test('a server that knows no order is not asked for one', async () => {
  for (const ask of [FIRST, { table: 'task', limit: 5 }, { table: 'task', orderBy: [{ column: 'id' }] }] as Query<Tables, 'task'>[]) {
    const talk = new Talk()
    const ready = talk.client.liveQuery(ask).ready()
    await talk.greet({ features: ['reach', 'content', 'time'] })
    await expect(ready).rejects.toMatchObject({ code: 'unsupported', message: expect.stringContaining('"range"') })
    expect(talk.sent).toEqual([])
  }
})

test('changes of the first rows of an order go on within their bound', async () => {
  const talk = new Talk()
  const reader = changes(talk.client, FIRST, { snapshot: true })
  void reader.next()
  await talk.greet(RANGE)
  expect(talk.sent).toEqual([{ ...ASKED, id: '1', limit: 2, snapshot: true }])
  talk.fill([], '0/100', { bound: null })
  await back(talk)
  expect(talk.take()).toEqual([{ ...ASKED, id: '2', bound: null, from: '0/100', epoch: 'e1' }])
  await reader.return!()
  const { talk: other } = await begun()
  void changes(other.client, FIRST, { from: { position: '0/90', epoch: 'e1', bound: ['a', 2] } }).next()
  expect(other.sent.at(-1)).toEqual({ ...ASKED, id: '2', bound: ['a', 2], from: '0/90', epoch: 'e1' })
  await promises()
})

/** Values of a type in the order that Postgres gives them. Those in a list of their own tie. */
const SORTED: Readonly<Record<string, readonly unknown[]>> = {
  integer: [-10, -9, 0, 9, 10],
  bigint: ['-9007199254740993', '-9007199254740992', '5', '10', '9007199254740992', '9007199254740993'],
  'numeric(40,2)': ['-Infinity', `-1${'0'.repeat(400)}`, '-12345678901234567890.6', '-12345678901234567890.5', '-0.5', ['0', '0.00'], '0.1', ['1', '1.0', '1.00'], '9.9', '10', '12345678901234567890.05', '12345678901234567890.5', `1${'0'.repeat(400)}`, 'Infinity', 'NaN'],
  'double precision': ['-Infinity', -1e300, -1, [0, -0], 1e-300, 0.1, 0.30000000000000004, 1e300, 'Infinity', 'NaN'],
  boolean: [false, true],
  text: ['', ' ', 'A', 'B', 'a', 'a b', 'aa', 'é', '\uD7FF', '\uE000', '\uFFFD', '\u{10000}', '\u{1F600}', '\u{1F601}'],
  'character varying(9)': ['10', '9', 'a'],
  'character(4)': [['a   ', 'a'], 'a\t  ', 'ab  ', 'b   '],
  uuid: ['00000000-0000-0000-0000-000000000001', 'a0000000-0000-0000-0000-000000000000', 'f0000000-0000-0000-0000-000000000000'],
  bytea: ['\\x', '\\x00', '\\x0000', '\\x09', '\\x0a', '\\xff'],
  date: ['-infinity', '4713-01-01 BC', '0044-03-15 BC', '0044-03-16 BC', '0001-01-01', '1999-12-31', '2024-01-01', '9999-12-31', '10000-01-01', 'infinity'],
  'timestamp without time zone': ['-infinity', '0044-03-15T00:00:00 BC', '0044-03-15T00:00:00.5 BC', '2024-01-01T00:00:00', '2024-01-01T00:00:00.000001', '2024-01-01T00:00:00.5', '2024-01-01T00:00:00.55', '2024-01-01T00:00:01', 'infinity'],
  'timestamp(3) with time zone': ['-infinity', '1999-12-31T00:00:00+00:00', '2024-01-01T00:00:00+00:00', '2024-01-01T00:00:00.1+00:00', '10000-01-01T00:00:00+00:00', 'infinity'],
  'time without time zone': ['00:00:00', '09:00:00', '09:00:00.5', '24:00:00'],
}

test.each(Object.entries(SORTED))('%s is sorted as Postgres sorts it', (type, values) => {
  const unknown = (): never => expect.unreachable()
  const compare = comparison([{ column: 'v' }], [{ name: 'v', type }], unknown)
  const reverse = comparison([{ column: 'v', desc: true }], [{ name: 'v', type }], unknown)
  const placed = values.flatMap((value, place) => (Array.isArray(value) ? value : [value]).map((v) => ({ place, v })))
  for (const a of placed) {
    for (const b of placed) {
      expect([a.v, b.v, Math.sign(compare(a, b))]).toEqual([a.v, b.v, Math.sign(a.place - b.place)])
      expect(Math.sign(reverse(a, b))).toBe(Math.sign(b.place - a.place))
    }
    for (const [nulls, sign] of [['first', -1], ['last', 1]] as const) {
      for (const desc of [false, true]) expect(comparison([{ column: 'v', desc, nulls }], [{ name: 'v', type }], unknown)({ v: null }, a)).toBe(sign)
    }
  }
  expect(compare({ v: null }, placed[0]!)).toBe(1)
  expect(reverse({ v: null }, placed[0]!)).toBe(-1)
})

test('rows are not sorted by what only the database can compare, and that is said', async () => {
  const { talk, live } = await begun({ table: 'task', orderBy: [{ column: 'id' }, { column: 'title' }], limit: 5 })
  talk.fill([{ id: 2, title: 'ok' }, { id: 1, title: 'sad' }, { id: 1, title: 'happy' }], '0/100', { key: [], columns: [{ name: 'id', type: 'integer' }, { name: 'title', type: 'mood' }], bound: null })
  expect(live.state.rows.map(({ title }) => title)).toEqual(['sad', 'happy', 'ok'])
  expect(talk.warnings).toEqual(['task: rows are not sorted by title here, nor by what comes after it: only the database knows the order of mood'])
})
