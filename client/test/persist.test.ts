import fc from 'fast-check'
import { IDBDatabase, IDBFactory, IDBKeyRange } from 'fake-indexeddb'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { type Client, clientOn } from '../src/client.js'
import type { Dehydrated, LiveQuery } from '../src/index.js'
import { parse, parsers, sort, waitFor } from '../src/index.js'
import { type IndexedDBOptions, type Store, indexedDB, keep } from '../src/persist/index.js'
import { FakePlatform, promises } from './support/platform.js'
import type { Line } from './support/server.js'
import { COLUMNS, Talk } from './support/talk.js'
import { Traffic, sorted } from './support/traffic.js'

let leave: (() => void)[] = []

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval', 'Date'] })
  leave = []
  Object.assign(globalThis, { indexedDB: new IDBFactory(), IDBKeyRange, addEventListener: (name: string, run: () => void) => name === 'pagehide' && leave.push(run) })
})
afterEach(() => void vi.useRealTimers())

/** Lets the database do its work. */
const work = async (): Promise<void> => {
  for (let i = 0; i < 40; i++) {
    await new Promise((resolve) => setImmediate(resolve))
    await promises()
  }
}
/** The time after which results are written. */
const second = async (): Promise<void> => {
  await work()
  vi.advanceTimersByTime(1000)
  await work()
}

/** A page that comes: what it shows before there is a connection, and what it asks for. */
const page = async (options: IndexedDBOptions = {}, more: object = {}): Promise<{ talk: Talk; tasks: LiveQuery<any, any>; greet(hello?: object): Promise<any> }> => {
  const talk = new Talk({ persist: indexedDB(options), ...more })
  const tasks = talk.client.liveQuery({ table: 'task' })
  tasks.subscribe(() => {})
  await work()
  const greet = async (hello: object = {}): Promise<any> => {
    await talk.greet(hello)
    await work()
    return talk.sent.find(({ type }) => type === 'subscribe')
  }
  return { talk, tasks, greet }
}
const ROWS = [{ id: 1, title: 'a' }, { id: 2, title: 'b' }]

/** A page that was there and left. */
const past = async (options: IndexedDBOptions = {}): Promise<Talk> => {
  const { talk, greet } = await page(options)
  await greet()
  talk.fill(ROWS)
  await second()
  await talk.client.close()
  return talk
}

test('a store of one\'s own has a client keep its results there', async () => {
  const there = new Map<string, Dehydrated>()
  const store: Store = {
    load: async (name) => there.get(name),
    save: (name, { identity, key, columns, entries, shown }) => void there.set(name, { query: identity, key, columns, rows: entries.map(({ raw }) => raw), place: shown! }),
    clear: async () => there.clear(),
  }
  const first = await page({}, { persist: keep(store) })
  await first.greet()
  first.talk.fill(ROWS)
  await first.talk.client.close()
  const again = await page({}, { persist: keep(store) })
  expect([again.tasks.state.rows, again.tasks.state.status]).toEqual([ROWS, 'catching-up'])
  expect(await again.greet()).toMatchObject({ from: '0/100', epoch: 'e1' })
  await again.talk.client.setToken(null)
  expect([there.size, again.tasks.state.rows]).toEqual([0, []])
})

test('a page that comes again shows its rows at once, and gets only what changed since', async () => {
  const first = await page()
  await first.greet()
  const id = first.talk.fill(ROWS)
  await second()
  first.talk.tx('0/200', [{ id, op: 'delete', key: { id: 1 } }, { id, op: 'insert', row: { id: 3, title: 'c' } }])
  await second()

  const { talk, tasks, greet } = await page()
  expect(tasks.state).toMatchObject({ rows: [{ id: 2, title: 'b' }, { id: 3, title: 'c' }], status: 'catching-up', filled: true, position: '0/200' })
  expect(await greet()).toEqual({ type: 'subscribe', id: '1', table: 'task', from: '0/200', epoch: 'e1' })
  talk.accept('0/200')
  talk.tx('0/300', [{ id: '1', op: 'update', row: { id: 2, title: 'B' } }], { id: '1' })
  talk.say({ type: 'live', id: '1', position: '0/300' })
  expect(tasks.state).toMatchObject({ rows: [{ id: 2, title: 'B' }, { id: 3, title: 'c' }], status: 'live' })
  // And so on.
  await second()
  expect((await page()).tasks.state).toMatchObject({ rows: [{ id: 2, title: 'B' }, { id: 3, title: 'c' }], position: '0/300' })
})

