import { describe, expect, test, vi } from 'vitest'
import { onRow, parse, parsers } from '../src/index.js'
import { Talk } from './support/talk.js'

describe('values', () => {
  test('the stream is asked for texts of numbers, unless one wants JavaScript\'s', async () => {
    const talk = new Talk()
    talk.client.connect()
    expect(talk.socket.url).toBe('wss://example.com/v1/stream?numbers=string')
    const native = new Talk({ numbers: 'native' }, 'https://example.com/v1/stream?x=1#y')
    native.client.connect()
    expect(native.socket.url).toBe('wss://example.com/v1/stream?x=1')
  })

  test('parsers and maps run once for each row that changed, and unchanged values stay', async () => {
    const text = vi.fn((value: string) => value.toUpperCase())
    const map = vi.fn(({ title }: { title: string | null }) => title)
    const talk = new Talk({ parsers: parsers({ types: { text } }) })
    const query = talk.client.liveQuery({ table: 'task' }, { map })
    query.onChange(() => void query.state.rows)
    await talk.greet()
    const id = talk.fill([{ id: 1, title: 'a' }, { id: 2, title: 'b' }])
    expect(query.state.rows).toEqual(['A', 'B'])
    talk.tx('0/200', [{ id, op: 'update', row: { id: 2 }, unchanged: ['title'] }])
    expect(query.state.rows).toEqual(['A', 'B'])
    expect(text).toHaveBeenCalledTimes(2)
    expect(map).toHaveBeenCalledTimes(3)
  })

  test('a value that was never held is left out, and a row that is too large has its key alone', async () => {
    const talk = new Talk()
    const query = talk.client.liveQuery({ table: 'task' })
    query.onChange(() => {})
    await talk.greet()
    const id = talk.fill([{ id: 1, title: 'a' }])
    talk.tx('0/200', [{ id, op: 'insert', row: { id: 2 }, unchanged: ['title'], cause: 'update' }])
    expect(query.get(2)).toEqual({ id: 2 })
    talk.tx('0/300', [{ id, op: 'update', oversize: true, key: { id: 1 }, new_key: { id: 3 } }])
    expect(query.state.rows).toEqual([{ id: 2 }, { id: 3 }])
    expect(talk.warnings).toEqual(['task: a row is larger than the server sends: only its key is known'])
  })

  test('a change of a key, a truncate and what may not belong are taken as they are meant', async () => {
    const talk = new Talk()
    const query = talk.client.liveQuery({ table: 'task' })
    query.onChange(() => {})
    await talk.greet()
    const id = talk.fill([{ id: 1, title: 'a' }])
    talk.tx('0/200', [{ id, op: 'update', row: { id: 5, title: 'a' }, key: { id: 1 } }])
    expect(query.state.rows).toEqual([{ id: 5, title: 'a' }])
    talk.tx('0/210', [{ id, op: 'update', row: { id: 6, title: 'x' }, undecided: true, as_before: true }, { id, op: 'update', row: { id: 7, title: 'y' }, undecided: true }])
    expect(query.state.rows.map(({ id }) => id)).toEqual([5, 7])
    talk.tx('0/220', [{ id, op: 'delete', key: { id: 99 } }, { id, op: 'truncate' }, { id, op: 'insert', row: { id: 8, title: 'z' } }])
    expect(query.state.rows).toEqual([{ id: 8, title: 'z' }])
  })

  test('rows of several key columns are found by all of them', async () => {
    const talk = new Talk()
    const query = talk.client.liveQuery({ table: 'pair' })
    const heard = vi.fn()
    onRow(query, [1, 'x'], heard)
    await talk.greet()
    const columns = [{ name: 'a', type: 'bigint' }, { name: 'b', type: 'text' }]
    const id = talk.accept('0/100', { key: ['a', 'b'], columns })
    talk.say({ type: 'snapshot', id, rows: [{ a: '1', b: 'x' }, { a: '1', b: 'y' }] })
    talk.say({ type: 'live', id, position: '0/100' })
    expect(query.get(['1', 'x'])).toEqual({ a: '1', b: 'x' })
    expect(heard).toHaveBeenCalledTimes(0)
  })

  test('a key is found as number, bigint or text', async () => {
    const talk = new Talk({ parsers: parsers({ types: { int8: parse.bigint } }) })
    const query = talk.client.liveQuery({ table: 'task' }) as any
    const heard = vi.fn()
    onRow(query, 1n, heard)
    await talk.greet()
    const id = talk.fill([{ id: '1', title: 'x' }], '0/100', { columns: [{ name: 'id', type: 'bigint' }, { name: 'title', type: 'text' }] })
    for (const key of [1, 1n, '1']) expect(query.get(key)).toEqual({ id: 1n, title: 'x' })
    expect(heard).toHaveBeenCalledTimes(1)
    talk.tx('0/200', [{ id, op: 'insert', row: { id: '2', title: 'x' } }])
    expect(heard).toHaveBeenCalledTimes(1)
  })

  test('a parser that throws ends the query before anything of the transaction is seen', async () => {
    const talk = new Talk({ parsers: parsers({ columns: { task: { title: (text) => JSON.parse(text) } } }) })
    const query = talk.client.liveQuery({ table: 'task' })
    query.onChange(() => {})
    await talk.greet()
    const id = talk.fill([{ id: 1, title: '"a"' }])
    talk.tx('0/200', [{ id, op: 'insert', row: { id: 2, title: '"b"' } }, { id, op: 'insert', row: { id: 3, title: '{' } }])
    expect(query.state.rows).toEqual([{ id: 1, title: 'a' }])
    expect(query.state.error?.code).toBe('bad_value')
    expect(query.state.error?.message).toContain('the parser of task.title failed on "{"')
  })

  test('types that are not the schema\'s are named', async () => {
    const talk = new Talk({ schema: { tables: { task: { key: ['id'], columns: { id: 'integer', title: 'numeric' } } } } })
    talk.client.liveQuery({ table: 'task' }).onChange(() => {})
    await talk.greet()
    talk.accept()
    expect(talk.warnings).toEqual(['task: title is text in the database and numeric in the schema: run walcast types again'])
  })
})
