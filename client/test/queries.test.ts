import { describe, expect, test, vi } from 'vitest'
import { sql } from '../src/index.js'
import { Talk } from './support/talk.js'

describe('identity', () => {
  test('equal queries are one subscription, whatever their options, and two maps share its rows', async () => {
    const talk = new Talk()
    const { client } = talk
    const maps = [vi.fn(({ title }: { title: string | null }) => title), vi.fn(({ id }: { id: number }) => id)]
    const first = client.liveQuery({ table: 'task', where: sql`id > ${1}`, columns: ['id', 'title'] }, { map: maps[0] as never })
    const second = client.liveQuery({ table: 'task', where: 'id > $1', params: [1], columns: ['title', 'id'] }, { map: maps[1] as never })
    const other = client.liveQuery({ table: 'task', where: 'id > $1', params: [2] })
    for (const query of [first, second, other]) query.onChange(() => {})
    await talk.greet()
    expect(talk.sent.map(({ type, params }) => [type, params])).toEqual([
      ['subscribe', [1]],
      ['subscribe', [2]],
    ])
    talk.say({ type: 'subscribed', id: talk.sent[0].id, position: '0/100', key: ['id'], columns: [], replica_identity: 'full', warnings: [] })
    talk.say({ type: 'snapshot', id: talk.sent[0].id, rows: [{ id: 2, title: 'b' }, { id: 3, title: 'c' }] })
    talk.say({ type: 'live', id: talk.sent[0].id, position: '0/100' })
    expect(first.state.rows).toEqual(['b', 'c'])
    expect(second.state.rows).toEqual([2, 3])
    void first.state.rows
    expect(maps[0]).toHaveBeenCalledTimes(2)
  })

  test('a query whose last reader left stays for a while, and one timer serves all', async () => {
    const talk = new Talk({ linger: 5000 })
    const queries = [1, 2, 3].map((n) => talk.client.liveQuery({ table: 'task', where: `id = ${n}` }))
    const ends = queries.map((query) => query.onChange(() => {}))
    await talk.greet()
    talk.take()
    ends[0]!()
    ends[1]!()
    expect(talk.platform.timers).toBe(1)
    talk.platform.pass(4000)
    const back = queries[0]!.onChange(() => {})
    talk.platform.pass(2000)
    expect(talk.take().filter(({ type }) => type !== 'ping')).toEqual([{ type: 'unsubscribe', id: '2' }])
    back()
    ends[2]!()
    talk.platform.pass(5001)
    expect(talk.take().filter(({ type }) => type === 'unsubscribe').map(({ id }) => id)).toEqual(['1', '3'])
  })

  test('a query that was left for long goes on from its place', async () => {
    const talk = new Talk()
    const query = talk.client.liveQuery({ table: 'task' })
    query.onChange(() => {})()
    await talk.greet()
    talk.fill([{ id: 1, title: 'a' }])
    const [row] = query.state.rows
    talk.say({ type: 'progress', position: '0/200' })
    talk.platform.pass(5001)
    talk.take()
    query.onChange(() => {})
    expect(talk.take()).toEqual([{ type: 'subscribe', id: '2', table: 'task', from: '0/200', epoch: 'e1' }])
    expect(query.state.rows[0]).toBe(row)
  })
})

