import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { walcastCollectionOptions } from '../src/tanstack-db/index.js'
import { promises } from './support/platform.js'
import { Talk, type Task } from './support/talk.js'
import { CORES, changesOf, eager, plain, soon } from './support/tanstack-db.js'

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] }))
afterEach(() => void vi.useRealTimers())

describe.each(CORES)('on demand, with the %s @tanstack/db', (_, db) => {
  const onDemand = (talk: Talk, more: object = {}) => eager(db, talk, { syncMode: 'on-demand', ...more })
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
    const tasks = eager(db, talk)
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
    // A server that knows no ranges gives all rows of the condition.
    await talk.greet()
    await soon()
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
