import { describe, expect, test } from 'vitest'
import { type ChangeEvent, changes, messages, waitFor } from '../src/index.js'
import { COLUMNS, Talk, promises, type Task } from './support/talk.js'

/** Reads in the background what comes. */
function reading<T>(from: AsyncIterable<T>): { events: T[]; end: Promise<unknown> } {
  const events: T[] = []
  const end = (async () => {
    for await (const event of from) events.push(event)
  })().catch((error: unknown) => error)
  return { events, end }
}

describe('a reader of changes', () => {
  test('gets rows, the place where they are whole, and every change in order', async () => {
    const talk = new Talk()
    const { events } = reading(changes(talk.client, { table: 'task', where: 'id > 0' }, { snapshot: true, old: true, ops: ['insert', 'update', 'delete', 'truncate'] }))
    await talk.greet()
    expect(talk.sent).toEqual([{ type: 'subscribe', id: '1', table: 'task', where: 'id > 0', old: true, ops: ['insert', 'update', 'delete', 'truncate'], snapshot: true }])
    const id = talk.fill([{ id: 1, title: 'a' }])
    talk.tx('0/200', [
      { id, op: 'insert', row: { id: 2, title: 'b' }, cause: 'update' },
      { id, op: 'update', row: { id: 3, title: 'c' }, key: { id: 2 }, old: { id: 2 } },
      { id, op: 'update', row: { id: 3 }, unchanged: ['title'], undecided: true, as_before: true },
      { id, op: 'delete', key: { id: 3 }, old: { id: 3, title: 'c' } },
      { id, op: 'truncate' },
      { id, op: 'insert', key: { id: 4 }, oversize: true },
    ])
    await promises()
    const place = { position: '0/200', epoch: 'e1' }
    expect(events).toEqual([
      { type: 'rows', rows: [{ id: 1, title: 'a' }] },
      { type: 'live', place: { position: '0/100', epoch: 'e1' } },
      {
        type: 'tx',
        position: '0/200',
        xid: 701,
        ts: '2026-01-01T00:00:00.000000Z',
        more: false,
        place,
        changes: [
          { seq: 0, op: 'insert', row: { id: 2, title: 'b' }, cause: 'update', unchanged: [] },
          { seq: 1, op: 'update', row: { id: 3, title: 'c' }, key: { id: 2 }, old: { id: 2 }, unchanged: [] },
          { seq: 2, op: 'update', row: { id: 3 }, unchanged: ['title'], undecided: true, asBefore: true },
          { seq: 3, op: 'delete', key: { id: 3 }, old: { id: 3, title: 'c' } },
          { seq: 4, op: 'truncate' },
          { seq: 5, op: 'oversize', of: 'insert', key: { id: 4 } },
        ],
      },
    ])
  })

  test('begins nothing before it is read, and ends with its loop', async () => {
    const talk = new Talk()
    const reader = changes(talk.client, { table: 'task' })
    await promises()
    expect(talk.platform.sockets.length).toBe(0)
    const loop = (async () => {
      for await (const event of reader) if (event.type === 'live') break
    })()
    await talk.greet()
    talk.fill([])
    await loop
    expect(talk.sent.at(-1)).toEqual({ type: 'unsubscribe', id: '1' })
    expect(await reader.next()).toEqual({ done: true, value: undefined })
  })

  test('goes on from a place that was stored, or from the earliest', async () => {
    const talk = new Talk()
    reading(changes(talk.client, { table: 'task' }, { from: { position: '0/90', epoch: 'e0', now: 'then' } }))
    reading(changes(talk.client, { table: 'task' }, { from: 'earliest' }))
    reading(changes(talk.client, { table: 'task' }, { from: 'now' }))
    await talk.greet()
    expect(talk.sent.map(({ type, id, table, ...others }) => others)).toEqual([{ from: '0/90', epoch: 'e0', now: 'then' }, { from: 'earliest' }, {}])
  })

  test('that is slow leaves the stream, and comes back to its place', async () => {
    const talk = new Talk()
    const reader = changes(talk.client, { table: 'task' }, { buffer: 2 })
    const first = reader.next()
    await talk.greet()
    const id = talk.fill([])
    expect((await first).value.type).toBe('live')
    const insert = (id: string, n: number): object => ({ id, op: 'insert', row: { id: n, title: null } })
    talk.tx('0/200', [insert(id, 1), insert(id, 2)])
    expect(talk.sent.length).toBe(1)
    talk.tx('0/300', [insert(id, 3)])
    expect(talk.sent.at(-1)).toEqual({ type: 'unsubscribe', id })
    // What comes after that is not held, and not lost.
    talk.tx('0/400', [insert(id, 4)])
    const seen = [(await reader.next()).value, (await reader.next()).value]
    expect(seen.map(({ position }) => position)).toEqual(['0/200', '0/300'])
    const next = reader.next()
    await promises()
    expect(talk.sent.at(-1)).toEqual({ type: 'subscribe', id: '2', table: 'task', from: '0/300', epoch: 'e1' })
    talk.accept('0/300')
    talk.tx('0/400', [insert('2', 4)], { id: '2' })
    expect((await next).value).toMatchObject({ type: 'tx', position: '0/400', changes: [{ row: { id: 4 } }] })
  })

  test('gets large transactions in parts, or as a whole, also across a cut', async () => {
    for (const whole of [false, true]) {
      const talk = new Talk()
      const { events } = reading(changes(talk.client, { table: 'task' }, { whole }))
      await talk.greet()
      const id = talk.fill([])
      talk.tx('0/200:0', [{ id, op: 'insert', row: { id: 1, title: 'a' } }], { more: true })
      talk.socket.end()
      talk.platform.pass(500)
      await talk.greet()
      expect(talk.sent[0]).toMatchObject({ from: '0/200:0' })
      talk.accept('0/200:0')
      talk.tx('0/200', [{ id: '2', op: 'insert', row: { id: 2, title: 'b' } }], { id: '2' })
      talk.say({ type: 'live', id: '2', position: '0/200' })
      await promises()
      const of = events.filter((event): event is ChangeEvent<Task> & { type: 'tx' } => event.type === 'tx')
      expect(of.map(({ position, more, changes }) => [position, more, changes.length])).toEqual(whole ? [['0/200', false, 2]] : [['0/200:0', true, 1], ['0/200', false, 1]])
    }
  })

  test('gets a transaction as a whole also if its end does not concern it', async () => {
    const begin = async (): Promise<{ talk: Talk; events: ChangeEvent[]; part: (position: string, n: number, more?: object) => void }> => {
      const talk = new Talk()
      const { events } = reading(changes(talk.client, { table: 'task' }, { whole: true }))
      await talk.greet()
      const part = (position: string, n: number, more = {}): void => talk.tx(position, [{ id: '1', op: 'insert', row: { id: n, title: null } }], { more: true, ...more })
      return { talk, events: events as ChangeEvent[], part }
    }
    const given = async (events: ChangeEvent[]): Promise<unknown[]> => {
      await promises()
      return events.flatMap((event) => (event.type === 'tx' ? [[event.position, event.more, event.changes.length, event.place.position]] : []))
    }
    // By the last frame, which is about another subscription.
    const a = await begin()
    a.talk.fill([])
    a.part('0/200:0', 1)
    a.part('0/200:1', 2)
    expect(await given(a.events)).toEqual([])
    a.talk.tx('0/200', [{ id: 'other', op: 'truncate' }])
    expect(await given(a.events)).toEqual([['0/200', false, 2, '0/200']])
    // By a word about progress.
    a.part('0/300:0', 3)
    a.talk.say({ type: 'progress', position: '0/300' })
    expect((await given(a.events))[1]).toEqual(['0/300', false, 1, '0/300'])
    // While it catches up: by the next transaction, and by `live`.
    const b = await begin()
    b.talk.accept()
    b.part('0/200:0', 1, { id: '1' })
    b.part('0/300:0', 2, { id: '1' })
    expect(await given(b.events)).toEqual([['0/200', false, 1, '0/200']])
    b.talk.say({ type: 'live', id: '1', position: '0/300' })
    expect((await given(b.events))[1]).toEqual(['0/300', false, 1, '0/300'])
    expect(b.events.at(-1)!.type).toBe('live')
  })

  test('whose place is lost throws, or begins anew if that was asked for', async () => {
    const strict = new Talk()
    const { end } = reading(changes(strict.client, { table: 'task' }, { from: { position: '0/1', epoch: 'e1' } }))
    await strict.greet()
    strict.say({ type: 'error', code: 'resume_expired', message: 'the journal begins later', id: '1', earliest: '0/50' })
    expect(await end).toMatchObject({ code: 'resume_expired', details: { earliest: '0/50' } })
    expect(strict.sent.length).toBe(1)

    const lax = new Talk()
    const { events } = reading(changes(lax.client, { table: 'task' }, { from: { position: '0/1', epoch: 'e1' }, onGap: 'snapshot' }))
    await lax.greet()
    lax.say({ type: 'error', code: 'resume_expired', message: 'gone', id: '1' })
    lax.fill([{ id: 1, title: 'a' }])
    await promises()
    expect(events.map((event) => event.type)).toEqual(['gap', 'rows', 'live'])
  })

  test('whose snapshot is interrupted says that it begins anew', async () => {
    const talk = new Talk()
    const { events } = reading(changes(talk.client, { table: 'task' }, { snapshot: true }))
    await talk.greet()
    talk.say({ type: 'subscribed', id: talk.accept(), position: '0/100', key: ['id'], columns: COLUMNS, warnings: [] })
    talk.say({ type: 'snapshot', id: '1', rows: [{ id: 1, title: 'a' }] })
    talk.socket.end()
    talk.platform.pass(500)
    await talk.greet()
    talk.fill([{ id: 1, title: 'a' }])
    await promises()
    expect(events.map((event) => event.type)).toEqual(['rows', 'gap', 'rows', 'live'])
  })

  test('ends with its signal, and with its client by an error', async () => {
    const talk = new Talk()
    const over = new AbortController()
    const given = reading(changes(talk.client, { table: 'task' }, { signal: over.signal }))
    const left = reading(changes(talk.client, { table: 'task' }))
    await talk.greet()
    over.abort()
    expect(await given.end).toBeUndefined()
    await talk.client.close()
    expect(await left.end).toMatchObject({ code: 'closed' })
    expect(await reading(changes(talk.client, { table: 'task' })).end).toMatchObject({ code: 'closed' })
    expect(await reading(changes(talk.client, { table: 'task' }, { signal: over.signal })).end).toBeUndefined()
  })

  test('is not waited for by those who wait for queries', async () => {
    const talk = new Talk()
    reading(changes(talk.client, { table: 'task' }, { from: 'earliest' }))
    talk.client.liveQuery({ table: 'task' }).onChange(() => {})
    await talk.greet()
    talk.accept()
    talk.say({ type: 'live', id: '2', position: '0/100' })
    talk.say({ type: 'progress', position: '0/300' })
    expect(await waitFor(talk.client, '0/300')).toBe('0/300')
  })
})

