import { expectTypeOf, test } from 'vitest'
import NodeSocket from 'ws'
import { type ChangeEvent, type SchemaOf, type SocketClass, changes, createClient, sort, sql } from '../src/index.js'
import { createHooks } from '../src/react/index.js'

interface Order {
  id: number
  status: 'open' | 'paid'
  amount: string
}
interface Schema {
  orders: { row: Order; key: 'id' }
  pair: { row: { a: number; b: string; c: boolean }; key: 'a' | 'b' }
  'audit.log': { row: { line: string }; key: never }
}
const schema: SchemaOf<Schema> = { tables: { orders: { key: ['id'], columns: { id: 'integer' } } } }

test('rows have the types of their table and columns, and keys those of their columns', () => {
  const client = createClient('ws://127.0.0.1/', { schema, sort, connect: 'manual' })
  const orders = client.liveQuery({ table: 'orders', where: sql`amount > ${1n}` })
  expectTypeOf(orders.state.rows).toEqualTypeOf<readonly Pick<Order, 'id' | 'status' | 'amount'>[]>()
  expectTypeOf(orders.get).parameter(0).toEqualTypeOf<number>()
  // The key always comes along.
  expectTypeOf(client.liveQuery({ table: 'orders', columns: ['status'] }).state.rows[0]!).toEqualTypeOf<Pick<Order, 'id' | 'status'>>()
  expectTypeOf(client.liveQuery({ table: 'orders' }, { map: (row) => row.amount.length }).state.rows).toEqualTypeOf<readonly number[]>()
  expectTypeOf(client.liveQuery({ table: 'pair' }).get).parameter(0).toEqualTypeOf<readonly unknown[]>()
  expectTypeOf(client.liveQuery({ table: 'audit.log' }).get).parameter(0).toBeNever()
  const first = client.liveQuery({ table: 'orders', columns: ['status'], orderBy: [{ column: 'amount', desc: true, nulls: 'last' }, { column: 'id' }], limit: 10 })
  expectTypeOf(first.state.rows[0]!).toEqualTypeOf<Pick<Order, 'id' | 'status'>>()
  // @ts-expect-error There is no such column to order by.
  client.liveQuery({ table: 'orders', orderBy: [{ column: 'amuont' }], limit: 10 })
  // @ts-expect-error There is no such order.
  client.liveQuery({ table: 'orders', orderBy: [{ column: 'amount', nulls: 'middle' }], limit: 10 })
  // @ts-expect-error There is no such table.
  client.liveQuery({ table: 'order' })
  // @ts-expect-error There is no such column.
  client.liveQuery({ table: 'orders', columns: ['statsu'] })
})

test('changes have them, too', () => {
  const client = createClient('ws://127.0.0.1/', { schema, connect: 'manual' })
  expectTypeOf(changes(client, { table: 'orders', columns: ['status'] })).toEqualTypeOf<AsyncIterableIterator<ChangeEvent<Pick<Order, 'id' | 'status'>>>>()
  // @ts-expect-error There is no such table.
  changes(client, { table: 'order' })
  // @ts-expect-error There is no such column.
  changes(client, { table: 'orders', columns: ['statsu'] })
})

test('hooks have them, too', () => {
  const { useLiveQuery, useRow } = createHooks<Schema>()
  const component = (): void => {
    expectTypeOf(useLiveQuery({ table: 'orders', columns: ['status'] }).rows[0]!).toEqualTypeOf<Pick<Order, 'id' | 'status'>>()
    expectTypeOf(useLiveQuery({ table: 'orders' }, { select: ({ rows }) => rows.length })).toEqualTypeOf<number>()
    expectTypeOf(useLiveQuery({ table: 'orders' }, { map: ({ id }) => id, select: ({ rows }) => rows[0] })).toEqualTypeOf<number | undefined>()
    expectTypeOf(useRow({ table: 'orders' }, 5)!.amount).toEqualTypeOf<string>()
    expectTypeOf(useLiveQuery({ table: 'orders', orderBy: [{ column: 'id' }], limit: 1 }).rows[0]!).toEqualTypeOf<Pick<Order, 'id' | 'status' | 'amount'>>()
    // @ts-expect-error The key is a number.
    useRow({ table: 'orders' }, 'five')
  }
  expectTypeOf(component).toBeFunction()
})

test('without a schema, rows are what they are', () => {
  const client = createClient('ws://127.0.0.1/', { connect: 'manual' })
  const rows = client.liveQuery({ table: 'anything', columns: ['a'] }).state.rows
  expectTypeOf(rows[0]?.['a']).toBeAny()
})

test('the classes of browsers and of ws are classes of sockets', () => {
  expectTypeOf<typeof WebSocket>().toExtend<SocketClass>()
  expectTypeOf<typeof NodeSocket>().toExtend<SocketClass>()
})
