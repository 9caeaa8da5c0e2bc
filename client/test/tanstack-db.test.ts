import * as newest from '@tanstack/db'
import fc from 'fast-check'
import * as oldest from 'tanstack-db-oldest'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { Client } from '../src/client.js'
import { walcastCollectionOptions } from '../src/tanstack-db/index.js'
import { FakePlatform, promises } from './support/platform.js'
import { type Line, ReferenceServer, type RowChange } from './support/server.js'
import { Talk, type Task } from './support/talk.js'

const RUNS = Number(process.env.RUNS ?? 60)
const SEED = process.env.SEED === undefined ? undefined : Number(process.env.SEED)

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] }))
afterEach(() => void vi.useRealTimers())

/** What joins wait for, and what was promised. */
const soon = async (): Promise<void> => {
  await promises()
  await vi.advanceTimersByTimeAsync(10)
  await promises()
}

/** Without what a collection adds. */
const plain = (rows: Iterable<any>): any[] => [...rows].map((row) => Object.fromEntries(Object.entries(row).filter(([name]) => !name.startsWith('$'))))

describe.each([
  ['newest', newest],
  // Both are one API.
  ['oldest', oldest as unknown as typeof newest],
])('with the %s @tanstack/db', (_, db) => {
  const eager = (talk: Talk, more: object = {}) =>
    db.createCollection(walcastCollectionOptions({ client: talk.client, query: { table: 'task' }, getKey: (task) => task.id, ...more }))

  /** What a collection says of changes: a list for each commit. */
  const changesOf = (collection: { subscribeChanges(told: (changes: any[]) => void): unknown }): string[][] => {
    const commits: string[][] = []
    collection.subscribeChanges((changes) => {
      // It says nothing when it gets ready.
      if (changes.length > 0) commits.push(changes.map(({ type, key }) => `${type} ${key}`))
    })
    return commits
  }

  test('a collection is ready once it is live, and moves by whole transactions', async () => {
    const talk = new Talk()
    const tasks = eager(talk)
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
    const tasks = eager(talk)
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
    const tasks = eager(talk)
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
    const kept = eager(other)
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
    const tasks = eager(talk)
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
    const tasks = eager(talk, { onInsert: async () => ({ position: '0/200' }), onDelete: async () => {} })
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
    const tasks = eager(talk, { onInsert: async () => ({ position: '0/200' }) })
    tasks.subscribeChanges(() => {})
    await talk.greet()
    talk.fill([])
    await promises()
    const written = tasks.insert({ id: 1, title: 'a' })
    await promises()
    talk.platform.pass(31_000)
    await written.isPersisted.promise

    const other = new Talk()
    const others = eager(other, { onInsert: async () => ({ position: '0/200' }) })
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
    const server = new Talk()
    const there = eager(server)
    there.subscribeChanges(() => {})
    await server.greet()
    server.fill([{ id: 1, title: 'a' }, { id: 2, title: 'b' }])
    await promises()
    const meta = JSON.parse(JSON.stringify(there.config.sync.exportSyncMeta!()))
    expect(meta.place).toEqual({ position: '0/100', epoch: 'e1' })

    const talk = new Talk()
    const options = walcastCollectionOptions({ client: talk.client, query: { table: 'task' }, getKey: (task) => task.id })
    options.sync.importSyncMeta!(meta)
    const here = db.createCollection(options)
    const commits = changesOf(here)
    await promises()
    expect([here.status, here.size, here.utils.status()]).toEqual(['ready', 2, 'catching-up'])
    await talk.greet()
    expect(talk.sent.at(-1)).toMatchObject({ type: 'subscribe', from: '0/100', epoch: 'e1' })
    const id = talk.accept()
    talk.tx('0/110', [{ id, op: 'delete', key: { id: 1 } }], { id })
    talk.say({ type: 'live', id, position: '0/110' })
    await promises()
    expect(commits.slice(1)).toEqual([['delete 1']])
    // Of two, the later one of the same history; else what runs here.
    const merge = options.sync.mergeSyncMeta!
    const later = { ...meta, place: { ...meta.place, position: '0/F00' } }
    expect(merge(meta, later)).toBe(later)
    expect(merge(later, meta)).toBe(later)
    expect(merge(meta, { ...later, place: { ...later.place, epoch: 'e2' } })).toBe(meta)
    expect(merge(undefined, meta)).toBe(meta)
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

  describe('on demand', () => {
    const onDemand = (talk: Talk, more: object = {}) => eager(talk, { syncMode: 'on-demand', ...more })
    type Tasks = ReturnType<typeof onDemand>
    const q = (tasks: Tasks, where: (task: any) => any) => db.createLiveQueryCollection((query: any) => query.from({ task: tasks }).where(({ task }: any) => where(task))) as any

    test('a subset is a live subscription with its predicate, and goes with its last query', async () => {
      const talk = new Talk({ linger: 0 })
      const tasks = onDemand(talk, { query: { table: 'task', where: 'id > $1', params: [0] } })
      const own = q(tasks, (task) => db.and(db.like(task.title, 'a%'), db.gt(task.id, 5)))
      const loaded = own.preload()
      await soon()
      await talk.greet()
      expect(talk.sent.at(-1)).toMatchObject({ type: 'subscribe', table: 'task', where: expect.stringMatching(/^\(id > \$1\) AND \("title" LIKE \$2 AND "id" > \$3\)$/), params: [0, 'a%', 5], snapshot: true })
      const id = talk.fill([{ id: 6, title: 'ab' }])
      await loaded
      expect(own.size).toBe(1)
      // It is live.
      talk.tx('0/200', [{ id, op: 'insert', row: { id: 7, title: 'ac' } }])
      await promises()
      expect(own.size).toBe(2)
      await own.cleanup()
      await soon()
      expect(tasks.size).toBe(0)
      talk.platform.pass(10)
      expect(talk.sent.at(-1)).toEqual({ type: 'unsubscribe', id })
    })

    test('rows are counted by the subsets that have them, and all subsets move in one commit', async () => {
      const talk = new Talk()
      const tasks = onDemand(talk)
      const low = q(tasks, (task) => db.lt(task.id, 10))
      const high = q(tasks, (task) => db.gt(task.id, 5))
      const ready = [low.preload(), high.preload()]
      const commits = changesOf(tasks)
      await soon()
      await talk.greet()
      const [a, b] = talk.sent.filter(({ type, where }) => type === 'subscribe' && where).map(({ id }) => id)
      const say = (id: string, rows: Task[]): void => {
        talk.say({ type: 'subscribed', id, position: '0/100', key: ['id'], columns: [{ name: 'id', type: 'integer' }, { name: 'title', type: 'text' }], replica_identity: 'full', warnings: [] })
        talk.say({ type: 'snapshot', id, rows })
        talk.say({ type: 'live', id, position: '0/100' })
      }
      say(a, [{ id: 1, title: 'low' }, { id: 7, title: 'both' }])
      say(b, [{ id: 7, title: 'both' }, { id: 12, title: 'high' }])
      await Promise.all(ready)
      expect(plain(tasks.values()).map(({ id }) => id).sort()).toEqual([1, 12, 7])
      commits.length = 0
      // One transaction: a row of both changes, one moves from the one to the other.
      talk.tx('0/200', [
        { id: a, op: 'update', row: { id: 7, title: 'BOTH' } },
        { id: b, op: 'update', row: { id: 7, title: 'BOTH' } },
        { id: a, op: 'delete', key: { id: 1 } },
        { id: b, op: 'insert', row: { id: 13, title: 'low' } },
      ])
      await promises()
      expect(commits.map((commit) => commit.sort())).toEqual([['delete 1', 'insert 13', 'update 7']])
      await low.cleanup()
      await soon()
      // The other subset still has it.
      expect(plain(tasks.values()).map(({ id }) => id).sort()).toEqual([12, 13, 7])
      talk.tx('0/300', [{ id: b, op: 'delete', key: { id: 7 } }])
      await promises()
      expect(tasks.has(7)).toBe(false)
    })

    test('a part that the server refuses is left to the collection', async () => {
      const talk = new Talk()
      const tasks = onDemand(talk)
      const own = q(tasks, (task) => db.and(db.gt(task.title, 'b'), db.gt(task.id, 0)))
      const loaded = own.preload()
      await soon()
      await talk.greet()
      const { id, where } = talk.sent.at(-1)
      talk.say({ type: 'error', id, code: 'bad_predicate', message: 'texts are not ordered', offset: where.indexOf('"title"') })
      await soon()
      expect(talk.sent.at(-1)).toMatchObject({ type: 'subscribe', where: '"id" > $1', params: [0] })
      talk.fill([{ id: 1, title: 'a' }, { id: 2, title: 'c' }])
      await loaded
      expect(plain(own.values())).toEqual([{ id: 2, title: 'c' }])
      // It is not asked for like that again.
      const same = q(tasks, (task) => db.and(db.gt(task.title, 'b'), db.gt(task.id, 0)))
      const before = talk.sent.length
      await same.preload()
      expect(talk.sent.length).toBe(before)
    })

    test('what is wrong with the query itself is an error of the subset', async () => {
      const talk = new Talk()
      const tasks = onDemand(talk, { query: { table: 'task', where: 'nothing = 1' } })
      tasks.startSyncImmediate()
      const failed = Promise.resolve(tasks._sync.loadSubset({ where: new db.IR.Func('gt', [new db.IR.PropRef(['id']), new db.IR.Value(1)]) } as any)).catch((error: unknown) => error)
      await soon()
      await talk.greet()
      talk.say({ type: 'error', id: talk.sent.at(-1).id, code: 'bad_predicate', message: 'no such column', offset: 1 })
      expect(await failed).toMatchObject({ code: 'bad_predicate', query: '(nothing = 1) AND ("id" > $1)' })
    })

    test('demands for values of one column become one subscription', async () => {
      const talk = new Talk()
      const tasks = onDemand(talk)
      tasks.startSyncImmediate()
      const options = [1, 2, 3].map((id) => ({ where: new db.IR.Func('eq', [new db.IR.PropRef(['id']), new db.IR.Value(id)]) }) as any)
      const loaded = Promise.all(options.map((each) => tasks._sync.loadSubset(each)))
      await soon()
      await talk.greet()
      expect(talk.sent.filter(({ type }) => type === 'subscribe')).toMatchObject([{ where: '"id" = ANY($1)', params: [[1, 2, 3]] }])
      talk.fill([{ id: 1, title: 'a' }, { id: 3, title: 'c' }])
      await loaded
      expect(tasks.size).toBe(2)
      // It is there until the last of them is unloaded, by the options that it was loaded with.
      tasks._sync.unloadSubset(options[0])
      tasks._sync.unloadSubset(options[0])
      tasks._sync.unloadSubset({ ...options[1] })
      tasks._sync.unloadSubset(options[1])
      await soon()
      expect(tasks.size).toBe(2)
      tasks._sync.unloadSubset(options[2])
      await soon()
      expect(tasks.size).toBe(0)
    })

    test('a join asks for the rows that it joins, in one subscription', async () => {
      const talk = new Talk()
      const tasks = eager(talk)
      const pairs = db.createCollection(walcastCollectionOptions({ client: talk.client, query: { table: 'pair' }, getKey: (pair) => `${pair.a} ${pair.b}`, syncMode: 'on-demand' }))
      const joined = db.createLiveQueryCollection((query: any) =>
        query
          .from({ task: tasks })
          .join({ pair: pairs }, ({ task, pair }: any) => db.eq(task.id, pair.a), 'left')
          .select(({ task, pair }: any) => ({ id: task.id, b: pair?.b })),
      ) as any
      const loaded = joined.preload()
      await talk.greet()
      talk.fill([1, 2, 3].map((id) => ({ id, title: 'x' })))
      await soon()
      const asked = talk.sent.filter(({ table }) => table === 'pair')
      expect(asked).toMatchObject([{ where: '"a" = ANY($1)', params: [[1, 2, 3]] }])
      const { id } = asked[0]
      talk.say({ type: 'subscribed', id, position: '0/100', key: ['a', 'b'], columns: [{ name: 'a', type: 'integer' }, { name: 'b', type: 'text' }], replica_identity: 'full', warnings: [] })
      talk.say({ type: 'snapshot', id, rows: [{ a: 1, b: 'one' }, { a: 3, b: 'three' }] })
      talk.say({ type: 'live', id, position: '0/100' })
      await soon()
      await loaded
      expect(plain(joined.values()).map(({ id, b }: any) => [id, b]).sort()).toEqual([[1, 'one'], [2, undefined], [3, 'three']])
    })

    test('further pages of what is there are there', async () => {
      const talk = new Talk()
      const tasks = onDemand(talk)
      const page = db.createLiveQueryCollection((query: any) => query.from({ task: tasks }).where(({ task }: any) => db.gt(task.id, 0)).orderBy(({ task }: any) => task.title).limit(2)) as any
      const loaded = page.preload()
      await soon()
      await talk.greet()
      talk.fill([1, 2, 3, 4, 5].map((id) => ({ id, title: 'edcba'[id - 1] })))
      await loaded
      expect(plain(page.values()).map(({ id }: any) => id)).toEqual([5, 4])
      const sent = talk.sent.length
      const moved = page.utils.setWindow({ offset: 2, limit: 2 })
      await soon()
      await moved
      expect(plain(page.values()).map(({ id }: any) => id)).toEqual([3, 2])
      expect(talk.sent.length).toBe(sent)
    })

    test('a subset that is unloaded before it came, or that is aborted, is left', async () => {
      const talk = new Talk({ linger: 0 })
      const tasks = onDemand(talk)
      tasks.startSyncImmediate()
      const where = new db.IR.Func('gt', [new db.IR.PropRef(['id']), new db.IR.Value(1)])
      const abort = new AbortController()
      const options = [{ where }, { where, signal: abort.signal }] as any[]
      const loads = options.map((each) => Promise.resolve(tasks._sync.loadSubset(each)).catch(({ name }: Error) => name))
      await talk.greet()
      tasks._sync.unloadSubset(options[0])
      await promises()
      abort.abort()
      expect(await Promise.all(loads)).toEqual(['AbortError', 'AbortError'])
      await soon()
      talk.platform.pass(10)
      expect(talk.sent.at(-1)).toMatchObject({ type: 'unsubscribe' })
    })
  })

  /** A server of which every state is known, and collections that must show one of them. */
  test('a collection and its queries show what the database had, whatever happens', async () => {
    type Command = { do: 'commit' | 'step' | 'cut' | 'prune' | 'break' | 'pass' | 'paint' | 'open' | 'leave'; n: number; m: number }
    const command = fc.record({
      do: fc.constantFrom<Command['do']>('commit', 'commit', 'commit', 'step', 'step', 'step', 'step', 'step', 'cut', 'prune', 'break', 'pass', 'paint', 'open', 'open', 'leave'),
      n: fc.nat({ max: 1000 }),
      m: fc.nat({ max: 1000 }),
    })
    await fc.assert(
      fc.asyncProperty(fc.array(command, { minLength: 20, maxLength: 100 }), fc.constantFrom('frame' as const, 'transaction' as const), fc.boolean(), async (commands, batch, refuses) => {
        const line = (id: number): Line => ({ id, grp: 'abc'[id % 3]!, amount: id * 10, note: id % 2 ? 'long' : null })
        const server = new ReferenceServer({ left: [0, 1, 2, 3, 4, 5].map(line), right: [] })
        // As where texts are not ordered.
        if (refuses) server.refused = /"grp" <|"amount" >/
        const platform = new FakePlatform()
        platform.onSocket = (socket) => void server.accept(socket)
        const failures: unknown[] = []
        globalThis.reportError = (error) => void failures.push(error)
        const client = new Client('ws://reference/', { batch, linger: 2000, onWarning: () => {} }, platform)
        const options = { client, query: { table: 'left' }, getKey: (row: Line) => row.id } as const
        const whole = db.createCollection(walcastCollectionOptions(options as any)) as any
        const parts = db.createCollection(walcastCollectionOptions({ ...options, syncMode: 'on-demand' } as any)) as any
        const wheres: [(row: any) => any, (row: Line) => boolean][] = [
          [(row) => db.eq(row.grp, 'a'), (row) => row.grp === 'a'],
          [(row) => db.gt(row.amount, 20), (row) => row.amount > 20],
          [(row) => db.and(db.lt(row.grp, 'b'), db.not(db.isNull(row.note))), (row) => row.grp < 'b' && row.note !== null],
          [(row) => db.not(db.or(db.eq(db.upper(row.grp), 'A'), db.gt(row.amount, 30))), (row) => !(row.grp === 'a' || row.amount > 30)],
          [(row) => db.inArray(row.id, [1, 3, 5, 8]), (row) => [1, 3, 5, 8].includes(row.id)],
          [(row) => db.or(db.like(row.note, 'l%g'), db.lte(row.amount, 0)), (row) => row.note === 'long' || row.amount <= 0],
        ]
        const open = new Map<number, any>()
        const ids = (rows: Iterable<any>): string[] => plain(rows).map((row) => JSON.stringify(Object.entries(row).sort())).sort()
        const check = (): void => {
          // Each result is one that the database had where it says it stands.
          if (whole.status !== 'ready') return
          const had = [...server.histories.keys()].map((epoch) => ids(server.result({ table: 'left' }, whole.utils.position(), epoch)))
          expect(had).toContainEqual(ids(whole.values()))
        }
        whole.subscribeChanges(() => {
          try {
            check()
          } catch (error) {
            failures.push(error)
          }
        })
        const settle = async (): Promise<void> => {
          for (let i = 0; i < 30; i++) {
            while (server.connection?.step((n) => (n === 0 ? 0 : i % n))) await promises()
            platform.paint()
            platform.pass(2000)
            await soon()
          }
        }
        let next = 100
        for (const { do: what, n, m } of commands) {
          if (what === 'commit') {
            const rows = [...server.rows('left')]
            const changes: RowChange[] = []
            for (let i = 0; i < 1 + (n % 4); i++) {
              const old = rows[(n + i * m) % Math.max(1, rows.length)]
              if (m % 5 === 0 || !old) changes.push({ table: 'left', row: line(next++) })
              else if (!changes.some((change) => change.old?.id === old.id)) {
                const row = m % 5 === 1 ? undefined : { ...old, grp: 'abc'[(n + i) % 3]!, amount: (n * 7 + i) % 60, note: [null, 'long', 'other'][m % 3]!, id: m % 7 === 2 ? next++ : old.id }
                changes.push({ table: 'left', old, ...(row && { row }) })
              }
            }
            server.commit(changes)
          } else if (what === 'step') {
            for (let i = 0; i < 1 + (n % 8) && server.connection?.step((k) => (k === 0 ? 0 : (m + i) % k)); i++) await promises()
          } else if (what === 'cut') server.cut([1006, 1001, 4001][n % 3])
          else if (what === 'prune') server.prune(n % 3)
          else if (what === 'break') server.break(n % 3)
          else if (what === 'pass') platform.pass([10, 500, 6000, 40_000][n % 4]!)
          else if (what === 'paint') platform.paint()
          else if (what === 'open' && !open.has(n % wheres.length)) {
            const [where] = wheres[n % wheres.length]!
            const own = db.createLiveQueryCollection((query: any) => query.from({ row: parts }).where(({ row }: any) => where(row)))
            own.preload().catch(() => {})
            open.set(n % wheres.length, own)
          } else if (what === 'leave') {
            await open.get(n % wheres.length)?.cleanup()
            open.delete(n % wheres.length)
          }
          await soon()
          check()
        }
        await settle()
        check()
        expect(failures).toEqual([])
        expect([whole.utils.status(), whole.status]).toEqual(['live', 'ready'])
        expect(ids(whole.values())).toEqual(ids(server.rows('left')))
        for (const [i, own] of open) {
          expect([i, own.status]).toEqual([i, 'ready'])
          expect([i, ...ids(own.values())]).toEqual([i, ...ids(server.rows('left').filter(wheres[i]![1]))])
        }
        // Nothing is there that nobody asked for.
        for (const own of open.values()) await own.cleanup()
        await soon()
        expect(parts.size).toBe(0)
        await client.close()
      }),
      { numRuns: RUNS, ...(SEED !== undefined && { seed: SEED }), endOnFailure: false },
    )
  }, 300_000)
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