test('messages come as they were written', async () => {
  const talk = new Talk()
  const { events } = reading(messages(talk.client, 'chat', { from: 'earliest' }))
  await talk.greet()
  expect(talk.sent).toEqual([{ type: 'subscribe', id: '1', messages: 'chat', from: 'earliest' }])
  talk.say({ type: 'subscribed', id: '1', position: '0/100', key: [], columns: [], replica_identity: 'nothing', warnings: [] })
  talk.say({ type: 'live', id: '1', position: '0/100' })
  talk.tx('0/200', [{ id: '1', op: 'message', content: 'hi' }, { id: '1', op: 'message', content: '\\x00', encoding: 'hex' }, { id: '1', op: 'message', content: null, oversize: true }], { xid: 0 })
  await promises()
  expect(events).toEqual([
    { position: '0/200', xid: 0, content: 'hi' },
    { position: '0/200', xid: 0, content: '\\x00', encoding: 'hex' },
    { position: '0/200', xid: 0, content: null },
  ])
})

test('what an old server does not know is not asked of it, and said so', async () => {
  for (const read of [
    (talk: Talk) => messages(talk.client, 'ack', { content: '7' }),
    (talk: Talk) => changes(talk.client, { table: 'task' }, { from: { time: '2026-01-01T00:00:00Z' } }),
  ]) {
    const talk = new Talk()
    const { end } = reading<unknown>(read(talk))
    await talk.greet()
    expect(await end).toMatchObject({ code: 'unsupported', message: expect.stringContaining('this server (walcast/1) does not know') })
    expect(talk.sent).toEqual([])
  }
})

test('messages of one content, and changes from a time on, are asked for as the protocol says', async () => {
  const talk = new Talk()
  reading(messages(talk.client, 'ack', { content: '7' }))
  reading(changes(talk.client, { table: 'task' }, { from: { time: new Date(0) } }))
  await talk.greet({ features: ['time', 'content'] })
  expect(talk.sent).toEqual([
    { type: 'subscribe', id: '1', messages: 'ack', content: '7' },
    { type: 'subscribe', id: '2', table: 'task', from: { time: '1970-01-01T00:00:00.000Z' } },
  ])
  // From then on it goes on from its place.
  talk.say({ type: 'subscribed', id: '2', position: '0/100', key: ['id'], columns: COLUMNS, replica_identity: 'full', warnings: [] })
  talk.say({ type: 'live', id: '2', position: '0/100' })
  talk.socket.end()
  talk.platform.pass(500)
  await talk.greet({ features: ['time', 'content'] })
  expect(talk.sent.at(-1)).toMatchObject({ from: '0/100', epoch: 'e1' })
})