test('rows are stored as they came: a parser may change', async () => {
  const columns = [{ name: 'id', type: 'bigint' }, { name: 'title', type: 'text' }]
  const first = await page({}, { parsers: parsers({ types: { int8: parse.bigint } }) })
  await first.greet()
  first.talk.fill([{ id: '9007199254740993', title: 'a' }], '0/100', { columns })
  expect(first.tasks.state.rows[0].id).toBe(9007199254740993n)
  await second()
  expect((await page({}, { parsers: parsers({ types: { int8: parse.number } }) })).tasks.state.rows[0].id).toBe(9007199254740992)
  // Numbers that come otherwise are another matter.
  expect((await page({}, { numbers: 'native' })).tasks.state.filled).toBe(false)
})

test('a part of a transaction is never stored', async () => {
  const { talk, greet } = await page()
  await greet()
  const id = talk.fill(ROWS)
  talk.tx('0/200:0', [{ id, op: 'delete', key: { id: 1 } }], { more: true })
  await second()
  leave.forEach((run) => run())
  await work()
  expect((await page()).tasks.state).toMatchObject({ rows: ROWS, position: '0/100' })
})

test('a page that is left writes at once, and how far a quiet result is', async () => {
  const { talk, greet } = await page()
  await greet()
  talk.fill(ROWS)
  await second()
  talk.say({ type: 'progress', position: '0/900' })
  leave.forEach((run) => run())
  await work()
  const again = await page()
  expect(again.tasks.state.rows).toEqual(ROWS)
  expect(await again.greet()).toMatchObject({ from: '0/900' })
  // Also one that did not change at all since it was read.
  again.talk.accept('0/900')
  again.talk.say({ type: 'live', id: '1', position: '0/900' })
  await second()
  again.talk.say({ type: 'progress', position: '0/A00' })
  vi.advanceTimersByTime(4000)
  await work()
  expect(await (await page()).greet()).toMatchObject({ from: '0/A00' })
})

test('it writes at most once a second', async () => {
  const { talk, greet } = await page()
  await greet()
  const id = talk.fill([])
  const puts = vi.spyOn(IDBDatabase.prototype, 'transaction')
  for (let i = 0; i < 50; i++) talk.tx(`0/${(0x200 + i).toString(16)}`, [{ id, op: 'insert', row: { id: i, title: 'x' } }])
  await second()
  for (let i = 0; i < 50; i++) talk.tx(`0/${(0x300 + i).toString(16)}`, [{ id, op: 'update', row: { id: i, title: 'y' } }])
  await work()
  expect(puts).toHaveBeenCalledTimes(1)
  await second()
  expect(puts).toHaveBeenCalledTimes(2)
  puts.mockRestore()
  for (let i = 0; i < 10; i++) await work()
  expect((await page()).tasks.state.rows).toHaveLength(50)
})

test('a place of another epoch is not gone on from, and rows of other columns begin anew', async () => {
  await past()
  const other = await page()
  expect(await other.greet({ epoch: 'e2' })).toMatchObject({ snapshot: true })
  other.talk.fill([{ id: 2, title: 'b' }])
  await second()
  expect((await page()).tasks.state.rows).toEqual([{ id: 2, title: 'b' }])

  const changed = await page()
  expect(await changed.greet({ epoch: 'e2' })).toMatchObject({ from: '0/100' })
  changed.talk.accept('0/100', { columns: [...COLUMNS, { name: 'more', type: 'text' }] })
  expect(changed.talk.sent.at(-1)).toMatchObject({ type: 'subscribe', snapshot: true })
})

