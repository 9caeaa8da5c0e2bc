import { describe, expect, test } from 'vitest'
import { WalcastError } from '../src/error.js'
import { type Connection, type Link, type LinkEffects, makeLink } from '../src/link.js'
import type { Frame } from '../src/protocol.js'
import { HELLO } from './support/talk.js'

const token = (sub: string, exp?: number): string => `e30.${btoa(JSON.stringify({ sub, exp }))}.x`
const hello = HELLO as Frame

/** A link, what it had done, and its time. */
class Bench {
  did: string[] = []
  now = 1_000_000
  chance = 0.5
  hasToken: boolean
  generation = 0
  readonly link: Link

  constructor(hasToken = false) {
    this.hasToken = hasToken
    const effects: LinkEffects = {
      open: () => this.did.push('open'),
      send: (message) => this.did.push(`send ${message.type}${message.token ? ` ${message.token}` : ''}`),
      drop: () => this.did.push('drop'),
      ask: (reason, generation) => {
        this.generation = generation
        this.did.push(`ask ${reason}`)
      },
      hasToken: () => this.hasToken,
      connectionChanged: (now) => this.did.push(now.name),
      forget: () => this.did.push('forget'),
      now: () => this.now,
      random: () => this.chance,
    }
    this.link = makeLink(effects)
  }

  take(): string[] {
    return this.did.splice(0)
  }

  get state(): Connection {
    return this.link.connection
  }

  /** Lets time pass, with its ticks. */
  pass(ms: number): string[] {
    const end = this.now + ms
    for (let ticks = 0; this.link.wakeAt <= end; ticks++) {
      expect(ticks).toBeLessThan(1000)
      this.now = Math.max(this.now, this.link.wakeAt)
      this.link.tick()
    }
    this.now = end
    return this.take()
  }

  open(): this {
    this.link.connect()
    if (this.hasToken) this.link.tokenIs(this.generation, token('me'))
    this.link.opened()
    this.link.receive(hello)
    this.take()
    return this
  }
}

describe('every event in every state', () => {
  const states: Record<Connection['name'], () => Bench> = {
    idle: () => new Bench(),
    connecting: () => {
      const bench = new Bench()
      bench.link.connect()
      return bench
    },
    open: () => new Bench().open(),
    waiting: () => {
      const bench = new Bench().open()
      bench.link.closed(1006, '')
      return bench
    },
    offline: () => {
      const bench = new Bench().open()
      bench.link.closed(1006, '')
      bench.link.offline()
      return bench
    },
    'needs-token': () => {
      const bench = new Bench().open()
      bench.link.closed(4500, '')
      return bench
    },
    refused: () => {
      const bench = new Bench().open()
      bench.link.closed(4501, '')
      return bench
    },
    closed: () => {
      const bench = new Bench()
      bench.link.disconnect('closed')
      return bench
    },
  }
  const events: Record<string, (bench: Bench) => void> = {
    connect: ({ link }) => link.connect(),
    disconnect: ({ link }) => link.disconnect(),
    'set-token': ({ link }) => link.renew(),
    closed: ({ link }) => link.closed(1006, ''),
    online: ({ link }) => link.woke(),
    offline: ({ link }) => link.offline(),
    away: ({ link }) => link.away(),
    back: ({ link }) => link.back(),
    'a minute': (bench) => void bench.pass(60_000),
  }
  const after: Record<Connection['name'], Record<string, Connection['name']>> = {
    idle: { connect: 'connecting', disconnect: 'idle', 'set-token': 'connecting', closed: 'idle', online: 'idle', offline: 'idle', away: 'idle', back: 'idle', 'a minute': 'idle' },
    connecting: { connect: 'connecting', disconnect: 'idle', 'set-token': 'connecting', closed: 'waiting', online: 'connecting', offline: 'offline', away: 'offline', back: 'connecting', 'a minute': 'connecting' },
    open: { connect: 'open', disconnect: 'idle', 'set-token': 'open', closed: 'waiting', online: 'open', offline: 'open', away: 'offline', back: 'open', 'a minute': 'connecting' },
    waiting: { connect: 'connecting', disconnect: 'idle', 'set-token': 'connecting', closed: 'waiting', online: 'connecting', offline: 'offline', away: 'offline', back: 'connecting', 'a minute': 'connecting' },
    offline: { connect: 'connecting', disconnect: 'idle', 'set-token': 'connecting', closed: 'offline', online: 'connecting', offline: 'offline', away: 'offline', back: 'connecting', 'a minute': 'connecting' },
    'needs-token': { connect: 'connecting', disconnect: 'idle', 'set-token': 'connecting', closed: 'needs-token', online: 'needs-token', offline: 'needs-token', away: 'needs-token', back: 'needs-token', 'a minute': 'needs-token' },
    refused: { connect: 'connecting', disconnect: 'idle', 'set-token': 'connecting', closed: 'refused', online: 'refused', offline: 'refused', away: 'refused', back: 'refused', 'a minute': 'refused' },
    closed: { connect: 'closed', disconnect: 'closed', 'set-token': 'closed', closed: 'closed', online: 'closed', offline: 'closed', away: 'closed', back: 'closed', 'a minute': 'closed' },
  }
  for (const [name, expected] of Object.entries(after)) {
    test.each(Object.keys(events))(`${name}: %s`, (event) => {
      const bench = states[name as Connection['name']]()
      expect(bench.state.name).toBe(name)
      events[event]!(bench)
      expect(bench.state.name).toBe(expected[event])
    })
  }
})

