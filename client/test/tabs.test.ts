import fc from 'fast-check'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { type Client, clientOn } from '../src/client.js'
import { type ClientOptions, type LiveQuery, changes, waitFor } from '../src/index.js'
import { tabs } from '../src/tabs/index.js'
import { type FakeSocket, promises } from './support/platform.js'
import type { Line } from './support/server.js'
import { FakeBrowser, TabPlatform, socketsOf } from './support/tabs.js'
import { COLUMNS, HELLO } from './support/talk.js'
import { Traffic, sorted } from './support/traffic.js'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

const settle = async (): Promise<void> => {
  for (let i = 0; i < 6; i++) await promises()
}
const pass = async (ms: number): Promise<void> => {
  for (let left = ms; left > 0; left -= 500) {
    await vi.advanceTimersByTimeAsync(Math.min(500, left))
    await settle()
  }
}

/** Tabs of one browser, whose sockets are played by the test. */
class Tabs {
  readonly browser = new FakeBrowser()
  readonly sockets: FakeSocket[] = []
  #tabs = 0
  accepts = true
  /** So many sockets were there at once. */
  most = 0

  open(options: ClientOptions<any> = {}, hidden = false) {
    const tab = ++this.#tabs
    const browser = this.browser.tab(tab, { hidden })
    const Socket = tabs({}, browser)(socketsOf((socket) => {
      this.sockets.push(socket)
      this.most = Math.max(this.most, this.sockets.filter(({ isOpen }) => isOpen).length)
      if (!this.accepts) return socket.end()
      // Whoever asks whether it is there is answered.
      socket.onMessage = ({ type, ref, reach }) => {
        if (type === 'ping' && reach === undefined) socket.say({ type: 'pong', ref })
      }
      socket.accept()
      socket.say(HELLO)
    }) as never)!
    const platform = new TabPlatform(Socket)
    const client = clientOn<any>('wss://example.com/', { batch: 'transaction', onWarning: () => {}, ...options }, platform)
    return {
      client,
      platform,
      look: browser.look,
      freeze: (isFrozen: boolean) => (isFrozen ? this.browser.freeze(tab) : this.browser.thaw(tab)),
      crash: () => {
        platform.isEnded = true
        this.browser.end(tab)
      },
    }
  }

  get socket(): FakeSocket {
    return this.sockets.at(-1)!
  }

  get subscribed(): any[] {
    return this.socket.sent.filter(({ type }) => type === 'subscribe')
  }

  fill(id: string, rows: object[], position = '0/100'): void {
    this.socket.say({ type: 'subscribed', id, position, key: ['id'], columns: COLUMNS, replica_identity: 'full', warnings: [] })
    if (rows.length > 0) this.socket.say({ type: 'snapshot', id, rows })
    this.socket.say({ type: 'live', id, position })
  }
}
const tx = (position: string, changes: object[], more: object = {}): object => ({ type: 'tx', position, xid: 7, ts: '', changes: changes.map((change, seq) => ({ seq, ...change })), ...more })

test('two tabs have one socket, each with its own queries', async () => {
  const world = new Tabs()
  const [one, two] = [world.open(), world.open()]
  const a = one.client.liveQuery({ table: 'task' })
  const b = two.client.liveQuery({ table: 'task', where: 'id > 1' })
  a.subscribe(() => {})
  b.subscribe(() => {})
  await settle()
  expect(world.sockets).toHaveLength(1)
  const [first, second] = world.subscribed
  expect([first.where, second.where]).toEqual([undefined, 'id > 1'])
  world.fill(first.id, [{ id: 1, title: 'a' }, { id: 2, title: 'b' }])
  world.fill(second.id, [{ id: 2, title: 'b' }])
  await settle()
  expect([a.state.rows.length, b.state.rows.length, b.state.status]).toEqual([2, 1, 'live'])
  // A transaction in parts is whole in each.
  world.socket.say(tx('0/200:1', [{ id: first.id, op: 'delete', key: { id: 1 } }, { id: second.id, op: 'insert', row: { id: 3, title: 'c' } }], { more: true }))
  await settle()
  expect([a.state.rows.length, b.state.rows.length]).toEqual([2, 1])
  world.socket.say(tx('0/200', [{ id: first.id, op: 'insert', row: { id: 3, title: 'c' } }]))
  await settle()
  expect([a.state.rows, b.state.rows]).toEqual([[{ id: 2, title: 'b' }, { id: 3, title: 'c' }], [{ id: 2, title: 'b' }, { id: 3, title: 'c' }]])
  expect([a.state.position, b.state.position]).toEqual(['0/200', '0/200'])
})