test('what is of another user, another server or too old is not shown, and thrown away', async () => {
  await past({ scope: 'ann' })
  expect((await page({ scope: 'bob' })).tasks.state.filled).toBe(false)
  expect((await page({ scope: 'ann' })).tasks.state.filled).toBe(false)
  await past({ scope: 'ann' })
  const elsewhere = clientOn('wss://other.example.com/', { persist: indexedDB({ scope: 'ann' }) }, new FakePlatform())
  const tasks = elsewhere.liveQuery({ table: 'task' })
  tasks.subscribe(() => {})
  await work()
  expect(tasks.state.filled).toBe(false)
  vi.setSystemTime(Date.now() + 8 * 24 * 3600 * 1000)
  expect((await page({ scope: 'ann' })).tasks.state.filled).toBe(false)
})

test('who logs out leaves nothing, and rows that may not be seen any more are not kept', async () => {
  const first = await page()
  await first.greet()
  first.talk.fill(ROWS)
  await second()
  await first.talk.client.setToken(null)
  await work()
  expect((await page()).tasks.state.filled).toBe(false)

  const { talk, greet } = await page()
  await greet()
  talk.fill(ROWS)
  await second()
  // It looks what it may see now, and that is nothing.
  talk.say({ type: 'error', id: '1', code: 'forbidden', message: 'not any more' })
  talk.say({ type: 'error', id: talk.sent.at(-1).id, code: 'forbidden', message: 'no' })
  await second()
  expect((await page()).tasks.state.filled).toBe(false)
})

test('clear forgets what is stored; what changes later is stored as a whole', async () => {
  const { talk, tasks, greet } = await page()
  await greet()
  const id = talk.fill(ROWS)
  await second()
  await Promise.all([talk.client.clear(), work()])
  expect(tasks.state.rows).toEqual(ROWS)
  expect((await page()).tasks.state.filled).toBe(false)
  talk.tx('0/200', [{ id, op: 'insert', row: { id: 3, title: 'c' } }])
  await second()
  expect((await page()).tasks.state.rows).toHaveLength(3)
})

test('a result that is too large is not stored, and older ones make room', async () => {
  const options = { maxRows: 3 }
  await past(options)
  const { talk } = await page(options)
  const other = talk.client.liveQuery({ table: 'task', where: 'id > 7' })
  other.subscribe(() => {})
  await work()
  await talk.greet()
  await work()
  const [own, narrow] = talk.sent.filter(({ type }) => type === 'subscribe')
  const say = (id: string, rows: object[]): void => {
    talk.say({ type: 'subscribed', id, position: '0/100', key: ['id'], columns: COLUMNS, replica_identity: 'full', warnings: [] })
    if (rows.length > 0) talk.say({ type: 'snapshot', id, rows })
    talk.say({ type: 'live', id, position: '0/100' })
  }
  say(own.id, [])
  say(narrow.id, [8, 9].map((id) => ({ id, title: 'x' })))
  await second()
  const again = await page(options)
  const stored = again.talk.client.liveQuery({ table: 'task', where: 'id > 7' })
  stored.subscribe(() => {})
  await work()
  // What this page has is not thrown away for more of it.
  expect([again.tasks.state.rows.length, stored.state.rows.length]).toEqual([2, 0])
  await again.talk.client.close()

  const alone = new Talk({ persist: indexedDB(options) })
  const query = alone.client.liveQuery({ table: 'task', where: 'id > 8' })
  query.subscribe(() => {})
  await work()
  await alone.greet()
  await work()
  alone.fill([9, 10].map((id) => ({ id, title: 'x' })))
  await second()
  expect((await page(options)).tasks.state.filled).toBe(false)

  const large = new Talk({ persist: indexedDB(options) })
  const all = large.client.liveQuery({ table: 'task' })
  all.subscribe(() => {})
  await work()
  await large.greet()
  await work()
  large.fill([1, 2, 3, 4].map((id) => ({ id, title: 'x' })))
  await second()
  expect((await page(options)).tasks.state.filled).toBe(false)
})