describe('coming back', () => {
  test('waits longer each time, by chance, and begins with the first delay once all is live or ten seconds have passed', () => {
    const bench = new Bench()
    bench.link.connect()
    const delay = (code = 1006, reason = ''): number => {
      bench.link.closed(code, reason)
      const { retryAt } = bench.state as Connection & { name: 'waiting' }
      const wait = retryAt - bench.now
      bench.pass(wait)
      return wait
    }
    bench.chance = 1
    expect([delay(), delay(), delay(), delay()]).toEqual([500, 1000, 2000, 4000])
    bench.chance = 0.1
    expect(delay()).toBeCloseTo(800)
    bench.chance = 1
    // A greeting alone is no reason to begin again: a server that fails at once would be hammered.
    bench.link.receive(hello)
    expect(delay()).toBe(16_000)
    expect(delay()).toBe(30_000)
    bench.link.receive(hello)
    bench.pass(10_000)
    expect(delay()).toBe(500)
    expect(delay()).toBe(500)
    bench.link.receive(hello)
    bench.link.settled()
    expect(delay()).toBe(500)
  })

  test('does as the close codes say', () => {
    for (const [code, name] of [
      [1000, 'waiting'], [1001, 'waiting'], [1002, 'refused'], [1006, 'waiting'], [1007, 'refused'], [1009, 'refused'], [1011, 'waiting'],
      [4000, 'waiting'], [4001, 'waiting'], [4002, 'waiting'], [4004, 'waiting'], [4499, 'waiting'], [4501, 'refused'], [4502, 'refused'], [4999, 'refused'],
    ] as const) {
      const bench = new Bench().open()
      bench.link.closed(code, 'the reason')
      expect([code, bench.state.name]).toEqual([code, name])
      if (bench.state.name === 'refused') expect(bench.state).toMatchObject({ code, error: { message: 'the reason' } })
      else expect(bench.state).toMatchObject({ reason: 'the reason' })
    }
  })

  test('spreads over the seconds that a server which goes away names', () => {
    const bench = new Bench().open()
    bench.link.closed(1001, 'spread=20')
    expect((bench.state as Connection & { name: 'waiting' }).retryAt - bench.now).toBe(250 + 10_000)
  })

  test('says what may be wrong if it never was there', () => {
    const bench = new Bench()
    bench.link.connect()
    bench.link.closed(1006, '')
    expect(bench.state).toMatchObject({ name: 'waiting', reason: expect.stringContaining('is the address right') })
  })

  test('asks an open connection after a wake, and gives it three seconds', () => {
    const bench = new Bench().open()
    bench.link.woke()
    expect(bench.take()).toEqual(['send ping'])
    bench.link.woke()
    expect(bench.pass(2999)).toEqual([])
    expect(bench.pass(1)).toEqual(['drop', 'waiting'])
    const alive = new Bench().open()
    alive.link.woke()
    alive.link.receive({ type: 'pong', ref: 0 })
    alive.take()
    expect(alive.pass(15_000)).toEqual([])
  })

  test('asks a silent server, and leaves it if it stays silent', () => {
    const bench = new Bench().open()
    expect(bench.pass(19_999)).toEqual([])
    expect(bench.pass(1)).toEqual(['send ping'])
    expect(bench.pass(4999)).toEqual([])
    expect(bench.pass(1)).toEqual(['drop', 'waiting'])
    expect(bench.state).toMatchObject({ reason: 'the server is silent' })
  })

  test('leaves a server that does not greet', () => {
    const bench = new Bench()
    bench.link.connect()
    bench.take()
    expect(bench.pass(15_000)).toEqual(['drop', 'waiting'])
    expect(bench.state).toMatchObject({ reason: 'the server does not answer' })
  })

  test('leaves the socket for the history of the browser, and comes back with the page', () => {
    const bench = new Bench().open()
    bench.link.away()
    expect(bench.take()).toEqual(['drop', 'offline'])
    expect(bench.pass(100_000)).toEqual([])
    bench.link.back()
    expect(bench.take()).toEqual(['connecting', 'open'])
  })
})