test('what catches up in the leader does not end the part of a transaction that another tab has', async () => {
  const world = new Tabs()
  const [one, two] = [world.open(), world.open()]
  one.client.liveQuery({ table: 'task', where: 'true' }).subscribe(() => {})
  await settle()
  const live = two.client.liveQuery({ table: 'task' })
  live.subscribe(() => {})
  await settle()
  const [{ id: own }, { id: theirs }] = world.subscribed
  world.fill(theirs, [])
  world.socket.say({ type: 'subscribed', id: own, position: '0/100', key: ['id'], columns: COLUMNS, replica_identity: 'full', warnings: [] })
  world.socket.say(tx('0/300:0', [{ id: theirs, op: 'insert', row: { id: 1, title: 'a' } }], { more: true }))
  world.socket.say(tx('0/200', [{ id: own, op: 'insert', row: { id: 9, title: 'z' } }], { id: own }))
  await settle()
  expect(live.state.rows).toEqual([])
  world.socket.say(tx('0/300', [{ id: theirs, op: 'insert', row: { id: 2, title: 'b' } }]))
  await settle()
  expect(live.state).toMatchObject({ rows: [{ id: 1, title: 'a' }, { id: 2, title: 'b' }], position: '0/300' })
})

test('waits, changes, errors and ends of a tab that follows go through the leader', async () => {
  const world = new Tabs()
  const [one, two] = [world.open(), world.open({ token: () => 'of the other tab', linger: 0 })]
  one.client.liveQuery({ table: 'task' }).subscribe(() => {})
  await settle()
  world.fill(world.subscribed[0].id, [])
  const own = two.client.liveQuery({ table: 'nothing' })
  own.subscribe(() => {})
  await settle()
  const { id } = world.subscribed[1]
  world.socket.say({ type: 'error', id, code: 'unknown_table', message: 'none' })
  await settle()
  expect(own.state.error).toMatchObject({ code: 'unknown_table' })
  const read: unknown[] = []
  void (async () => {
    for await (const event of changes(two.client, { table: 'task' })) read.push(event)
  })()
  const live = two.client.liveQuery({ table: 'task' })
  const end = live.subscribe(() => {})
  await settle()
  const [, , reader, query] = world.subscribed
  world.fill(query.id, [])
  world.socket.say({ type: 'subscribed', id: reader.id, position: '0/100', key: ['id'], columns: COLUMNS, replica_identity: 'full', warnings: [] })
  world.socket.say({ type: 'live', id: reader.id, position: '0/100' })
  const waited = waitFor(two.client, '0/300')
  await settle()
  const ping = world.socket.sent.at(-1)
  expect(ping).toMatchObject({ type: 'ping', reach: '0/300' })
  world.socket.say(tx('0/300', [{ id: reader.id, op: 'insert', row: { id: 1, title: 'x' } }]))
  world.socket.say({ type: 'pong', ref: ping.ref, position: '0/300' })
  expect(await waited).toBe('0/300')
  await settle()
  expect(read).toMatchObject([{ type: 'live' }, { type: 'tx', position: '0/300', changes: [{ op: 'insert' }] }])
  end()
  await pass(10)
  expect(world.socket.sent.at(-1)).toEqual({ type: 'unsubscribe', id: query.id })
  // The connection is the leader's, and so is its token.
  expect(world.socket.sent.filter(({ type }) => type === 'auth')).toEqual([])
})

test('when the leader is closed or crashes another tab goes on from its own place', async () => {
  for (const how of ['close', 'crash'] as const) {
    const world = new Tabs()
    const [one, two, three] = [world.open(), world.open(), world.open()]
    const live = [one, two, three].map(({ client }) => client.liveQuery({ table: 'task' }))
    for (const query of live) query.subscribe(() => {})
    await settle()
    for (const { id } of world.subscribed) world.fill(id, [{ id: 1, title: 'a' }])
    world.socket.say(tx('0/200', world.subscribed.map(({ id }) => ({ id, op: 'insert', row: { id: 2, title: 'b' } }))))
    await settle()
    if (how === 'crash') one.crash()
    else await one.client.close()
    await pass(6000)
    expect(world.sockets).toHaveLength(2)
    expect(world.subscribed).toMatchObject([{ from: '0/200', epoch: 'e1' }, { from: '0/200', epoch: 'e1' }])
    for (const { id } of world.subscribed) {
      world.socket.say({ type: 'subscribed', id, position: '0/200', key: ['id'], columns: COLUMNS, replica_identity: 'full', warnings: [] })
      world.socket.say({ type: 'live', id, position: '0/200' })
    }
    await settle()
    expect([two, three].map(({ client }) => client.connection.name)).toEqual(['open', 'open'])
    expect(live.slice(1).map(({ state }) => [state.status, state.rows.length])).toEqual([['live', 2], ['live', 2]])
  }
})

