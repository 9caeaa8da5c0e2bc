import { describe, expect, test, vi } from 'vitest'
import { onDiff } from '../src/index.js'
import { Talk } from './support/talk.js'

describe('whole', () => {
  test('a transaction in parts is seen as a whole, by all queries at once, and each listener hears once', async () => {
    const talk = new Talk()
    const a = talk.client.liveQuery({ table: 'task', where: 'id < 10' })
    const b = talk.client.liveQuery({ table: 'task', where: 'id >= 10' })
    const seen: number[][] = []
    const look = (): void => void seen.push([a.state.rows.length, b.state.rows.length])
    a.onChange(look)
    await talk.greet()
    const idA = talk.fill([{ id: 1, title: 'x' }])
    b.onChange(look)
    const idB = talk.fill([])
    seen.length = 0
    talk.tx('0/200:0', [{ id: idA, op: 'delete', key: { id: 1 }, cause: 'update' }], { more: true })
    expect([a.state.rows.length, b.state.rows.length, a.get(1)]).toEqual([1, 0, { id: 1, title: 'x' }])
    talk.tx('0/200', [{ id: idB, op: 'insert', row: { id: 11, title: 'x' }, cause: 'update' }])
    expect(seen).toEqual([
      [0, 1],
      [0, 1],
    ])
    expect(a.state.position).toBe('0/200')
  })

  test('a snapshot is seen as a whole, unless one asks for its parts', async () => {
    const talk = new Talk()
    const whole = talk.client.liveQuery({ table: 'task' })
    const parts = talk.client.liveQuery({ table: 'task' }, { partial: true })
    const heard: string[] = []
    whole.subscribe(({ rows, status }) => heard.push(`whole ${rows.length} ${status}`))
    parts.subscribe(({ rows, status, filled }) => heard.push(`parts ${rows.length} ${status} ${filled}`))
    await talk.greet()
    heard.length = 0
    const id = talk.accept()
    talk.say({ type: 'snapshot', id, rows: [{ id: 1, title: 'a' }] })
    talk.say({ type: 'snapshot', id, rows: [{ id: 2, title: 'b' }] })
    talk.say({ type: 'live', id, position: '0/100' })
    expect(heard.filter((line) => line.startsWith('parts'))).toEqual(['parts 0 snapshot false', 'parts 1 snapshot false', 'parts 2 snapshot false', 'parts 2 live true'])
    expect(heard.filter((line) => line.startsWith('whole') && !line.includes('snapshot'))).toEqual(['whole 2 live'])
    expect(heard.filter((line) => line.startsWith('whole') && !line.includes('whole 0') && line.includes('snapshot'))).toEqual([])
  })

  test('what becomes live inside of a transaction is seen at its end', async () => {
    const talk = new Talk()
    const query = talk.client.liveQuery({ table: 'task' })
    query.onChange(() => {})
    await talk.greet()
    const id = talk.accept()
    talk.tx('0/200:0', [{ id, op: 'insert', row: { id: 1, title: 'a' } }], { id, more: true })
    talk.say({ type: 'live', id, position: '0/200:0' })
    expect(query.state.filled).toBe(false)
    talk.tx('0/200', [{ id, op: 'insert', row: { id: 2, title: 'b' } }])
    expect([query.state.status, query.state.rows.length, query.state.position]).toEqual(['live', 2, '0/200'])
  })

  test('a transaction whose only reader left in its middle does not hold up what becomes live after it', async () => {
    const talk = new Talk({ linger: 0 })
    const end = talk.client.liveQuery({ table: 'task' }).subscribe(() => {})
    await talk.greet()
    const id = talk.fill([])
    talk.tx('0/200:0', [{ id, op: 'insert', row: { id: 1, title: 'a' } }], { more: true })
    end()
    talk.platform.pass(1)
    // There is nobody to be told of the end.
    const later = talk.client.liveQuery({ table: 'task', where: 'id > 0' })
    later.subscribe(() => {})
    talk.fill([{ id: 1, title: 'a' }], '0/200')
    expect(later.state).toMatchObject({ status: 'live', rows: [{ id: 1, title: 'a' }] })
  })

  test('listeners are told once for each picture, and rows have moved before', async () => {
    const talk = new Talk({ batch: 'frame' })
    const query = talk.client.liveQuery({ table: 'task' })
    const heard = vi.fn()
    const diffs: unknown[] = []
    query.onChange(heard)
    onDiff(query, (diff) => diffs.push(diff.changes))
    await talk.greet()
    const id = talk.fill([{ id: 1, title: 'a' }])
    talk.tx('0/200', [{ id, op: 'update', row: { id: 1, title: 'b' } }])
    talk.tx('0/300', [{ id, op: 'update', row: { id: 1, title: 'c' } }])
    expect(query.state.rows).toEqual([{ id: 1, title: 'c' }])
    expect(heard).not.toHaveBeenCalled()
    talk.platform.paint()
    expect(heard).toHaveBeenCalledTimes(1)
    expect(diffs).toEqual([[{ key: 1, before: undefined, row: { id: 1, title: 'c' } }]])
    talk.platform.paint()
    expect(heard).toHaveBeenCalledTimes(1)
  })

  test('of a result that a query shares from now on are not told again', async () => {
    const talk = new Talk({ batch: 'frame' })
    const query = talk.client.liveQuery({ table: 'task' })
    // Nobody reads it for so long that an equal one, which is made later, has a result of its own.
    talk.platform.pass(6000)
    talk.client.liveQuery({ table: 'task' }).onChange(() => {})
    await talk.greet()
    const id = talk.fill([{ id: 1, title: 'a' }])
    const diffs: unknown[] = []
    onDiff(query, (diff) => diffs.push(diff.changes))
    expect(query.state.rows).toEqual([{ id: 1, title: 'a' }])
    talk.platform.paint()
    expect(diffs.flat()).toEqual([])
    talk.tx('0/200', [{ id, op: 'update', row: { id: 1, title: 'b' } }])
    talk.platform.paint()
    expect(diffs).toEqual([[{ key: 1, before: { id: 1, title: 'a' }, row: { id: 1, title: 'b' } }]])
  })

  test('a step that is one transaction says which; several, and a first result, do not', async () => {
    const talk = new Talk({ batch: 'transaction' })
    const query = talk.client.liveQuery({ table: 'task' })
    const steps: unknown[] = []
    onDiff(query, ({ position, xid, ts, changes }) => steps.push([position, xid, ts, changes.length]))
    await talk.greet()
    const id = talk.fill([{ id: 1, title: 'a' }])
    talk.tx('0/200', [{ id, op: 'update', row: { id: 1, title: 'b' } }], { xid: 7, ts: '2026-01-02T03:04:05.678901Z' })
    talk.tx('0/300:0', [{ id, op: 'insert', row: { id: 2, title: 'c' } }], { xid: 8, ts: '2026-01-02T03:04:06Z', more: true })
    talk.tx('0/300', [{ id, op: 'insert', row: { id: 3, title: 'd' } }], { xid: 8, ts: '2026-01-02T03:04:06Z' })
    talk.socket.end(1006)
    talk.platform.pass(1000)
    await talk.greet()
    const [again] = talk.take() as [{ id: string }]
    talk.say({ type: 'subscribed', id: again.id, position: '0/300', key: ['id'], columns: [{ name: 'id', type: 'integer' }, { name: 'title', type: 'text' }], replica_identity: 'full', warnings: [] })
    talk.tx('0/400', [{ id: again.id, op: 'insert', row: { id: 4, title: 'e' } }], { id: again.id, xid: 9 })
    talk.tx('0/500', [{ id: again.id, op: 'insert', row: { id: 5, title: 'f' } }], { id: again.id, xid: 10 })
    talk.say({ type: 'live', id: again.id, position: '0/500' })
    expect(steps).toEqual([
      ['0/100', undefined, undefined, 1],
      ['0/200', 7, '2026-01-02T03:04:05.678901Z', 1],
      ['0/300', 8, '2026-01-02T03:04:06Z', 2],
      ['0/500', undefined, undefined, 2],
    ])
  })

  test('queries that come back together are seen again together', async () => {
    const talk = new Talk()
    const [a, b] = [talk.client.liveQuery({ table: 'task', where: 'true' }), talk.client.liveQuery({ table: 'task' })]
    a.onChange(() => {})
    await talk.greet()
    talk.fill([{ id: 1, title: 'x' }])
    b.onChange(() => {})
    talk.fill([])
    talk.socket.end()
    talk.platform.pass(500)
    await talk.greet()
    const [one, two] = talk.take().map(({ id }) => id)
    for (const id of [one, two]) talk.say({ type: 'subscribed', id, position: '0/100', key: ['id'], columns: [{ name: 'id', type: 'integer' }, { name: 'title', type: 'text' }], replica_identity: 'full', warnings: [] })
    talk.tx('0/200', [{ id: one, op: 'delete', key: { id: 1 } }], { id: one })
    talk.say({ type: 'live', id: one, position: '0/200' })
    expect([a.state.rows.length, a.state.status, b.state.rows.length]).toEqual([1, 'catching-up', 0])
    talk.tx('0/200', [{ id: two, op: 'insert', row: { id: 1, title: 'x' } }], { id: two })
    talk.say({ type: 'live', id: two, position: '0/200' })
    expect([a.state.rows.length, a.state.status, b.state.rows.length, b.state.status]).toEqual([0, 'live', 1, 'live'])
  })

  test('one that takes long to come back holds the others up for five seconds', async () => {
    const talk = new Talk()
    const [a, b] = [talk.client.liveQuery({ table: 'task', where: 'true' }), talk.client.liveQuery({ table: 'task' })]
    a.onChange(() => {})
    await talk.greet()
    talk.fill([])
    b.onChange(() => {})
    talk.fill([])
    talk.socket.end()
    talk.platform.pass(500)
    await talk.greet()
    const [{ id: one }] = talk.take()
    talk.say({ type: 'subscribed', id: one, position: '0/100', key: ['id'], columns: [{ name: 'id', type: 'integer' }, { name: 'title', type: 'text' }], replica_identity: 'full', warnings: [] })
    talk.say({ type: 'live', id: one, position: '0/100' })
    talk.tx('0/200', [{ id: one, op: 'insert', row: { id: 1, title: 'x' } }])
    expect(a.state.rows.length).toBe(0)
    talk.platform.pass(5000)
    expect([a.state.rows.length, a.state.status, b.state.status]).toEqual([1, 'live', 'offline'])
  })
})

