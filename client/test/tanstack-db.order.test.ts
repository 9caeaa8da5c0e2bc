import * as db from '@tanstack/db'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { promises } from './support/platform.js'
import { Talk } from './support/talk.js'
import { eager, plain, soon } from './support/tanstack-db.js'

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] }))
afterEach(() => void vi.useRealTimers())

const FEATURES = { features: ['reach', 'range'] }
const rows = (...ids: number[]): object[] => ids.map((id) => ({ id, title: `t${id % 2}` }))

/** The first two tasks by a column, of a collection on demand. */
function first(talk: Talk, column: string, more: object = {}, where: (task: any) => any = (task) => db.gt(task.id, 0)) {
  const tasks = eager(db, talk, { syncMode: 'on-demand', autoIndex: 'eager', defaultIndexType: db.BTreeIndex, ...more })
  const list = db.createLiveQueryCollection((query: any) =>
    query
      .from({ task: tasks })
      .where(({ task }: any) => where(task))
      .orderBy(({ task }: any) => task[column], 'desc')
      .limit(2),
  ) as any
  return { tasks, list, loaded: list.preload() as Promise<void>, shown: () => plain(list.toArray).map(({ id }) => id) }
}
const asked = (talk: Talk): any[] => talk.sent.filter(({ type }) => type === 'subscribe').map(({ where, params, order_by, limit }) => [where, params, order_by?.[0], limit])
const BY_ID = { column: 'id', desc: true }

test('the first rows of an order are a range, and what is missing is asked for when rows leave it', async () => {
  const talk = new Talk()
  const { tasks, list, loaded, shown } = first(talk, 'id')
  await soon()
  await talk.greet(FEATURES)
  const id = talk.fill(rows(9, 8), '0/100', { bound: [8] })
  await loaded
  await soon()
  expect([shown(), tasks.size]).toEqual([[9, 8], 2])
  // Rows that tie with the last one are there.
  expect(asked(talk)).toEqual([['"id" > $1', [0], BY_ID, 2]])
  talk.take()
  talk.tx('0/200', [{ id, op: 'insert', row: { id: 10, title: 'new' } }])
  await soon()
  expect(shown()).toEqual([10, 9])
  talk.tx('0/300', [{ id, op: 'delete', key: { id: 10 } }, { id, op: 'delete', key: { id: 9 } }])
  await soon()
  // More than before: the same range is short.
  expect(asked(talk)).toEqual([['"id" > $1', [0], BY_ID, 12]])
  talk.fill(rows(8, 7, 6), '0/300', { bound: null })
  await soon()
  expect(shown()).toEqual([8, 7])
  const moved = list.utils.setWindow({ offset: 1, limit: 2 })
  await soon()
  await moved
  expect(shown()).toEqual([7, 6])
})

test('a further page begins beyond the last row that is there', async () => {
  const talk = new Talk()
  const { list, loaded, shown } = first(talk, 'id')
  await soon()
  await talk.greet(FEATURES)
  talk.fill(rows(9, 8), '0/100', { bound: [8] })
  await loaded
  talk.take()
  const moved = list.utils.setWindow({ offset: 2, limit: 2 })
  await soon()
  expect(asked(talk)).toEqual([['"id" > $1 AND "id" < $2', [0, 8], BY_ID, expect.any(Number)]])
  talk.fill(rows(7, 6), '0/100', { bound: [6] })
  await soon()
  await moved
  expect(shown()).toEqual([7, 6])
})

test.each([
  ['a type that has another order here', { columns: [{ name: 'id', type: 'numeric' }, { name: 'title', type: 'text' }] }, {}],
  ['a text beyond which the orders differ', {}, { bound: ['\u{1f600}'] }],
])('%s: then all rows of the condition come', async (_, described, more) => {
  const talk = new Talk()
  const { loaded, shown, tasks } = first(talk, 'bound' in more ? 'title' : 'id')
  await soon()
  await talk.greet(FEATURES)
  talk.fill(rows(9, 8), '0/100', { bound: [8], ...described, ...more })
  await soon()
  expect(asked(talk).slice(1)).toEqual([['"id" > $1', [0], undefined, undefined]])
  talk.fill(rows(9, 8, 7), '0/100', described)
  await loaded
  await soon()
  expect([shown().length, tasks.size]).toEqual([2, 3])
  // It is known from now on.
  talk.take()
  expect(asked(talk)).toEqual([])
})

test('so they do where the server refuses the order, or the collection filters by itself', async () => {
  const talk = new Talk()
  const { loaded, shown } = first(talk, 'title')
  await soon()
  await talk.greet(FEATURES)
  const { id } = talk.sent.at(-1)
  talk.say({ type: 'error', id, code: 'bad_predicate', message: 'the rows cannot be kept in the order of "order_by"' })
  await soon()
  talk.fill(rows(9, 8, 7))
  await loaded
  expect(shown().sort()).toEqual([7, 9])
  expect(asked(talk).map(([, , order]) => order?.column)).toEqual(['title', undefined])

  const other = new Talk()
  const own = first(other, 'id', {}, (task) => db.eq(db.lower(task.title), 't1'))
  await soon()
  await other.greet(FEATURES)
  expect(asked(other)).toEqual([[undefined, undefined, undefined, undefined]])
  other.fill(rows(9, 8, 7))
  await own.loaded
  expect(own.shown()).toEqual([9, 7])
})

test('a range that begins anew may end elsewhere: then the collection looks again', async () => {
  const talk = new Talk()
  const { loaded, shown } = first(talk, 'id')
  await soon()
  await talk.greet(FEATURES)
  const id = talk.fill(rows(5, 4), '0/100', { bound: [4] })
  await loaded
  await soon()
  talk.say({ type: 'error', id, code: 'schema_changed', message: 'changed' })
  await promises()
  talk.fill(rows(9, 8), '0/300', { bound: [8] })
  await soon()
  expect(shown()).toEqual([9, 8])
})