test('a tab that follows and crashes leaves no subscription', async () => {
  const world = new Tabs()
  const [one, two] = [world.open(), world.open()]
  one.client.liveQuery({ table: 'task' }).subscribe(() => {})
  two.client.liveQuery({ table: 'pair' }).subscribe(() => {})
  await settle()
  const { id } = world.subscribed[1]
  two.crash()
  await settle()
  expect(world.socket.sent.at(-1)).toEqual({ type: 'unsubscribe', id })
  // What still comes for it is nobody's.
  world.fill(id, [{ id: 1, title: 'a' }])
  expect(one.client.connection.name).toBe('open')
})

test('a leader that does not answer is replaced within seconds, and finds itself replaced', async () => {
  const world = new Tabs()
  const [one, two] = [world.open(), world.open()]
  one.client.liveQuery({ table: 'task' }).subscribe(() => {})
  two.client.liveQuery({ table: 'task' }).subscribe(() => {})
  await settle()
  one.freeze(true)
  await pass(9000)
  expect(world.sockets).toHaveLength(2)
  // The first one is told that its lock was stolen, and follows.
  one.freeze(false)
  await pass(4000)
  expect(world.sockets.map(({ isOpen }) => isOpen)).toEqual([false, true])
  expect(world.subscribed).toHaveLength(2)
  expect(one.client.connection.name).toBe('open')
})

test('a visible tab takes over from one that is hidden for a minute', async () => {
  const world = new Tabs()
  const one = world.open()
  one.client.liveQuery({ table: 'task' }).subscribe(() => {})
  await settle()
  const two = world.open()
  two.client.liveQuery({ table: 'task' }).subscribe(() => {})
  await settle()
  one.look(true)
  await pass(50_000)
  expect(world.sockets).toHaveLength(1)
  await pass(20_000)
  expect(world.sockets).toHaveLength(2)
  expect(world.sockets.map(({ isOpen }) => isOpen)).toEqual([false, true])
  expect([one, two].map(({ client }) => client.connection.name)).toEqual(['open', 'open'])
})

test('while there is no server one tab tries at a time, and all are back when there is', async () => {
  const world = new Tabs()
  const all = [world.open(), world.open(), world.open()]
  for (const { client } of all) client.liveQuery({ table: 'task' }).subscribe(() => {})
  await settle()
  world.accepts = false
  world.socket.end()
  await pass(60_000)
  expect(world.sockets.length).toBeGreaterThan(3)
  world.accepts = true
  await pass(60_000)
  expect(all.map(({ client }) => client.connection.name)).toEqual(['open', 'open', 'open'])
  expect(world.most).toBe(1)
})

test('without Web Locks each tab has a connection', () => {
  class Real {}
  expect(tabs({}, {})(Real as never)).toBe(Real)
  expect(tabs()(undefined)).toBeUndefined()
})

test('the example of the README', async () => {
  vi.useRealTimers()
  const world = new FakeBrowser()
  const { locks, channel } = world.tab(1)
  const opened: string[] = []
  vi.stubGlobal('navigator', { locks })
  vi.stubGlobal('BroadcastChannel', function (name: string) {
    opened.push(name)
    return channel!(name)
  })
  vi.stubGlobal('WebSocket', socketsOf(() => {}))
  // @ts-expect-error Made by the configuration of the tests.
  const { client } = await import('snippet:client/README.md/12')
  client.connect()
  expect(opened).toEqual(['walcast ann wss://live.example.com/v1/stream?numbers=string'])
  await client.close()
  vi.unstubAllGlobals()
})

