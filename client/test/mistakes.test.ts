import { inspect } from 'node:util'
import { describe, expect, test, vi } from 'vitest'
import { createClient, onDiff, onRow, sql } from '../src/index.js'
import { Talk } from './support/talk.js'

describe('what may go wrong', () => {
  test('an address that is none', () => {
    for (const url of ['', 'localhost', 'ftp://example.com', 'http://']) expect(() => createClient(url)).toThrow(expect.objectContaining({ code: 'bad_url' }))
  })

  test('no WebSocket', async () => {
    const before = globalThis.WebSocket
    Object.assign(globalThis, { WebSocket: undefined })
    const client = createClient('ws://127.0.0.1:1')
    const ready = client.liveQuery({ table: 'task' }).ready()
    await expect(ready).rejects.toMatchObject({ code: 'unsupported', message: expect.stringContaining('createClient(url, { webSocket: WebSocket })') })
    await client.close()
    Object.assign(globalThis, { WebSocket: before })
  })

  test('a server of another version, or none of walcast', async () => {
    for (const [frame, code, message] of [
      ['{"type":"hello","protocol":2}', 'unsupported', 'version 2'],
      ['{"welcome":true}', 'bad_frame', 'what answers at wss://example.com/v1/stream?numbers=string is no walcast server: {"welcome":true}'],
      ['hi', 'bad_frame', 'no walcast server: hi'],
    ] as const) {
      const talk = new Talk()
      const ready = talk.client.liveQuery({ table: 'task' }).ready()
      talk.socket.accept()
      talk.socket.sayText(frame)
      await expect(ready).rejects.toMatchObject({ code, message: expect.stringContaining(message) })
      expect(talk.client.connection.name).toBe('refused')
      expect(talk.socket.isOpen).toBe(false)
      talk.platform.pass(1e6)
      expect(talk.platform.sockets.length).toBe(1)
    }
  })

  test('a connection that never was has its reason in the console, once', async () => {
    vi.stubGlobal('location', { href: 'http://localhost:5174/', origin: 'http://localhost:5174' })
    const talk = new Talk()
    talk.client.liveQuery({ table: 'task' }).subscribe(() => {})
    for (let attempt = 0; attempt < 3; attempt++) {
      talk.socket.end(1006)
      talk.platform.pass(2000)
    }
    expect(talk.warnings).toEqual(['wss://example.com/v1/stream?numbers=string: no connection: is the address right, is the server running, and does it accept this origin (1006); the origin is http://localhost:5174'])
    vi.unstubAllGlobals()
    // That one that was there is lost is no mistake.
    await talk.greet()
    talk.socket.end(1001)
    talk.socket.end(1006)
    expect(talk.warnings).toHaveLength(1)
  })

  test('a predicate with a typo shows the place', async () => {
    const talk = new Talk()
    const ready = talk.client.liveQuery({ table: 'task', where: 'titel = 1' }).ready()
    await talk.greet()
    talk.say({ type: 'error', id: '1', code: 'bad_predicate', message: 'there is no column "titel"', offset: 0 })
    await expect(ready).rejects.toMatchObject({ code: 'bad_predicate', message: 'there is no column "titel"\n  titel = 1\n  ^', offset: 0 })
    expect(talk.warnings).toEqual(['task: there is no column "titel"\n  titel = 1\n  ^'])
  })

  test('a table that is not there is an error until somebody tries again', async () => {
    const talk = new Talk()
    const query = talk.client.liveQuery({ table: 'task' })
    query.onChange(() => {})
    await talk.greet()
    talk.say({ type: 'error', id: '1', code: 'unknown_table', message: 'no table' })
    expect([query.state.status, query.state.error?.message]).toEqual(['error', 'no table'])
    talk.platform.pass(10_000)
    expect(talk.sent.filter(({ type }) => type === 'subscribe').length).toBe(1)
    talk.client.connect()
    expect(query.state.error).toBeUndefined()
    talk.fill([])
    expect(query.state.status).toBe('live')
  })

  test('what is busy is asked again, later each time', async () => {
    const talk = new Talk()
    const query = talk.client.liveQuery({ table: 'task' })
    query.onChange(() => {})
    await talk.greet()
    for (const [error, wait] of [
      [{ code: 'internal' }, 250],
      [{ code: 'limit_exceeded', limit: 'snapshots' }, 500],
      [{ code: 'rate_limited', retry_after_ms: 3000 }, 3000],
    ] as const) {
      talk.say({ type: 'error', id: talk.sent.findLast(({ type }) => type === 'subscribe').id, message: '', ...error })
      talk.take()
      talk.platform.pass(wait - 1)
      expect(talk.take().filter(({ type }) => type === 'subscribe')).toEqual([])
      talk.platform.pass(1)
      expect(talk.sent.filter(({ type }) => type === 'subscribe').length).toBe(1)
    }
    expect(query.state.status).toBe('connecting')
  })

  test('no more snapshots at once than the server allows', async () => {
    const talk = new Talk()
    const queries = [0, 1, 2, 3, 4].map((n) => talk.client.liveQuery({ table: 'task', where: `id = ${n}` }))
    for (const query of queries) query.onChange(() => {})
    await talk.greet({ limits: { subject_snapshots: 2 } })
    const asked = (): string[] => talk.take().map(({ type, where }) => `${type} ${where}`)
    expect(asked()).toEqual(['subscribe id = 0', 'subscribe id = 1'])
    talk.say({ type: 'error', id: '1', code: 'unknown_table', message: '' })
    expect(asked()).toEqual(['subscribe id = 2'])
    talk.say({ type: 'subscribed', id: '2', position: '0/100', key: ['id'], columns: [], replica_identity: 'full', warnings: [] })
    talk.platform.pass(1000)
    expect(asked()).toEqual([])
    talk.say({ type: 'live', id: '2', position: '0/100' })
    expect(asked()).toEqual(['subscribe id = 3'])
    queries[3]!.close()
    talk.platform.pass(5001)
    expect(asked()).toEqual(['unsubscribe undefined', 'subscribe id = 4'])
  })

  test('a query that is too large for a message ends by itself, and not the connection', async () => {
    const talk = new Talk()
    const large = talk.client.liveQuery({ table: 'task', where: 'title = ANY($1)', params: [Array.from({ length: 20_000 }, () => 'ö')] })
    const small = talk.client.liveQuery({ table: 'task' })
    for (const query of [large, small]) query.onChange(() => {})
    await talk.greet()
    expect(large.state.error).toMatchObject({ code: 'limit_exceeded', details: { limit: 'message_bytes' } })
    talk.fill([])
    expect(small.state.status).toBe('live')
  })

  test('a listener that throws is reported, and the others hear', async () => {
    const talk = new Talk()
    const query = talk.client.liveQuery({ table: 'task' })
    const heard = vi.fn()
    query.onChange(() => {
      throw new Error('mine')
    })
    onDiff(query, () => {
      throw new Error('diff')
    })
    onRow(query, 1, heard)
    query.onChange(heard)
    talk.client.onConnection(() => {
      throw new Error('state')
    })
    await talk.greet()
    heard.mockClear()
    talk.fill([{ id: 1, title: 'a' }])
    expect(heard).toHaveBeenCalledTimes(3)
    expect(talk.reported.map((error) => (error as Error).message)).toEqual(expect.arrayContaining(['mine', 'diff', 'state']))
  })

  test('a map that throws is reported, and neither others nor later changes are lost', async () => {
    const talk = new Talk()
    const bad = talk.client.liveQuery({ table: 'task' }, { map: ({ title }) => title!.length })
    const good = talk.client.liveQuery({ table: 'task' })
    const heard: unknown[] = []
    onDiff(bad, (diff) => heard.push(diff.changes.map(({ row }) => row)))
    good.onChange(() => heard.push(good.state.rows.length))
    await talk.greet()
    const id = talk.fill([])
    heard.length = 0
    talk.tx('0/200', [{ id, op: 'insert', row: { id: 1, title: null } }])
    expect(talk.reported.length).toBe(1)
    talk.tx('0/300', [{ id, op: 'insert', row: { id: 2, title: 'ab' } }])
    expect(heard).toEqual([1, [2], 2])
  })

  test('a taker of warnings that throws is reported, and nothing else happens', async () => {
    const talk = new Talk({
      onWarning: () => {
        throw new Error('not interested')
      },
    })
    const query = talk.client.liveQuery({ table: 'task' })
    query.onChange(() => {})
    await talk.greet()
    talk.fill([], '0/100', { warnings: ['look at this'] })
    expect(talk.reported.map((error) => (error as Error).message)).toEqual(['not interested'])
    expect(query.state.status).toBe('live')
  })

  test('a frame that is not of the protocol ends the connection, which comes back', async () => {
    for (const frame of ['nonsense', '{"type":"tx","position":"0/1"}', 'null']) {
      const talk = new Talk()
      const query = talk.client.liveQuery({ table: 'task' })
      query.onChange(() => {})
      await talk.greet()
      talk.fill([{ id: 1, title: 'a' }])
      talk.socket.sayText(frame)
      expect(talk.client.connection).toMatchObject({ name: 'waiting', reason: expect.stringContaining('not of the protocol') })
      talk.platform.pass(500)
      await talk.greet()
      expect(talk.sent[0].from).toBe('0/100')
      expect(query.state.rows.length).toBe(1)
    }
  })

  test('a change that is none ends its query', async () => {
    const talk = new Talk()
    const query = talk.client.liveQuery({ table: 'task' })
    query.onChange(() => {})
    await talk.greet()
    const id = talk.fill([{ id: 1, title: 'a' }])
    talk.tx('0/200', [{ id, op: 'merge', key: { id: 1 } }])
    expect(query.state).toMatchObject({ status: 'error', rows: [{ id: 1, title: 'a' }], error: { code: 'bad_frame' } })
  })

  test('what is no part of a query is a warning, once', async () => {
    const talk = new Talk()
    talk.client.connect()
    await talk.greet()
    for (let i = 0; i < 2; i++) talk.say({ type: 'error', code: 'bad_request', message: 'this server takes no tokens' })
    talk.say({ type: 'news', of: 'the future' })
    expect(talk.warnings).toEqual(['bad_request: this server takes no tokens'])
    expect(talk.client.connection.name).toBe('open')
  })

  test('parameters twice', () => {
    expect(() => new Talk().client.liveQuery({ table: 'task', where: sql`id = ${1}`, params: [1] })).toThrow('leave params out')
  })
})

test('a token is nowhere in what a client shows of itself', () => {
  const { client } = new Talk({ token: 'secret' })
  client.liveQuery({ table: 'task' }).subscribe(() => {})
  expect(inspect(client, { depth: Infinity, showHidden: true })).not.toContain('secret')
})
