import { describe, expect, test, vi } from 'vitest'
import { waitFor } from '../src/index.js'
import { Talk, promises } from './support/talk.js'

describe('own writes', () => {
  const live = async (hello: object = {}): Promise<{ talk: Talk; id: string; heard: ReturnType<typeof vi.fn> }> => {
    const talk = new Talk({ batch: 'frame' })
    const heard = vi.fn()
    talk.client.liveQuery({ table: 'task' }).onChange(heard)
    await talk.greet(hello)
    const id = talk.fill([])
    talk.platform.paint()
    heard.mockClear()
    talk.take()
    return { talk, id, heard }
  }

  test('are waited for by asking the server, also where nothing matched', async () => {
    const { talk } = await live()
    const done = vi.fn()
    void waitFor(talk.client, '0/200').then(done)
    expect(talk.take()).toEqual([{ type: 'ping', ref: '0/200', reach: '0/200' }])
    await promises()
    expect(done).not.toHaveBeenCalled()
    talk.say({ type: 'pong', ref: '0/210', position: '0/210' })
    await promises()
    expect(done).toHaveBeenCalledWith('0/210')
  })

  test('are there when it resolves, and listeners were told', async () => {
    const { talk, id, heard } = await live()
    const waited = waitFor(talk.client, { position: '0/200' })
    talk.tx('0/200', [{ id, op: 'insert', row: { id: 1, title: 'mine' } }])
    expect(heard).toHaveBeenCalledTimes(1)
    expect(await waited).toBe('0/200')
  })

  test('are waited for once where there are many, by the greatest', async () => {
    const { talk } = await live()
    const done: string[] = []
    for (const position of ['0/300', '0/200', '0/250']) void waitFor(talk.client, position).then((reached) => done.push(`${position} ${reached}`))
    expect(talk.take().map(({ reach }) => reach)).toEqual(['0/300'])
    talk.say({ type: 'progress', position: '0/220' })
    await promises()
    expect(done).toEqual(['0/200 0/220'])
    talk.say({ type: 'pong', ref: '0/300', position: '0/300' })
    await promises()
    expect(done.slice(1).sort()).toEqual(['0/250 0/300', '0/300 0/300'])
  })

  test('that are seen already are not waited for', async () => {
    const { talk } = await live()
    talk.say({ type: 'progress', position: '0/220' })
    expect(await waitFor(talk.client, '0/200')).toBe('0/220')
    expect(talk.take()).toEqual([])
  })

  test('by the number of the transaction, also if it came before', async () => {
    const { talk, id } = await live()
    const before = waitFor(talk.client, { xid: 701 + 2 ** 32 })
    talk.tx('0/200', [{ id, op: 'insert', row: { id: 1, title: 'mine' } }])
    expect(await before).toBe('0/200')
    expect(await waitFor(talk.client, { position: 'F/0', xid: '701' })).toBe('0/200')
  })

  test('across a cut are asked for again', async () => {
    const { talk } = await live()
    const waited = waitFor(talk.client, '0/200')
    talk.socket.end()
    talk.platform.pass(500)
    await talk.greet()
    talk.accept()
    expect(talk.sent.at(-1)).toEqual({ type: 'ping', ref: '0/200', reach: '0/200' })
    talk.say({ type: 'live', id: '2', position: '0/200' })
    expect(await waited).toBe('0/200')
  })

  test('in another epoch are there once everything is live again', async () => {
    const { talk } = await live()
    const waited = waitFor(talk.client, '9/0')
    talk.socket.end()
    talk.platform.pass(500)
    await talk.greet({ epoch: 'e2', position: '0/50' })
    const done = vi.fn()
    void waited.then(done)
    await promises()
    expect(done).not.toHaveBeenCalled()
    talk.fill([], '0/50')
    expect(await waited).toBe('0/50')
  })

  test('with an old server wait until it says so by itself, and the client tells', async () => {
    const { talk } = await live({ features: undefined })
    const waited = waitFor(talk.client, '0/200')
    expect(talk.take()).toEqual([])
    expect(talk.warnings[0]).toContain('this server does not know `reach`')
    talk.say({ type: 'progress', position: '0/200' })
    expect(await waited).toBe('0/200')
  })

  test('are asked for again if the server would not hear', async () => {
    const { talk } = await live()
    const waited = waitFor(talk.client, '0/200')
    talk.take()
    talk.say({ type: 'error', code: 'rate_limited', message: 'slowly', limit: 'messages', retry_after_ms: 700 })
    talk.platform.pass(699)
    expect(talk.take()).toEqual([])
    talk.platform.pass(1)
    expect(talk.take()).toEqual([{ type: 'ping', ref: '0/200', reach: '0/200' }])
    talk.say({ type: 'pong', ref: '0/200', position: '0/200' })
    await waited
  })

  test('are asked for fifty at a time, and the others once there was an answer', async () => {
    const { talk } = await live()
    for (let n = 0; n < 60; n++) waitFor(talk.client, `0/${(0x1000 + n).toString(16)}`).catch(() => {})
    expect(talk.take().length).toBe(50)
    talk.say({ type: 'pong', ref: '0/1000', position: '0/1000' })
    expect(talk.take().map(({ reach }) => reach)).toEqual(['0/103b'])
    talk.platform.pass(30_000)
  })

  test('that nobody has made are refused, and others are waited for all the same', async () => {
    const { talk } = await live()
    const [far, near] = [waitFor(talk.client, '9/0'), waitFor(talk.client, '0/200')]
    talk.say({ type: 'error', code: 'resume_invalid', message: 'beyond what Postgres has written', ref: '9/0' })
    await expect(far).rejects.toMatchObject({ code: 'resume_invalid', message: 'beyond what Postgres has written' })
    talk.say({ type: 'progress', position: '0/200' })
    await near
    expect(talk.warnings).toEqual([])
  })

  test('end by time, by signal and by close, with a reason', async () => {
    const { talk } = await live()
    const over = new AbortController()
    const late = waitFor(talk.client, '0/200', { timeout: 50 })
    const given = waitFor(talk.client, '0/200', { signal: over.signal })
    talk.platform.pass(50)
    await expect(late).rejects.toMatchObject({ code: 'timeout', message: 'the queries did not come as far as 0/200 in time: the connection is open' })
    over.abort(new Error('enough'))
    await expect(given).rejects.toThrow('enough')
    await expect(waitFor(talk.client, 'yesterday')).rejects.toThrow('not "yesterday"')
    await expect(waitFor(talk.client, {})).rejects.toThrow('waitFor takes a position')
    const loggedOut = waitFor(talk.client, '0/200', { timeout: 1e9 })
    await talk.client.setToken(null)
    await expect(loggedOut).rejects.toMatchObject({ code: 'closed', message: 'logged out meanwhile' })
    const closed = waitFor(talk.client, '0/200', { timeout: 1e9 })
    await talk.client.close()
    await expect(closed).rejects.toMatchObject({ code: 'closed' })
    await expect(waitFor(talk.client, '0/200')).rejects.toMatchObject({ code: 'closed' })
  })
})
