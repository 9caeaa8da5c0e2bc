import * as newest from '@tanstack/db'
import * as v from 'valibot'
import { afterEach, beforeEach, describe, expect, expectTypeOf, test, vi } from 'vitest'
import { parsers } from '../src/index.js'
import { walcastCollectionOptions } from '../src/tanstack-db/index.js'
import { promises } from './support/platform.js'
import { COLUMNS, Talk, type Task } from './support/talk.js'
import { CORES, changesOf, eager, plain } from './support/tanstack-db.js'

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] }))
afterEach(() => void vi.useRealTimers())

/** A result of a table, as a page is sent along with it. */
const initial = { query: JSON.stringify({ table: 'task' }), key: ['id'], columns: COLUMNS, rows: [{ id: 1, title: 'a' }], place: { position: '0/100', epoch: 'e1' } }

describe.each(CORES)('with the %s @tanstack/db', (_, db) => {
  test('a collection is ready once it is live, and moves by whole transactions', async () => {
    const talk = new Talk()
    const tasks = eager(db, talk)
    const commits = changesOf(tasks)
    await talk.greet()
    const id = talk.accept()
    talk.say({ type: 'snapshot', id, rows: [{ id: 1, title: 'a' }, { id: 2, title: 'b' }] })
    await promises()
    expect([tasks.status, tasks.size, tasks.utils.status()]).toEqual(['loading', 0, 'snapshot'])
    talk.say({ type: 'live', id, position: '0/100' })
    await promises()
    expect([tasks.status, tasks.utils.status(), tasks.utils.position()]).toEqual(['ready', 'live', '0/100'])
    expect(plain(tasks.values())).toEqual([{ id: 1, title: 'a' }, { id: 2, title: 'b' }])
    talk.tx('0/200', [{ id, op: 'insert', row: { id: 3, title: 'c' } }], { more: true })
    await promises()
    expect(tasks.size).toBe(2)
    talk.tx('0/200', [{ id, op: 'update', row: { id: 1, title: 'A' } }, { id, op: 'delete', key: { id: 2 } }, { id, op: 'update', row: { id: 4, title: 'c' }, key: { id: 3 } }])
    await promises()
    expect(commits.map((commit) => commit.sort())).toEqual([['insert 1', 'insert 2'], ['delete 2', 'insert 4', 'update 1']])
    expect(plain(tasks.values())).toEqual([{ id: 1, title: 'A' }, { id: 4, title: 'c' }])
    expect(tasks.utils.position()).toBe('0/200')
  })

  test('a restart is one difference: rows that stay are never gone', async () => {
    const talk = new Talk()
    const tasks = eager(db, talk)
    const commits = changesOf(tasks)
    await talk.greet()
    const id = talk.fill([{ id: 1, title: 'a' }, { id: 2, title: 'b' }])
    await promises()
    talk.say({ type: 'error', id, code: 'schema_changed', message: 'changed' })
    await promises()
    expect([tasks.size, tasks.utils.status()]).toEqual([2, 'catching-up'])
    talk.fill([{ id: 2, title: 'b' }, { id: 3, title: 'c' }], '0/300')
    await promises()
    expect(commits.slice(1).map((commit) => commit.sort())).toEqual([['delete 1', 'insert 3']])
    expect(tasks.utils.status()).toBe('live')
  })

  test('a final error before the first result fails the collection with its cause; later the rows stay', async () => {
    const talk = new Talk()
    const tasks = eager(db, talk)
    const loaded = tasks.preload().catch((error: unknown) => error)
    await talk.greet()
    const { id } = talk.sent.at(-1)
    talk.say({ type: 'error', id, code: 'unknown_table', message: 'no such table' })
    expect(await loaded).toMatchObject({ name: 'WalcastError', code: 'unknown_table' })
    expect([tasks.status, tasks.utils.status()]).toEqual(['error', 'error'])
    // It can be tried again.
    talk.client.connect()
    talk.fill([{ id: 1, title: 'a' }])
    await promises()
    expect([tasks.status, tasks.size]).toEqual(['ready', 1])

    const other = new Talk()
    const kept = eager(db, other)
    kept.subscribeChanges(() => {})
    await other.greet()
    const again = other.fill([{ id: 1, title: 'a' }])
    await promises()
    other.say({ type: 'error', id: again, code: 'database_refused', message: 'no rights' })
    await promises()
    expect([kept.status, kept.size, kept.utils.status()]).toEqual(['ready', 1, 'error'])
  })

  test('a refused token fails a collection that has nothing yet', async () => {
    const talk = new Talk({ token: () => null })
    const tasks = eager(db, talk)
    const loaded = tasks.preload().catch((error: unknown) => error)
    await promises()
    talk.socket.accept()
    talk.say({ type: 'error', code: 'unauthenticated', message: 'a token is needed' })
    talk.socket.end(4500)
    await promises()
    if (talk.client.connection.name !== 'needs-token') {
      talk.platform.pass(1000)
      await promises()
      talk.socket.accept()
      talk.socket.end(4500)
    }
    await promises()
    expect(await loaded).toMatchObject({ name: 'WalcastError' })
    expect(tasks.status).toBe('error')
  })

  test('what a handler returns is waited for: the optimistic change stays until the write is there', async () => {
    const talk = new Talk()
    const tasks = eager(db, talk, { onInsert: async () => ({ position: '0/200' }), onDelete: async () => {} })
    tasks.subscribeChanges(() => {})
    await talk.greet()
    const id = talk.fill([])
    await promises()
    const written = tasks.insert({ id: 1, title: 'a' })
    await promises()
    expect(talk.sent.at(-1)).toEqual({ type: 'ping', ref: '0/200', reach: '0/200' })
    expect([tasks.size, written.state]).toEqual([1, 'persisting'])
    talk.tx('0/1F0', [{ id, op: 'insert', row: { id: 1, title: 'a, by a trigger' } }])
    talk.say({ type: 'pong', ref: '0/200', position: '0/200' })
    await written.isPersisted.promise
    expect(plain(tasks.values())).toEqual([{ id: 1, title: 'a, by a trigger' }])
    // One that returns nothing is not waited for.
    await tasks.delete(1).isPersisted.promise
    expect(tasks.size).toBe(1)
  })

  test('a write that is waited for in vain was written all the same; one at no place failed', async () => {
    const talk = new Talk()
    const tasks = eager(db, talk, { onInsert: async () => ({ position: '0/200' }) })
    tasks.subscribeChanges(() => {})
    await talk.greet()
    talk.fill([])
    await promises()
    const written = tasks.insert({ id: 1, title: 'a' })
    await promises()
    talk.platform.pass(31_000)
    await written.isPersisted.promise

    const other = new Talk()
    const others = eager(db, other, { onInsert: async () => ({ position: '0/200' }) })
    others.subscribeChanges(() => {})
    await other.greet()
    other.fill([])
    await promises()
    const failed = others.insert({ id: 2, title: 'b' }).isPersisted.promise.catch((error: unknown) => error)
    await promises()
    other.say({ type: 'error', ref: '0/200', code: 'resume_invalid', message: 'nobody has written so far' })
    expect(await failed).toMatchObject({ code: 'resume_invalid' })
    expect(others.size).toBe(0)
    expect(await others.utils.waitFor('0/100')).toBe('0/100')
  })

  test('a collection that was sent along with a page goes on from there', async () => {
    const upper = parsers({ types: { text: (text: string) => text.toUpperCase() } })
    const collectionOf = (talk: Talk, client: any) =>
      client.collection(db.collectionOptions({ id: 'tasks', ...walcastCollectionOptions({ client: talk.client, query: { table: 'task' }, getKey: (task) => task.id }) } as any)) as ReturnType<typeof eager>
    const server = new Talk({ parsers: upper })
    const renders = new db.DbClient()
    const there = collectionOf(server, renders)
    there.subscribeChanges(() => {})
    await server.greet()
    server.fill([{ id: 1, title: 'a' }, { id: 2, title: 'b' }])
    await promises()
    const page = JSON.parse(JSON.stringify(renders.dehydrate()))
    // The rows are those of the collection, and as they came beside them where a parser changed them.
    const { syncMeta: meta, rows } = page.collections[0]
    expect(meta).toMatchObject({ key: ['id'], place: { position: '0/100', epoch: 'e1' }, size: 2 })
    expect(meta.rows).toBeUndefined()
    expect(rows).toEqual([{ key: 1, value: { id: 1, title: 'A' }, metadata: { id: 1, title: 'a' } }, { key: 2, value: { id: 2, title: 'B' }, metadata: { id: 2, title: 'b' } }])

    const talk = new Talk({ parsers: upper })
    const reads = new db.DbClient()
    reads.hydrate(page)
    const here = collectionOf(talk, reads)
    const commits: string[][] = []
    here.subscribeChanges((changes) => void commits.push(changes.map(({ type, key }) => `${type} ${key}`)), { includeInitialState: true })
    await promises()
    expect([here.status, here.size, here.utils.status()]).toEqual(['ready', 2, 'catching-up'])
    await talk.greet()
    expect(talk.sent.at(-1)).toMatchObject({ type: 'subscribe', from: '0/100', epoch: 'e1' })
    const id = talk.accept()
    talk.tx('0/110', [{ id, op: 'delete', key: { id: 1 } }], { id })
    talk.say({ type: 'live', id, position: '0/110' })
    await promises()
    // They need not be written again.
    expect(commits.filter((commit) => commit.length > 0)).toEqual([['insert 1', 'insert 2'], ['delete 1']])
    expect(here.config.sync.exportSyncMeta!()).toMatchObject({ place: { position: '0/110' }, size: 1 })
    // Of two, the later one of the same history; else what runs here.
    const merge = here.config.sync.mergeSyncMeta!
    const later = { ...meta, place: { ...meta.place, position: '0/F00' } }
    expect(merge(meta, later)).toBe(later)
    expect(merge(later, meta)).toBe(later)
    expect(merge(meta, { ...later, place: { ...later.place, epoch: 'e2' } })).toBe(meta)
    expect(merge(undefined, meta)).toBe(meta)
  })

  test('a result that a collection is given is there before the connection, and outlives that it is cleaned up', async () => {
    const talk = new Talk()
    const tasks = eager(db, talk, { initial })
    tasks.subscribeChanges(() => {}).unsubscribe()
    await promises()
    expect([tasks.status, tasks.size, tasks.utils.position()]).toEqual(['ready', 1, '0/100'])
    await tasks.cleanup()
    expect(tasks.size).toBe(0)
    tasks.subscribeChanges(() => {})
    await promises()
    expect([tasks.status, tasks.size, tasks.utils.position()]).toEqual(['ready', 1, '0/100'])
    // Who logs out takes it along.
    await talk.client.setToken(null)
    await promises()
    expect([tasks.size, tasks.config.sync.exportSyncMeta!()]).toEqual([0, undefined])
    await tasks.cleanup()
    tasks.subscribeChanges(() => {})
    await promises()
    expect([tasks.status, tasks.size]).toEqual(['loading', 0])
  })

  test('what a collection had that nobody uses is not there for who logs in next', async () => {
    const talk = new Talk()
    const used = eager(db, talk, { initial })
    used.subscribeChanges(() => {}).unsubscribe()
    await promises()
    expect(used.size).toBe(1)
    await used.cleanup()
    const unused = eager(db, talk, { initial })
    await talk.client.setToken(null)
    for (const tasks of [used, unused]) {
      expect(tasks.config.sync.exportSyncMeta!()).toBeUndefined()
      tasks.subscribeChanges(() => {})
      await promises()
      expect([tasks.status, tasks.size]).toEqual(['loading', 0])
    }
  })

  test('a core or a wrapper without metadata is none the worse', async () => {
    const talk = new Talk()
    const { sync, ...options } = walcastCollectionOptions({ client: talk.client, query: { table: 'task' }, getKey: (task) => task.id })
    const tasks = db.createCollection({ ...options, sync: { ...sync, sync: ({ metadata: _, ...controls }: any) => sync.sync(controls) } } as any)
    tasks.subscribeChanges(() => {})
    await talk.greet()
    const id = talk.fill([{ id: 1, title: 'a' }])
    await promises()
    talk.tx('0/200', [{ id, op: 'update', row: { id: 1, title: 'A' } }])
    await promises()
    expect(plain(tasks.values())).toEqual([{ id: 1, title: 'A' }])
  })

  test('rows of a page that are not in the result any more leave it', async () => {
    const talk = new Talk()
    const client = new db.DbClient()
    client.hydrate({ collections: [{ collectionId: 'tasks', rows: [{ key: 1, value: { id: 1, title: 'a' } }, { key: 9, value: { id: 9, title: 'old' } }] as any, syncMeta: undefined }] } as any)
    const descriptor = db.collectionOptions ? db.collectionOptions({ id: 'tasks', ...walcastCollectionOptions({ client: talk.client, query: { table: 'task' }, getKey: (task) => task.id }) } as any) : undefined
    const tasks = client.collection(descriptor as any) as any
    tasks.subscribeChanges(() => {})
    expect(tasks.size).toBe(2)
    await talk.greet()
    talk.fill([{ id: 1, title: 'a' }, { id: 2, title: 'b' }])
    await promises()
    expect(plain(tasks.values())).toEqual([{ id: 1, title: 'a' }, { id: 2, title: 'b' }])
  })
})

