import { createHmac } from 'node:crypto'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { WebSocket } from 'ws'
import { type Client, type Token, type TokenReason, createClient } from '../../src/index.js'
import { Server, WALCAST, eventually } from './server.js'

const SECRET = 'a secret of thirty-two bytes, at least'
const encoded = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url')

/** A token of somebody, good for so many seconds. */
function token(sub: string, seconds: number, secret = SECRET): string {
  const text = `${encoded({ alg: 'HS256' })}.${encoded({ sub, role: 'user', exp: Math.floor(Date.now() / 1000) + seconds })}`
  return `${text}.${createHmac('sha256', secret).update(text).digest('base64url')}`
}

describe.skipIf(!WALCAST)('tokens, with a real server', () => {
  const server = new Server()
  let client: Client
  const states: string[] = []

  beforeAll(async () => {
    server.file('secret', SECRET)
    const config = server.file('walcast.toml', `[auth]\nalgorithms = ["HS256"]\nsecret_file = "secret"\nleeway = "0s"\n\n[[policy]]\ntables = ["public.note"]\nroles = ["user"]\nwhere = "owner = claim('sub')"\n`)
    await server.start("CREATE TABLE note (id serial PRIMARY KEY, owner text, text text); ALTER TABLE note REPLICA IDENTITY FULL; INSERT INTO note (owner, text) VALUES ('ann', 'a'), ('bob', 'b')", { config, 'auth-timeout': '1s' })
  }, 60_000)

  afterAll(() => server.stop(), 30_000)
  afterEach(() => client.close())

  function connect(token: Token): Client {
    states.length = 0
    client = createClient(server.url, { token, webSocket: WebSocket, backoff: { first: 20, most: 200 }, batch: 'transaction', onWarning: () => {} })
    client.onConnection(({ name }) => states.push(name))
    return client
  }

  test('are renewed on the connection, which stays, again and again', async () => {
    const asked: TokenReason[] = []
    const live = connect(({ reason }) => {
      asked.push(reason)
      return token('ann', 10)
    }).liveQuery({ table: 'note' })
    expect((await live.ready()).rows).toEqual([{ id: 1, owner: 'ann', text: 'a' }])
    // The server may not have been ready at first.
    asked.length = states.length = 0
    await eventually('it was asked', () => asked.length >= 2 || undefined)
    expect(new Set(asked)).toEqual(new Set(['expiring']))
    expect(states).toEqual([])
  }, 60_000)

  test('that expire since there is no other end the connection, which is there again once there is one', async () => {
    let isDown = false
    const asked: TokenReason[] = []
    const live = connect(async ({ reason }) => {
      asked.push(reason)
      if (isDown) throw new Error('the issuer is down')
      return token('ann', 3)
    }).liveQuery({ table: 'note' })
    await live.ready()
    isDown = true
    await eventually('it waits', () => (client.connection.name === 'waiting' && client.connection.reason.includes('the issuer is down')) || undefined)
    expect(live.state.rows.length).toBe(1)
    expect(asked).toContain('expired')
    isDown = false
    await eventually('it is live', () => live.state.status === 'live' || undefined)
  }, 60_000)

  test('that are not accepted are asked for once more, and then waited for', async () => {
    const asked: TokenReason[] = []
    const live = connect(({ reason }) => {
      asked.push(reason)
      return token(`ann${asked.length}`, 60, 'another secret of thirty-two bytes, or so')
    }).liveQuery({ table: 'note' })
    await expect(live.ready()).rejects.toMatchObject({ code: 'unauthenticated' })
    expect(asked.slice(-2)).toEqual(['connect', 'rejected'])
    expect(client.connection.name).toBe('needs-token')
    await client.setToken(token('ann', 60))
    expect((await live.ready()).rows.length).toBe(1)
  }, 60_000)

  test('of somebody else show what is theirs, and never both', async () => {
    const live = connect(token('ann', 60)).liveQuery({ table: 'note' })
    const seen = new Set<string>()
    live.subscribe(({ rows }) => seen.add(rows.map(({ owner }) => owner).join()))
    await live.ready()
    await client.setToken(token('bob', 60))
    await eventually('it is his', () => (live.state.status === 'live' && live.state.rows[0]?.['owner'] === 'bob') || undefined)
    expect(seen).toEqual(new Set(['', 'ann', 'bob']))
    await client.setToken(null)
    expect(live.state).toMatchObject({ rows: [], filled: false })
    expect(client.connection.name).toBe('idle')
  }, 60_000)

  test('that nobody gives are said to be needed', async () => {
    client = createClient(server.url, { webSocket: WebSocket })
    await expect(client.liveQuery({ table: 'note' }).ready()).rejects.toMatchObject({ code: 'unauthenticated' })
    expect(client.connection.name).toBe('needs-token')
  }, 60_000)
})