test('two pages that write the same result do not mix what they know', async () => {
  const one = await page()
  await one.greet()
  const a = one.talk.fill(ROWS)
  const two = await page()
  await two.greet()
  const b = two.talk.fill(ROWS)
  one.talk.tx('0/200', [{ id: a, op: 'delete', key: { id: 1 } }])
  two.talk.tx('0/180', [{ id: b, op: 'insert', row: { id: 9, title: 'late' } }])
  await second()
  one.talk.tx('0/300', [{ id: a, op: 'insert', row: { id: 4, title: 'd' } }])
  await second()
  expect((await page()).tasks.state).toMatchObject({ rows: [{ id: 2, title: 'b' }, { id: 4, title: 'd' }], position: '0/300' })
  // Once the one is silent, the other writes all that it has.
  vi.setSystemTime(Date.now() + 20_000)
  two.talk.tx('0/200', [{ id: b, op: 'delete', key: { id: 1 } }])
  await second()
  expect((await page()).tasks.state).toMatchObject({ rows: [{ id: 2, title: 'b' }, { id: 9, title: 'late' }], position: '0/200' })
  one.talk.tx('0/400', [{ id: a, op: 'delete', key: { id: 2 } }])
  vi.setSystemTime(Date.now() + 20_000)
  await second()
  expect((await page()).tasks.state).toMatchObject({ rows: [{ id: 4, title: 'd' }], position: '0/400' })
})

test('without a database, or with one that fails or does not answer, a page works all the same', async () => {
  for (const none of [undefined, { open: () => { throw new Error('a private window') } }, { open: () => ({}) }]) {
    Object.assign(globalThis, { indexedDB: none })
    const { talk, tasks, greet } = await page()
    vi.advanceTimersByTime(1000)
    await work()
    await greet()
    talk.fill(ROWS)
    expect(tasks.state.status).toBe('live')
    await second()
    await talk.client.setToken(null)
  }
})

test('a query may be left out, and one that a page was sent along with is stored too', async () => {
  const talk = new Talk({ persist: indexedDB() })
  const own = talk.client.liveQuery({ table: 'task' }, { persist: false })
  own.subscribe(() => {})
  const dehydrated = { query: JSON.stringify({ table: 'pair' }), key: ['a', 'b'], columns: [{ name: 'a', type: 'integer' }, { name: 'b', type: 'text' }], rows: [{ a: 1, b: 'x' }], place: { position: '0/100', epoch: 'e1' } }
  const pairs = talk.client.liveQuery({ table: 'pair' }, { initial: dehydrated })
  pairs.subscribe(() => {})
  await work()
  await talk.greet()
  await work()
  const id = talk.sent.find(({ table }) => table === 'task').id
  talk.say({ type: 'subscribed', id, position: '0/100', key: ['id'], columns: COLUMNS, replica_identity: 'full', warnings: [] })
  talk.say({ type: 'live', id, position: '0/100' })
  const pair = talk.sent.find(({ table }) => table === 'pair').id
  talk.say({ type: 'subscribed', id: pair, position: '0/100', key: ['a', 'b'], columns: dehydrated.columns, replica_identity: 'full', warnings: [] })
  talk.say({ type: 'live', id: pair, position: '0/100' })
  await second()
  const again = new Talk({ persist: indexedDB() })
  const [task, both] = [again.client.liveQuery({ table: 'task' }), again.client.liveQuery({ table: 'pair' })]
  task.subscribe(() => {})
  both.subscribe(() => {})
  await work()
  expect([task.state.filled, both.state.rows]).toEqual([false, [{ a: 1, b: 'x' }]])
})