test('a collection may be the first rows of an order; on demand its own queries have orders', async () => {
  const talk = new Talk()
  const config = { client: talk.client, query: { table: 'task', orderBy: [{ column: 'id' }], limit: 2 }, getKey: (task: Task) => task.id } as const
  const tasks = newest.createCollection(walcastCollectionOptions(config))
  void tasks.preload()
  await talk.greet({ features: ['reach', 'range'] })
  expect(talk.sent).toMatchObject([{ order_by: [{ column: 'id' }], limit: 2, snapshot: true }])
  talk.fill([{ id: 1, title: 'a' }], '0/100', { bound: null })
  await promises()
  expect(tasks.size).toBe(1)
  expect(() => walcastCollectionOptions({ ...config, syncMode: 'on-demand' })).toThrow('a collection on demand has no order')
})

test('a schema says what may be written, and what the types of rows are', async () => {
  const schema = v.object({ id: v.number(), title: v.pipe(v.string(), v.nonEmpty('a title is needed')), tags: v.optional(v.array(v.string()), []) })
  const talk = new Talk()
  const written: v.InferOutput<typeof schema>[] = []
  const tasks = newest.createCollection(
    walcastCollectionOptions({
      client: talk.client,
      query: { table: 'task' },
      schema,
      getKey: ({ id }) => id,
      onInsert: async ({ transaction }) => void written.push(transaction.mutations[0].modified),
    }),
  )
  expectTypeOf(tasks.toArray[0]).toExtend<{ id: number; title: string; tags: string[] } | undefined>()
  expectTypeOf(tasks.get).parameter(0).toEqualTypeOf<number>()
  expectTypeOf(tasks.utils.waitFor).returns.toEqualTypeOf<Promise<string>>()
  tasks.subscribeChanges(() => {})
  await talk.greet()
  talk.fill([{ id: 1, title: null }])
  await promises()
  // Rows of the database are as they are.
  expect(plain(tasks.values())).toEqual([{ id: 1, title: null }])
  await tasks.insert({ id: 2, title: 'b' }).isPersisted.promise
  expect(written).toEqual([{ id: 2, title: 'b', tags: [] }])
  expect(() => tasks.insert({ id: 3, title: '' })).toThrow('a title is needed')
  // @ts-expect-error There is no such column in the schema.
  expect(() => tasks.insert({ id: 4, tilte: 'd' })).toThrow()
})