describe('a query', () => {
  test('may be read once, for a server, and is sent along with a page that goes on from there', async () => {
    const talk = new Talk()
    const asked = talk.client.query({ table: 'task' }, { map: ({ id }) => id })
    await talk.greet()
    talk.fill([{ id: 1, title: 'a' }])
    const { rows, dehydrated } = await asked
    expect(rows).toEqual([1])
    talk.platform.pass(5001)
    expect(talk.sent.at(-1)).toEqual({ type: 'unsubscribe', id: '1' })

    const page = new Talk()
    const query = page.client.liveQuery({ table: 'task' }, { initial: JSON.parse(JSON.stringify(dehydrated)) })
    expect(query.state).toMatchObject({ rows: [{ id: 1, title: 'a' }], filled: true, position: '0/100' })
    query.onChange(() => {})
    await page.greet()
    expect(page.sent).toEqual([{ type: 'subscribe', id: '1', table: 'task', from: '0/100', epoch: 'e1' }])
    page.accept()
    expect(query.state.status).toBe('catching-up')
    page.say({ type: 'live', id: '1', position: '0/120' })
    expect(query.state).toMatchObject({ status: 'live', rows: [{ id: 1, title: 'a' }] })
    expect(page.client.liveQuery({ table: 'task', where: 'true' }, { initial: dehydrated }).state.filled).toBe(false)
  })

  test('is ready with the first whole result, and goes with its signal', async () => {
    const talk = new Talk()
    const over = new AbortController()
    const query = talk.client.liveQuery({ table: 'task' }, { signal: over.signal })
    const ready = query.ready()
    const given = query.ready(AbortSignal.abort(new Error('no')))
    await expect(given).rejects.toThrow('no')
    await talk.greet()
    talk.fill([{ id: 1, title: 'a' }])
    expect((await ready).rows.length).toBe(1)
    talk.platform.pass(6000)
    expect(talk.sent.filter(({ type }) => type === 'unsubscribe')).toEqual([])
    over.abort()
    talk.platform.pass(6000)
    expect(talk.sent.filter(({ type }) => type === 'unsubscribe').length).toBe(1)
  })

  test('tells what now() is again when it goes on', async () => {
    const talk = new Talk()
    talk.client.liveQuery({ table: 'task', where: 'due < now()' }).onChange(() => {})
    await talk.greet()
    talk.fill([], '0/100', { now: '2026-01-01T00:00:00.000000Z' })
    talk.socket.end()
    talk.platform.pass(500)
    await talk.greet()
    expect(talk.sent[0]).toEqual({ type: 'subscribe', id: '2', table: 'task', where: 'due < now()', from: '0/100', epoch: 'e1', now: '2026-01-01T00:00:00.000000Z' })
  })

  test('of a snapshot that was interrupted begins it again, and of a transaction goes on in its middle', async () => {
    const talk = new Talk()
    const query = talk.client.liveQuery({ table: 'task' })
    query.onChange(() => {})
    await talk.greet()
    const first = talk.accept()
    talk.say({ type: 'snapshot', id: first, rows: [{ id: 9, title: 'old' }] })
    talk.socket.end()
    talk.platform.pass(500)
    await talk.greet()
    expect(talk.sent[0]).toEqual({ type: 'subscribe', id: '2', table: 'task', snapshot: true })
    talk.fill([{ id: 1, title: 'a' }])
    talk.tx('0/200:0', [{ id: '2', op: 'delete', key: { id: 1 } }], { more: true })
    talk.socket.end()
    expect(query.state).toMatchObject({ status: 'offline', rows: [{ id: 1, title: 'a' }] })
    talk.platform.pass(1000)
    await talk.greet()
    expect(talk.sent[0]).toEqual({ type: 'subscribe', id: '3', table: 'task', from: '0/200:0', epoch: 'e1' })
    talk.accept('0/200:0')
    talk.tx('0/200', [{ id: '3', op: 'insert', row: { id: 2, title: 'b' } }], { id: '3' })
    expect(query.state.rows).toEqual([{ id: 1, title: 'a' }])
    talk.say({ type: 'live', id: '3', position: '0/200' })
    expect(query.state.rows).toEqual([{ id: 2, title: 'b' }])
  })

  test('has the same state until something changed', async () => {
    const talk = new Talk()
    const query = talk.client.liveQuery({ table: 'task' })
    query.onChange(() => {})
    await talk.greet()
    const id = talk.fill([{ id: 1, title: 'a' }])
    const { state } = query
    talk.say({ type: 'progress', position: '0/200' })
    expect(query.state).toBe(state)
    talk.tx('0/300', [{ id: 'other', op: 'truncate' }])
    expect(query.state).toBe(state)
    talk.socket.end()
    expect(query.state).not.toBe(state)
    expect(query.state.rows).toBe(state.rows)
    talk.platform.pass(500)
    await talk.greet()
    expect(talk.sent[0]).toMatchObject({ from: '0/300' })
    talk.accept()
    talk.say({ type: 'live', id: '2', position: '0/300' })
    expect(query.state.rows).toBe(state.rows)
    void id
  })

  test('that is closed in a listener calls nobody any more', async () => {
    const talk = new Talk()
    const query = talk.client.liveQuery({ table: 'task' })
    const [next, later] = [vi.fn(), vi.fn()]
    await Promise.resolve()
    query.onChange(() => query.close())
    query.onChange(next)
    await talk.greet()
    talk.fill([])
    query.onChange(later)
    expect(talk.reported).toEqual([])
    expect(next).not.toHaveBeenCalled()
    expect(later).not.toHaveBeenCalled()
  })
})
