import { persistedCollectionOptions } from '@tanstack/db-sqlite-persistence-core'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { parsers } from '../src/index.js'
import { walcastCollectionOptions } from '../src/tanstack-db/index.js'
import { Store } from './support/store.js'
import { Talk, type Task } from './support/talk.js'
import { CORES, changesOf, eager, plain, soon } from './support/tanstack-db.js'

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] }))
afterEach(() => void vi.useRealTimers())

/** TanStack's own package keeps the rows of a collection, and the place that is noted with them. */
describe.each(CORES)('kept by TanStack, with the %s @tanstack/db', (_, db) => {
  const kept = (talk: Talk, store: Store, more: object = {}) => {
    const options = walcastCollectionOptions({ client: talk.client, query: { table: 'task' }, getKey: (task) => task.id, ...more })
    return db.createCollection(persistedCollectionOptions({ id: 'tasks', ...options, persistence: { adapter: store } } as any) as any) as unknown as ReturnType<typeof eager>
  }
  /** A page: it has these rows, and is closed. */
  const page = async (store: Store, rows: readonly Task[], talk = new Talk(), more: object = {}): Promise<void> => {
    const tasks = kept(talk, store, more)
    tasks.subscribeChanges(() => {})
    await soon()
    await talk.greet()
    talk.fill(rows)
    await soon()
    expect([tasks.status, tasks.size]).toEqual(['ready', rows.length])
    await talk.client.close()
  }
  const AB = [{ id: 1, title: 'a' }, { id: 2, title: 'b' }]

  test('the place is written in the transaction of the rows', async () => {
    const store = new Store()
    const talk = new Talk()
    const tasks = kept(talk, store)
    tasks.subscribeChanges(() => {})
    await soon()
    await talk.greet()
    const id = talk.fill(AB)
    await soon()
    talk.tx('0/200', [{ id, op: 'delete', key: { id: 1 } }])
    await soon()
    const done = store.transactions.map(({ mutations, collectionMetadataMutations }) => [mutations.map(({ type, key }) => `${type} ${key}`), collectionMetadataMutations?.map((each: any) => [each.key, each.value.place.position, each.value.size])])
    expect(done).toEqual([
      [['update 1', 'update 2'], [['walcast:result', '0/100', 2]]],
      [['delete 1'], [['walcast:result', '0/200', 1]]],
    ])
  })

  test('a page that comes again shows the rows at once, and gets what changed since', async () => {
    const store = new Store()
    await page(store, AB)
    store.transactions.length = 0
    const talk = new Talk()
    const tasks = kept(talk, store)
    const commits = changesOf(tasks)
    await soon()
    expect([tasks.status, plain(tasks.values()), tasks.utils.status(), tasks.utils.position()]).toEqual(['ready', AB, 'catching-up', '0/100'])
    // What is stored is not written again.
    expect(store.transactions.flatMap(({ mutations }) => mutations)).toEqual([])
    await talk.greet()
    expect(talk.sent.at(-1)).toMatchObject({ type: 'subscribe', table: 'task', from: '0/100', epoch: 'e1' })
    const id = talk.accept()
    talk.tx('0/110', [{ id, op: 'update', row: { id: 2, title: 'B' } }], { id })
    talk.say({ type: 'live', id, position: '0/110' })
    await soon()
    expect(commits.at(-1)).toEqual(['update 2'])
    expect(plain(tasks.values())).toEqual([AB[0], { id: 2, title: 'B' }])
    expect(store.place).toEqual({ position: '0/110', epoch: 'e1' })
  })

  test('what parsers make of values is stored beside the rows as they came', async () => {
    const options = { parsers: parsers({ columns: { task: { title: (text: string) => new Date(text) } } }) }
    const store = new Store()
    const row = (id: number, day: number) => ({ id, title: `2026-01-0${day}T00:00:00+00:00` })
    await page(store, [row(1, 1), { id: 2, title: null }], new Talk(options))
    expect([...store.rowMetadata]).toEqual([[1, row(1, 1)]])
    const talk = new Talk(options)
    const tasks = kept(talk, store)
    tasks.subscribeChanges(() => {})
    await soon()
    expect((tasks.get(1) as any).title).toEqual(new Date('2026-01-01T00:00:00Z'))
    await talk.greet()
    const id = talk.accept()
    // Its values are as they were but for those that are said.
    talk.tx('0/110', [{ id, op: 'update', row: { id: 3 }, key: { id: 1 }, unchanged: ['title'] }, { id, op: 'update', row: row(2, 2) }], { id })
    talk.say({ type: 'live', id, position: '0/110' })
    await soon()
    expect(plain(tasks.values())).toEqual([{ id: 2, title: new Date('2026-01-02T00:00:00Z') }, { id: 3, title: new Date('2026-01-01T00:00:00Z') }])
    expect([...store.rowMetadata]).toEqual([[2, row(2, 2)], [3, row(3, 1)]])
    talk.tx('0/120', [{ id, op: 'update', row: { id: 2, title: null } }])
    await soon()
    expect([...store.rowMetadata.keys()]).toEqual([3])
  })

  test.each([
    ['another predicate', { query: { table: 'task', where: 'id > 1' } }, {}],
    ['a row less than there were', {}, { lost: 1 }],
  ])('%s: the result begins anew, and replaces what is stored in one commit', async (_, more, { lost }: { lost?: number }) => {
    const store = new Store()
    await page(store, AB)
    if (lost) store.rows.delete(lost)
    const talk = new Talk()
    const tasks = kept(talk, store, more)
    const commits = changesOf(tasks)
    await soon()
    await talk.greet()
    expect(talk.sent.at(-1)).toMatchObject({ type: 'subscribe', snapshot: true })
    commits.length = 0
    talk.fill([{ id: 2, title: 'b' }, { id: 3, title: 'c' }], '0/300')
    await soon()
    expect(commits.length).toBe(1)
    expect(plain(tasks.values())).toEqual([{ id: 2, title: 'b' }, { id: 3, title: 'c' }])
    expect([[...store.rows.keys()].sort(), store.place]).toEqual([[2, 3], { position: '0/300', epoch: 'e1' }])
  })

  test('so it does in another history, and where the table has other columns', async () => {
    for (const [hello, described, asked] of [
      [{ epoch: 'e2' }, {}, []],
      [{}, { columns: [{ name: 'id', type: 'bigint' }, { name: 'title', type: 'text' }] }, [{ from: '0/100' }]],
    ] as const) {
      const store = new Store()
      await page(store, AB)
      const talk = new Talk()
      const tasks = kept(talk, store)
      tasks.subscribeChanges(() => {})
      await soon()
      expect(tasks.size).toBe(2)
      await talk.greet(hello)
      expect(talk.sent.filter(({ type, from }) => type === 'subscribe' && from)).toMatchObject(asked)
      if (asked.length > 0) talk.accept('0/100', described)
      await soon()
      expect(talk.sent.at(-1)).toMatchObject({ type: 'subscribe', snapshot: true })
      expect(tasks.size).toBe(2)
      talk.fill([{ id: 2, title: 'b' }], '0/300', described)
      await soon()
      expect([plain(tasks.values()), [...store.rows.keys()]]).toEqual([[{ id: 2, title: 'b' }], [2]])
    }
  })

  test('of the rows of a page and those that are stored, the older place is gone on from', async () => {
    for (const [rendered, from] of [['0/80', '0/80'], ['0/180', '0/100']] as const) {
      const store = new Store()
      await page(store, AB)
      const note = store.metadata.get('walcast:result') as { place: object }
      const talk = new Talk()
      const tasks = kept(talk, store)
      tasks.config.sync.importSyncMeta!({ ...note, place: { ...note.place, position: rendered } })
      tasks.subscribeChanges(() => {})
      await soon()
      await talk.greet()
      expect(talk.sent.at(-1)).toMatchObject({ type: 'subscribe', from })
    }
    // Of two histories there is no older one.
    const store = new Store()
    await page(store, AB)
    const talk = new Talk()
    const tasks = kept(talk, store)
    tasks.config.sync.importSyncMeta!({ ...(store.metadata.get('walcast:result') as object), place: { position: '0/1', epoch: 'e0' } })
    tasks.subscribeChanges(() => {})
    await soon()
    await talk.greet()
    expect(talk.sent.at(-1)).toMatchObject({ type: 'subscribe', snapshot: true })
  })

  test('a place is stored once its rows are, which an own write may hold back', async () => {
    const store = new Store()
    const talk = new Talk()
    let written!: () => void
    const tasks = kept(talk, store, { onInsert: () => new Promise<void>((resolve) => (written = resolve)) })
    tasks.subscribeChanges(() => {})
    await soon()
    await talk.greet()
    const id = talk.fill(AB)
    await soon()
    const own = tasks.insert({ id: 3, title: 'c' })
    await soon()
    talk.tx('0/200', [{ id, op: 'insert', row: { id: 3, title: 'c' } }])
    await soon()
    expect([store.place, tasks.config.sync.exportSyncMeta!()]).toMatchObject([{ position: '0/100' }, { place: { position: '0/100' }, size: 2 }])
    written()
    await own.isPersisted.promise
    await soon()
    expect([store.place, tasks.config.sync.exportSyncMeta!()]).toMatchObject([{ position: '0/200' }, { place: { position: '0/200' }, size: 3 }])
  })

  test('who logs out leaves nothing', async () => {
    const store = new Store()
    const talk = new Talk({ token: 'ann' })
    const tasks = kept(talk, store)
    tasks.subscribeChanges(() => {})
    await soon()
    await talk.greet()
    talk.fill(AB)
    await soon()
    expect(store.rows.size).toBe(2)
    await talk.client.setToken(null)
    await soon()
    expect([store.rows.size, store.metadata.size]).toEqual([0, 0])
  })

  test('on demand, rows that are stored are shown until the server has said what there is', async () => {
    const store = new Store()
    await page(store, [...AB, { id: 3, title: 'c' }])
    const talk = new Talk()
    const tasks = kept(talk, store, { syncMode: 'on-demand' })
    const own = db.createLiveQueryCollection((query: any) => query.from({ task: tasks }).where(({ task }: any) => db.gt(task.id, 1))) as any
    const loaded = own.preload()
    await soon()
    expect(own.size).toBe(2)
    await talk.greet()
    expect(talk.sent.at(-1)).toMatchObject({ type: 'subscribe', where: '"id" > $1', snapshot: true })
    talk.fill([{ id: 3, title: 'C' }], '0/300')
    await loaded
    expect(plain(own.values())).toEqual([{ id: 3, title: 'C' }])
  })
})