test('the example of the README', async () => {
  vi.useRealTimers()
  const said: any[] = []
  class Socket {
    readyState = 1
    onopen: (() => void) | null = null
    onmessage: ((event: { data: string }) => void) | null = null
    onclose = null
    onerror = null
    constructor() {
      setTimeout(() => {
        this.onopen?.()
        this.#say({ type: 'hello', protocol: 1, server: 'walcast/1', database: 'shop', epoch: 'e', position: '0/1', earliest: '0/1', features: ['reach'] })
      })
    }
    send(text: string): void {
      const { type, id, ref, reach, ...query } = JSON.parse(text)
      said.push({ type, ...query })
      if (reach) this.#say({ type: 'tx', position: reach, xid: 7, ts: '', changes: [{ id: said.length > 0 ? '1' : '', seq: 0, op: 'insert', row: { id: 2, status: 'paid' } }] })
      if (type === 'ping') return this.#say({ type: 'pong', ref, position: reach })
      if (type !== 'subscribe') return
      this.#say({ type: 'subscribed', id, position: '0/1', key: ['id'], columns: [{ name: 'id', type: 'integer' }, { name: 'status', type: 'text' }], replica_identity: 'full', warnings: [] })
      this.#say({ type: 'snapshot', id, rows: [{ id: 1, status: 'paid' }] })
      this.#say({ type: 'live', id, position: '0/1' })
    }
    close(): void {}
    #say(frame: object): void {
      setTimeout(() => this.onmessage?.({ data: JSON.stringify(frame) }))
    }
  }
  vi.stubGlobal('WebSocket', Socket)
  vi.stubGlobal('fetch', async () => new Response('{"position":"0/9"}'))
  // @ts-expect-error Made by the configuration of the tests.
  const { orders } = await import('snippet:client/README.md/10')
  const paid = newest.createLiveQueryCollection((query: any) => query.from({ order: orders }).where(({ order }: any) => newest.eq(order.status, 'paid')))
  await paid.preload()
  expect(said).toEqual([{ type: 'subscribe', table: 'orders', where: '"status" = $1', params: ['paid'], snapshot: true }])
  expect(plain(paid.values())).toEqual([{ id: 1, status: 'paid' }])
  await orders.insert({ id: 2, status: 'paid' }).isPersisted.promise
  expect(plain(paid.values())).toEqual([{ id: 1, status: 'paid' }, { id: 2, status: 'paid' }])
  vi.unstubAllGlobals()
})