test('what is seen in any tab is a state that the database had, whatever happens to the tabs', async () => {
  const command = fc.record({ do: fc.constantFrom('commit', 'commit', 'commit', 'step', 'step', 'step', 'step', 'cut', 'crash', 'freeze', 'hide', 'pass', 'open', 'break', 'prune'), n: fc.nat({ max: 1000 }) })
  await fc.assert(
    fc.asyncProperty(fc.array(command, { minLength: 10, maxLength: 50 }), async (commands) => {
      const traffic = new Traffic()
      const { server } = traffic
      const queries = [{ table: 'left' }, { table: 'left', where: 'grp = $1', params: ['a'] }, { table: 'log' }]
      const browser = new FakeBrowser()
      const all: { tab: number; platform: TabPlatform; client: Client; live: LiveQuery<Line, unknown>[]; look(hidden: boolean): void }[] = []
      let count = 0
      const open = (): void => {
        const tab = ++count
        const own = browser.tab(tab)
        const platform = new TabPlatform(tabs({}, own)(socketsOf((socket) => void server.accept(socket)) as never)!)
        const client = clientOn('ws://reference/', { batch: tab % 2 ? 'frame' : 'transaction', onWarning: () => {} }, platform)
        const live = queries.map((query) => client.liveQuery(query) as unknown as LiveQuery<Line, unknown>)
        live.forEach((query) => query.onChange(check))
        all.push({ tab, platform, client, live, look: own.look })
      }
      const check = (): void => {
        for (const { live } of all) {
          live.forEach((query, i) => {
            expect(query.state.status).not.toBe('error')
            if (!query.state.filled) return
            const { position, epoch } = query.dehydrate()!.place
            expect(sorted(query.state.rows)).toEqual(sorted(server.result(queries[i]!, position, epoch)))
          })
        }
      }
      const failures: unknown[] = []
      globalThis.reportError = (error) => void failures.push(error)
      open()
      open()
      await settle()
      for (const { do: what, n } of commands) {
        const one = all[n % all.length]!
        if (what === 'commit') traffic.commit(n)
        else if (what === 'step') for (let i = 0; i < 1 + (n % 12) && server.connection?.step((k) => (k === 0 ? 0 : (n + i) % k)); i++) await promises()
        else if (what === 'cut') server.cut()
        else if (what === 'break') server.break(n % 3)
        else if (what === 'prune') server.prune(n % 4)
        else if (what === 'freeze') {
          if (!browser.thaw(one.tab)) browser.freeze(one.tab)
        }
        else if (what === 'hide') one.look(n % 2 === 0)
        else if (what === 'pass') await pass([500, 4000, 10_000][n % 3]!)
        else if (what === 'open' && all.length < 4) open()
        else if (what === 'crash' && all.length > 1) {
          one.platform.isEnded = true
          browser.end(one.tab)
          all.splice(all.indexOf(one), 1)
        }
        await settle()
        check()
      }
      for (const { tab } of all) browser.thaw(tab)
      for (const { look } of all) look(false)
      for (let i = 0; i < 30; i++) {
        while (server.connection?.step((k) => (k === 0 ? 0 : i % k))) await promises()
        await pass(2000)
      }
      expect(failures).toEqual([])
      for (const { live } of all) {
        live.forEach((query, i) => {
          expect(query.state.status).toBe('live')
          expect(sorted(query.state.rows)).toEqual(sorted(server.result(queries[i]!, server.position, server.history.epoch)))
        })
      }
      // All through one connection: the server has no other.
      expect(server.connection!.socket.isOpen).toBe(true)
      for (const { client, platform } of all) {
        await client.close()
        platform.isEnded = true
      }
      vi.clearAllTimers()
    }),
    { numRuns: Number(process.env.RUNS ?? 30), ...(process.env.SEED !== undefined && { seed: Number(process.env.SEED) }), endOnFailure: false },
  )
}, 300_000)

test('a tab whose turn in the queue comes before the answer that the lock is taken leads, and follows nobody', async () => {
  const asked: { readonly options: LockOptions; answer(lock: object | null): unknown }[] = []
  const posted: unknown[] = []
  const browser = {
    // Those with options are about who leads.
    locks: { request: (_: string, options: LockOptions, answer?: (lock: object | null) => unknown) => new Promise(() => void (answer && asked.push({ options, answer }))) },
    channel: () => ({ onmessage: null, postMessage: (post: unknown) => void posted.push(post) }),
  }
  const sockets: FakeSocket[] = []
  const Socket = tabs({}, browser as never)(socketsOf((socket) => void sockets.push(socket)) as never)!
  const first = new Socket('wss://example.com/')
  asked[0]!.answer(null)
  await settle()
  expect(asked.map(({ options }) => Object.keys(options))).toEqual([['ifAvailable'], ['signal']])
  // Its leader goes: the client drops this socket and makes another one.
  first.close()
  const second = new Socket('wss://example.com/')
  void asked[1]!.answer({})
  asked[2]!.answer(null)
  await settle()
  sockets[0]!.accept()
  posted.length = 0
  second.send('{"type":"ping"}')
  expect([sockets[0]!.sent, posted]).toEqual([[{ type: 'ping' }], []])
})