describe('tokens', () => {
  test('are asked for at each connect, and shown before anything else', () => {
    const bench = new Bench(true)
    bench.link.connect()
    expect(bench.take()).toEqual(['connecting', 'ask connect'])
    bench.link.tokenIs(bench.generation, 'a')
    expect(bench.take()).toEqual(['open'])
    bench.link.opened()
    expect(bench.take()).toEqual(['send auth a'])
    bench.link.receive(hello)
    bench.link.closed(1006, '')
    bench.take()
    expect(bench.pass(500)).toEqual(['connecting', 'ask connect'])
  })

  test('that are null are not shown', () => {
    const bench = new Bench(true)
    bench.link.connect()
    bench.link.tokenIs(bench.generation, null)
    bench.link.opened()
    expect(bench.take()).toEqual(['connecting', 'ask connect', 'open'])
  })

  test('are renewed on the connection before they expire', () => {
    const bench = new Bench(true).open()
    bench.pass(2000)
    bench.link.receive({ type: 'token_expiring', expires: '' })
    expect(bench.take()).toEqual(['ask expiring'])
    bench.link.tokenIs(bench.generation, token('me', 5e9))
    expect(bench.take()).toEqual([`send auth ${token('me', 5e9)}`])
    // An answer that is late, or comes twice, is none.
    bench.link.tokenIs(bench.generation, 'other')
    bench.link.tokenIs(bench.generation - 1, 'other')
    expect(bench.take()).toEqual([])
  })

  test('that are good for a short time are not renewed at once, again and again', () => {
    for (const [left, delay] of [[20_000, 10_000], [1500, 1000], [60_000, 15_000]] as const) {
      const bench = new Bench(true).open()
      bench.link.renew()
      bench.link.tokenIs(bench.generation, token('me', 5e9))
      bench.take()
      bench.link.receive({ type: 'token_expiring', expires: new Date(bench.now + left).toISOString() })
      expect(bench.pass(delay - 1)).toEqual([])
      expect(bench.pass(1)).toEqual(['ask expiring'])
    }
  })

  test('that have expired are not sent: another is asked for, once', () => {
    const bench = new Bench(true)
    bench.link.connect()
    bench.link.tokenIs(bench.generation, token('me', 999))
    expect(bench.take()).toEqual(['connecting', 'ask connect', 'ask expired'])
    bench.link.tokenIs(bench.generation, token('me', 1000))
    expect(bench.take()).toEqual(['waiting'])
    expect(bench.state).toMatchObject({ reason: expect.stringContaining('the token has expired at 1970-01-01T00:16:40.000Z') })
  })

  test('whose provider throws are asked for again, and the connection lives on while it may', () => {
    const bench = new Bench(true).open()
    bench.pass(2000)
    bench.link.receive({ type: 'token_expiring', expires: '' })
    bench.take()
    bench.link.noToken(bench.generation, new Error('offline'))
    expect(bench.state.name).toBe('open')
    expect(bench.pass(1249)).toEqual([])
    expect(bench.pass(1)).toEqual(['ask expiring'])
    bench.link.receive({ type: 'error', code: 'token_expired', message: 'over' })
    bench.link.closed(4003, '')
    expect(bench.take()).toEqual(['drop', 'connecting', 'ask expired'])
    bench.link.noToken(bench.generation, new Error('offline'))
    expect(bench.state).toMatchObject({ name: 'waiting', reason: 'the token provider failed: offline' })
    expect(bench.pass(500)).toEqual(['waiting', 'connecting', 'ask connect'])
  })

  test('whose provider never answers are given up', () => {
    const bench = new Bench(true)
    bench.link.connect()
    bench.take()
    expect(bench.pass(15_000)).toEqual(['waiting'])
    bench.link.tokenIs(bench.generation, 'late')
    expect(bench.take()).toEqual([])
  })

  test('that are refused twice are waited for, until there is another', () => {
    const bench = new Bench(true)
    const refused = (): void => {
      bench.link.opened()
      bench.link.receive({ type: 'error', code: 'unauthenticated', message: 'no key of that name' })
      bench.link.closed(4500, 'unauthenticated')
    }
    bench.link.connect()
    bench.link.tokenIs(bench.generation, 'a')
    refused()
    expect(bench.take().at(-1)).toBe('ask rejected')
    bench.link.tokenIs(bench.generation, 'b')
    refused()
    expect(bench.state).toMatchObject({ name: 'needs-token', error: { code: 'unauthenticated', message: 'no key of that name' } })
    bench.pass(1e6)
    bench.link.renew()
    expect(bench.take().at(-1)).toBe('ask connect')
    bench.link.tokenIs(bench.generation, 'c')
    bench.link.opened()
    bench.link.receive(hello)
    expect(bench.state.name).toBe('open')
  })

  test('that are the same after a refusal are not shown again', () => {
    const bench = new Bench(true)
    bench.link.connect()
    bench.link.tokenIs(bench.generation, 'a')
    bench.link.closed(4500, 'unauthenticated')
    bench.link.tokenIs(bench.generation, 'a')
    expect(bench.take()).toEqual(['connecting', 'ask connect', 'open', 'drop', 'connecting', 'ask rejected', 'needs-token'])
  })

  test('of somebody else have everything forgotten, and another connection', () => {
    const bench = new Bench(true).open()
    bench.link.renew()
    bench.link.tokenIs(bench.generation, token('you'))
    expect(bench.take()).toEqual(['ask connect', 'drop', 'forget', 'connecting', 'open'])
    bench.link.opened()
    expect(bench.take()).toEqual([`send auth ${token('you')}`])
  })

  test('of nobody log out', () => {
    const bench = new Bench(true).open()
    bench.pass(2000)
    bench.link.receive({ type: 'token_expiring', expires: '' })
    bench.link.logOut()
    bench.link.tokenIs(bench.generation, token('me'))
    expect(bench.take()).toEqual(['ask expiring', 'drop', 'idle', 'forget'])
  })

  test('that are needed and that nobody gives are said so', () => {
    const bench = new Bench()
    bench.link.connect()
    bench.link.opened()
    bench.link.closed(4500, 'unauthenticated')
    expect(bench.state).toMatchObject({ name: 'needs-token', error: { message: 'unauthenticated' } })
  })
})

test('what is not of the protocol is refused before the greeting, and waited for after it', () => {
  const error = new WalcastError('bad_frame', 'no')
  const bench = new Bench()
  bench.link.connect()
  bench.link.garbled(error)
  expect(bench.state).toMatchObject({ name: 'refused', error })
  const open = new Bench().open()
  open.link.garbled(error)
  expect(open.state).toMatchObject({ name: 'waiting', reason: 'no' })
})
