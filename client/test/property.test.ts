import fc from 'fast-check'
import { expect, test } from 'vitest'
import { type Client, clientOn } from '../src/client.js'
import { onDiff, sort, waitFor } from '../src/index.js'
import { comparePositions } from '../src/position.js'
import type { LiveQuery } from '../src/query.js'
import { FakePlatform, promises } from './support/platform.js'
import { type Choose, KEYLESS, type Line, ReferenceServer, type RowChange, compareBy, valuesBy } from './support/server.js'
import { sorted } from './support/traffic.js'

/** Each run prints its seed if it fails; `SEED` repeats one, `RUNS` says how many there are. */
const RUNS = Number(process.env.RUNS ?? 150)
const SEED = process.env.SEED === undefined ? undefined : Number(process.env.SEED)

const TABLES = ['left', 'right', 'log']
/** Between `left` and `right` money moves: what both have together is always the same. */
const TOTAL = 2000

const QUERIES = [
  { table: 'left' },
  { table: 'right' },
  { table: 'log' },
  { table: 'left', where: 'grp = $1', params: ['a'] },
  { table: 'right', where: 'amount > $1', params: [100] },
  { table: 'log', where: 'amount <= $1', params: [3] },
  { table: 'left', orderBy: [{ column: 'amount', desc: true }], limit: 2 },
  { table: 'right', where: 'amount < $1', params: [900], orderBy: [{ column: 'note' }, { column: 'grp', desc: true, nulls: 'last' as const }], limit: 3 },
  { table: 'log', orderBy: [{ column: 'amount' }], limit: 2 },
]

type Command =
  | { do: 'commit'; numbers: number[] }
  | { do: 'step'; frames: number; numbers: number[] }
  | { do: 'cut'; code: number }
  | { do: 'prune'; keep: number }
  | { do: 'break'; lose: number }
  | { do: 'pass'; ms: number }
  | { do: 'paint' }
  | { do: 'open'; query: number }
  | { do: 'leave'; query: number }
  | { do: 'busy' }
  | { do: 'wait' }

const numbers = fc.array(fc.nat({ max: 1000 }), { minLength: 4, maxLength: 24 })
const command: fc.Arbitrary<Command> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant('commit' as const), numbers }) },
  { weight: 12, arbitrary: fc.record({ do: fc.constant('step' as const), frames: fc.integer({ min: 1, max: 12 }), numbers }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('cut' as const), code: fc.constantFrom(1006, 1001, 4001, 4002) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('prune' as const), keep: fc.nat({ max: 3 }) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('break' as const), lose: fc.nat({ max: 3 }) }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('pass' as const), ms: fc.constantFrom(10, 400, 1000, 6000, 40_000) }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('paint' as const) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('open' as const), query: fc.nat({ max: QUERIES.length - 1 }) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('leave' as const), query: fc.nat({ max: QUERIES.length - 1 }) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('busy' as const) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('wait' as const) }) },
)

/** Numbers one after the other, again and again. */
function chooser(from: readonly number[]): Choose {
  let i = 0
  return (n) => (n === 0 ? 0 : from[i++ % from.length]! % n)
}

/** A world with one client in it, which checks itself after each thing that happens. */
export class World {
  readonly platform = new FakePlatform()
  readonly server = new ReferenceServer({
    left: [{ id: 0, grp: 'a', amount: TOTAL / 2, note: null }],
    right: [{ id: 1, grp: 'a', amount: TOTAL / 2, note: 'long' }],
    log: [],
  })
  readonly client: Client
  readonly open = new Map<number, { live: LiveQuery<Line, number>; end: () => void; told: () => number; shadow: Map<unknown, Line> }>()
  readonly warnings: string[] = []
  breaks = 0
  waiting = 0
  wasOpen = false
  opened = 0
  #next = 2
  readonly #failures: unknown[] = []

  constructor(
    batch: 'frame' | 'transaction',
    /** Nothing happens for which a query would have to begin anew: all that is seen is one moment of the database. */
    readonly isGentle = false,
  ) {
    globalThis.reportError = (error) => void this.#failures.push(error)
    this.platform.onSocket = (socket) => void this.server.accept(socket)
    this.client = clientOn('ws://reference/', { batch, sort, onWarning: ({ text }) => this.warnings.push(text), ...(isGentle && { backoff: { first: 50, most: 200 } }) }, this.platform)
  }