describe('never empty in between', () => {
  test.each(['resume_expired', 'resume_invalid', 'schema_changed'])('%s: old rows stay until the new ones replace them in one step', async (code) => {
    const talk = new Talk()
    const query = talk.client.liveQuery({ table: 'task' })
    const sizes: number[] = []
    const diffs: unknown[] = []
    query.onChange(() => sizes.push(query.state.rows.length))
    onDiff(query, ({ changes }) => diffs.push(changes))
    await talk.greet()
    const id = talk.fill([{ id: 1, title: 'a' }, { id: 2, title: 'b' }, { id: 3, title: 'c' }])
    const [, kept] = query.state.rows
    diffs.length = sizes.length = 0
    talk.take()
    talk.say({ type: 'error', code, message: 'gone', id })
    expect(query.state.status).toBe('catching-up')
    expect(talk.take()).toEqual([{ type: 'subscribe', id: '2', table: 'task', snapshot: true }])
    talk.say({ type: 'subscribed', id: '2', position: '0/300', key: ['id'], columns: [{ name: 'id', type: 'integer' }, { name: 'title', type: 'text' }], replica_identity: 'full', warnings: [] })
    talk.say({ type: 'snapshot', id: '2', rows: [{ id: 2, title: 'b' }, { id: 3, title: 'C' }] })
    talk.tx('0/310', [{ id: '2', op: 'insert', row: { id: 4, title: 'd' } }], { id: '2' })
    expect(query.state.rows.length).toBe(3)
    talk.say({ type: 'live', id: '2', position: '0/310' })
    expect(query.state.rows).toEqual([{ id: 2, title: 'b' }, { id: 3, title: 'C' }, { id: 4, title: 'd' }])
    expect(query.state.rows[0]).toBe(kept)
    expect(new Set(sizes)).toEqual(new Set([3]))
    expect(diffs).toEqual([
      [
        { key: 1, before: { id: 1, title: 'a' }, row: undefined },
        { key: 3, before: { id: 3, title: 'c' }, row: { id: 3, title: 'C' } },
        { key: 4, before: undefined, row: { id: 4, title: 'd' } },
      ],
    ])
  })

  test('other columns or types than before begin it anew, and so does a row with another column', async () => {
    const talk = new Talk()
    const query = talk.client.liveQuery({ table: 'task' })
    query.onChange(() => {})
    await talk.greet()
    let id = talk.fill([{ id: 1, title: 'a' }])
    talk.take()
    talk.tx('0/200', [{ id, op: 'insert', row: { id: 2, title: 'b', done: false } }])
    expect(query.state.rows).toEqual([{ id: 1, title: 'a' }])
    expect(talk.take()).toEqual([{ type: 'unsubscribe', id }, { type: 'subscribe', id: '2', table: 'task', snapshot: true }])
    const columns = [{ name: 'id', type: 'integer' }, { name: 'title', type: 'text' }, { name: 'done', type: 'boolean' }]
    talk.say({ type: 'subscribed', id: '2', position: '0/200', key: ['id'], columns, replica_identity: 'full', warnings: [] })
    talk.say({ type: 'snapshot', id: '2', rows: [{ id: 1, title: 'a', done: true }, { id: 2, title: 'b', done: false }] })
    talk.say({ type: 'live', id: '2', position: '0/200' })
    expect(query.state.rows.length).toBe(2)
    talk.socket.end()
    talk.platform.pass(500)
    await talk.greet()
    id = talk.sent.at(-1).id
    expect(talk.take()[0].from).toBe('0/200')
    talk.say({ type: 'subscribed', id, position: '0/200', key: ['id'], columns: columns.with(0, { name: 'id', type: 'bigint' }), replica_identity: 'full', warnings: [] })
    expect(talk.take()).toEqual([{ type: 'unsubscribe', id }, { type: 'subscribe', id: '4', table: 'task', snapshot: true }])
    expect(query.state.rows.length).toBe(2)
  })

  test('another epoch begins it anew without asking for what cannot be', async () => {
    const talk = new Talk()
    const query = talk.client.liveQuery({ table: 'task' })
    query.onChange(() => {})
    await talk.greet()
    talk.fill([{ id: 1, title: 'a' }])
    talk.socket.end()
    talk.platform.pass(500)
    await talk.greet({ epoch: 'e2' })
    expect(talk.sent[0]).toEqual({ type: 'subscribe', id: '2', table: 'task', snapshot: true })
    expect(query.state.rows.length).toBe(1)
    talk.fill([])
    expect(query.state.rows.length).toBe(0)
  })

  test('the third time within a minute waits, and the fifth is an error', async () => {
    const talk = new Talk()
    const query = talk.client.liveQuery({ table: 'task' })
    query.onChange(() => {})
    await talk.greet()
    talk.fill([{ id: 1, title: 'a' }])
    const times: number[] = []
    for (let i = 0; i < 4; i++) {
      const before = talk.sent.length
      talk.say({ type: 'error', code: 'schema_changed', message: 'again', id: talk.sent.findLast(({ type }) => type === 'subscribe').id })
      for (let ms = 0; talk.sent.length === before && ms < 20_000; ms += 100) {
        talk.platform.pass(100)
        times[i] = ms + 100
      }
      talk.accept()
    }
    expect(times[0]).toBeUndefined()
    expect(times[1]).toBeUndefined()
    expect(times[2]).toBeGreaterThan(500)
    expect(times[3]).toBeGreaterThan(500)
    talk.say({ type: 'error', code: 'schema_changed', message: 'again', id: talk.sent.findLast(({ type }) => type === 'subscribe').id })
    expect([query.state.status, query.state.error?.code, query.state.rows.length]).toEqual(['error', 'schema_changed', 1])
  })

  test('a query without a key whose old row is not held begins anew', async () => {
    const talk = new Talk()
    const query = talk.client.liveQuery({ table: 'log' })
    query.onChange(() => {})
    await talk.greet()
    const columns = [{ name: 'line', type: 'text' }]
    const id = talk.accept('0/100', { key: [], columns })
    talk.say({ type: 'snapshot', id, rows: [{ line: 'x' }, { line: 'x' }] })
    talk.say({ type: 'live', id, position: '0/100' })
    talk.tx('0/200', [{ id, op: 'delete', key: {}, old: { line: 'x' } }])
    expect(query.state.rows).toEqual([{ line: 'x' }])
    talk.take()
    talk.tx('0/300', [{ id, op: 'insert', row: { line: 'z' } }, { id, op: 'delete', key: {}, old: { line: 'y' } }])
    expect(query.state.rows).toEqual([{ line: 'x' }])
    expect(talk.take().at(-1)).toMatchObject({ type: 'subscribe', snapshot: true })
  })
})