test('waitFor waits for a result that is still looked for', async () => {
  await past()
  const { talk } = await page()
  const other = talk.client.liveQuery({ table: 'task', where: 'id > 1' })
  await talk.greet()
  talk.accept()
  talk.say({ type: 'live', id: '1', position: '0/100' })
  other.subscribe(() => {})
  let reached: string | undefined
  void waitFor(talk.client, '0/100').then((position) => (reached = position))
  await promises()
  expect(reached).toBeUndefined()
  await work()
  talk.fill([])
  await promises()
  expect(reached).toBe('0/100')
})

test('the example of the README', async () => {
  // @ts-expect-error Made by the configuration of the tests.
  const { client } = await import('snippet:client/README.md/11')
  const opened = vi.spyOn(globalThis.indexedDB, 'open')
  client.liveQuery({ table: 'task' }).subscribe(() => {})
  expect(opened).toHaveBeenCalledWith('walcast', 1)
  await client.close()
})

test('whatever is stored is a state that the database had, and goes on from there', async () => {
  const command = fc.record({ do: fc.constantFrom('commit', 'commit', 'step', 'step', 'step', 'second', 'leave', 'reload', 'cut', 'break', 'prune'), n: fc.nat({ max: 1000 }) })
  await fc.assert(
    fc.asyncProperty(fc.array(command, { minLength: 10, maxLength: 60 }), fc.constantFrom('frame' as const, 'transaction' as const), async (commands, batch) => {
      Object.assign(globalThis, { indexedDB: new IDBFactory() })
      leave = []
      const traffic = new Traffic()
      const { server } = traffic
      const queries = [{ table: 'left' }, { table: 'left', where: 'grp = $1', params: ['a'] }, { table: 'log' }, { table: 'left', orderBy: [{ column: 'amount', desc: true }], limit: 2 }]
      let platform!: FakePlatform
      let client!: Client
      let live: LiveQuery<Line, unknown>[] = []
      const check = (): void => {
        live.forEach((query, i) => {
          if (!query.state.filled) return
          const { position, epoch, bound } = query.dehydrate()!.place
          expect(query.state.status).not.toBe('error')
          expect(sorted(query.state.rows)).toEqual(sorted(server.result(queries[i]!, position, epoch, bound)))
        })
      }
      const load = async (): Promise<void> => {
        platform = new FakePlatform()
        platform.onSocket = (socket) => void server.accept(socket)
        client = clientOn('ws://reference/', { batch, sort, persist: indexedDB() }, platform)
        live = queries.map((query) => client.liveQuery(query) as unknown as LiveQuery<Line, unknown>)
        for (const query of live) query.onChange(check)
        await work()
        check()
      }
      await load()
      for (const { do: what, n } of commands) {
        if (what === 'commit') traffic.commit(n)
        else if (what === 'step') for (let i = 0; i < 1 + (n % 9) && server.connection?.step((k) => (k === 0 ? 0 : n % k)); i++) await promises()
        else if (what === 'second') {
          platform.pass(1000)
          await second()
        } else if (what === 'cut') {
          server.cut()
          platform.pass(40_000)
        } else if (what === 'break') server.break(n % 3)
        else if (what === 'prune') server.prune(n % 4)
        else if (what === 'reload' || what === 'leave') {
          if (what === 'leave') leave.forEach((run) => run())
          await work()
          await client.close()
          leave = []
          // Pages stay away for a while.
          vi.setSystemTime(Date.now() + (n % 3) * 6000)
          await load()
        }
        if (n % 3 === 0) platform.paint()
        await promises()
        check()
      }
      for (let i = 0; i < 40; i++) {
        while (server.connection?.step((k) => (k === 0 ? 0 : i % k))) await promises()
        platform.paint()
        platform.pass(2000)
        await promises()
      }
      live.forEach((query, i) => {
        expect(query.state.status).toBe('live')
        expect(sorted(query.state.rows)).toEqual(sorted(server.result(queries[i]!, server.position, server.history.epoch, query.dehydrate()!.place.bound)))
      })
      await client.close()
    }),
    { numRuns: Number(process.env.RUNS ?? 40), ...(process.env.SEED !== undefined && { seed: Number(process.env.SEED) }), endOnFailure: false },
  )
}, 300_000)