  async run(command: Command): Promise<void> {
    const { server, platform } = this
    switch (command.do) {
      case 'commit':
        server.commit(this.#changes(chooser(command.numbers)))
        break
      case 'step': {
        const choose = chooser(command.numbers)
        for (let i = 0; i < command.frames && server.connection?.step(choose); i++) {
          this.check()
          await promises()
        }
        break
      }
      case 'cut':
        server.cut(command.code)
        break
      case 'prune':
        server.prune(command.keep)
        break
      case 'break':
        this.breaks++
        server.break(command.lose)
        break
      case 'pass':
        platform.pass(command.ms)
        break
      case 'paint':
        platform.paint()
        break
      case 'busy':
        server.busy = 1
        break
      case 'wait':
        this.#wait()
        break
      case 'open':
        this.#open(command.query)
        break
      case 'leave':
        this.open.get(command.query)?.end()
        this.open.delete(command.query)
    }
    await promises()
    this.check()
    // What a listener threw.
    if (this.#failures.length > 0) throw this.#failures[0]
  }

  #open(number: number): void {
    if (this.open.has(number)) return
    this.opened++
    const live = this.client.liveQuery(QUERIES[number]!) as LiveQuery<Line, number>
    let told = -1
    const own = { live, shadow: new Map<unknown, Line>(), end: () => {}, told: () => told }
    const ends = [
      live.onChange(() => {
        told = live.state.version
        this.check()
      }),
      // What the diffs add up to is what the rows are.
      onDiff(live, ({ changes }) => {
        for (const { key, before, row } of changes) {
          expect(own.shadow.get(key)).toBe(before)
          if (row) own.shadow.set(key, row)
          else own.shadow.delete(key)
        }
        this.check()
      }),
    ]
    told = live.state.version
    for (const { key, row } of entries(live)) own.shadow.set(key, row)
    own.end = () => ends.forEach((end) => end())
    this.open.set(number, own)
  }

  /** Waits for what is committed now. */
  #wait(): void {
    // Before the first greeting a client cannot know which history a position is of.
    if (!this.wasOpen) return
    const { position, history } = this.server
    const epoch = history.epoch
    this.waiting++
    const waited = waitFor(this.client, position, { timeout: 1e9 }).then((reached) => {
      this.waiting--
      for (const { live, told } of this.open.values()) {
        expect(live.state.status).toBe('live')
        // Whoever listens was told before.
        expect(told()).toBe(live.state.version)
      }
      if (this.server.history.epoch === epoch) expect(comparePositions(reached, position)).toBeGreaterThanOrEqual(0)
      this.check()
    })
    waited.catch((error: unknown) => this.#failures.push(error))
  }

  /** Nothing that is seen is anything but what the database had. */
  check(): void {
    this.wasOpen ||= this.client.connection.name === 'open'
    const live: { number: number; position: string; epoch: string; bound?: readonly unknown[] | null | undefined; rows: readonly Line[] }[] = []
    for (const [number, { live: query }] of this.open) {
      const { state } = query
      expect(query.state).toBe(state)
      expect(state.status).not.toBe('error')
      if (!state.filled) {
        expect(state.rows).toEqual([])
        continue
      }
      const { place } = query.dehydrate()!
      expect(place.position).toBe(state.position)
      const { orderBy } = QUERIES[number]!
      expect(place.bound !== undefined).toBe(orderBy !== undefined)
      const expected = this.server.result(QUERIES[number]!, place.position, place.epoch, place.bound)
      expect(sorted(state.rows)).toEqual(sorted(expected))
      if (orderBy) for (const [i, row] of state.rows.slice(1).entries()) expect(compareBy(orderBy, valuesBy(orderBy, state.rows[i]!), valuesBy(orderBy, row))).toBeLessThanOrEqual(0)
      if (!KEYLESS.has(QUERIES[number]!.table)) for (const row of state.rows) expect(query.get(row.id)).toBe(row)
      if (state.status === 'live' || this.isGentle) live.push({ number, ...place, rows: state.rows })
    }
    // All that is live is one moment of the database.
    const newest = live.reduce<string>((last, { position }) => (parseInt(position.slice(2), 16) > parseInt(last.slice(2), 16) ? position : last), '0/0')
    for (const { number, epoch, bound, rows } of live) {
      expect(epoch).toBe(live[0]!.epoch)
      expect(sorted(rows)).toEqual(sorted(this.server.result(QUERIES[number]!, newest, epoch, bound)))
    }
    const money = live.filter(({ number }) => number < 2)
    if (money.length === 2) expect(money.flatMap(({ rows }) => rows).reduce((sum, { amount }) => sum + amount, 0)).toBe(TOTAL)
  }

  /** Everything arrives. */
  async settle(): Promise<void> {
    const choose = chooser([1, 2, 3, 5, 7])
    for (let i = 0; i < 60; i++) {
      while (this.server.connection?.step(choose)) {
        this.check()
        await promises()
      }
      this.platform.paint()
      this.platform.pass(2000)
      await promises()
      this.check()
    }
    expect(this.waiting).toBe(0)
    if (this.#failures.length > 0) throw this.#failures[0]
    // A result is read anew only if there was no other way: it was new, its place was lost, or its snapshot was interrupted.
    expect(this.server.snapshots).toBeLessThanOrEqual(this.opened + this.platform.sockets.length * QUERIES.length)
    for (const [number, { live, shadow }] of this.open) {
      expect(live.state.status).toBe('live')
      const { bound } = live.dehydrate()!.place
      expect(sorted(live.state.rows)).toEqual(sorted(this.server.result(QUERIES[number]!, this.server.position, this.server.history.epoch, bound)))
      expect(sorted([...shadow.values()])).toEqual(sorted(live.state.rows))
    }
  }

  /** A transaction that keeps the money together, and does what else comes to mind. */
  #changes(choose: Choose): RowChange[] {
    const rows = new Map(TABLES.map((table) => [table, [...this.server.rows(table)]]))
    const changes: RowChange[] = []
    const add = (change: RowChange): void => {
      const own = rows.get(change.table)!
      if (change.old) own.splice(own.indexOf(change.old), 1)
      if (change.row) own.push(change.row)
      changes.push(change)
    }
    const pick = (table: string): Line | undefined => rows.get(table)![choose(rows.get(table)!.length)]
    const count = 1 + choose(5)
    for (let i = 0; i < count; i++) {
      const [from, to] = choose(2) === 0 ? ['left', 'right'] : ['right', 'left']
      switch (choose(7)) {
        case 0:
        case 1: {
          const giver = pick(from!)
          const taker = pick(to!)
          if (!giver || !taker) break
          const amount = Math.min(giver.amount, 1 + choose(300))
          add({ table: from!, old: giver, row: { ...giver, amount: giver.amount - amount } })
          add({ table: to!, old: taker, row: { ...taker, amount: taker.amount + amount } })
          break
        }
        case 2:
          add({ table: from!, row: { id: this.#next++, grp: 'ab'[choose(2)]!, amount: 0, note: choose(2) ? 'long' : null } })
          break
        case 3: {
          // A row moves to the other table, and takes its money along.
          const row = pick(from!)
          if (!row || rows.get(from!)!.length < 2) break
          add({ table: from!, old: row })
          add({ table: to!, row: { ...row, id: this.#next++ } })
          break
        }
        case 4: {
          const row = pick(from!)
          if (!row) break
          const id = choose(2) === 0 ? row.id : this.#next++
          add({ table: from!, old: row, row: { ...row, id, grp: 'ab'[choose(2)]!, note: [row.note, 'other', null][choose(3)]! } })
          break
        }
        case 5:
          // Equal rows are several rows.
          add({ table: 'log', row: { id: choose(2), grp: 'l', amount: choose(6), note: null } })
          break
        case 6: {
          const row = pick('log')
          if (row && choose(8) === 0) {
            rows.set('log', [])
            changes.push({ table: 'log', truncate: true })
          } else if (row) add(choose(2) === 0 ? { table: 'log', old: row } : { table: 'log', old: row, row: { ...row, amount: choose(6) } })
        }
      }
    }
    return changes.length > 0 ? changes : [{ table: 'log', row: { id: 0, grp: 'l', amount: 9, note: null } }]
  }
}

function entries(live: LiveQuery<Line, number>): { key: unknown; row: Line }[] {
  const stored = live.dehydrate()
  const copies = new Map<string, number>()
  return live.state.rows.map((row) => {
    if (stored!.key.length > 0) return { key: row.id, row }
    const text = JSON.stringify(row)
    copies.set(text, (copies.get(text) ?? 0) + 1)
    return { key: `${copies.get(text)} ${text}`, row }
  })
}

test('queries that come back after a cut are seen again together', async () => {
  const gentle = fc.oneof(
    { weight: 6, arbitrary: fc.record({ do: fc.constant('commit' as const), numbers }) },
    { weight: 12, arbitrary: fc.record({ do: fc.constant('step' as const), frames: fc.integer({ min: 1, max: 12 }), numbers }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant('cut' as const), code: fc.constantFrom(1006, 4001) }) },
    { weight: 4, arbitrary: fc.record({ do: fc.constant('pass' as const), ms: fc.constantFrom(10, 100) }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant('paint' as const) }) },
  )
  await fc.assert(
    fc.asyncProperty(fc.array(gentle, { minLength: 10, maxLength: 80 }), fc.constantFrom('frame' as const, 'transaction' as const), async (commands, batch) => {
      const world = new World(batch, true)
      for (const query of QUERIES.keys()) await world.run({ do: 'open', query })
      await world.run({ do: 'step', frames: 40, numbers: [1, 2, 3, 4, 5] })
      for (const each of commands) await world.run(each)
      await world.settle()
    }),
    { numRuns: Math.ceil(RUNS / 8), ...(SEED !== undefined && { seed: SEED }), endOnFailure: false },
  )
}, 300_000)

test('what is seen is always a state that the database had, over all queries, whatever happens', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(command, { minLength: 10, maxLength: 120 }), fc.constantFrom('frame' as const, 'transaction' as const), async (commands, batch) => {
      const world = new World(batch)
      await world.run({ do: 'open', query: 0 })
      await world.run({ do: 'open', query: 1 })
      for (const each of commands) await world.run(each)
      await world.settle()
    }),
    { numRuns: RUNS, ...(SEED !== undefined && { seed: SEED }), endOnFailure: false },
  )
}, 300_000)
