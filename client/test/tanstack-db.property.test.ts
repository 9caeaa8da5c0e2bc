import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { clientOn } from '../src/client.js'
import { walcastCollectionOptions } from '../src/tanstack-db/index.js'
import { happens, line } from './support/happenings.js'
import { FakePlatform, promises } from './support/platform.js'
import { type Line, ReferenceServer } from './support/server.js'
import { CORES, plain, soon } from './support/tanstack-db.js'

const RUNS = Number(process.env.RUNS ?? 60)
const SEED = process.env.SEED === undefined ? undefined : Number(process.env.SEED)

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] }))
afterEach(() => void vi.useRealTimers())

describe.each(CORES)('with the %s @tanstack/db', (_, db) => {
  /** A server of which every state is known, and collections that must show one of them. */
  test('a collection and its queries show what the database had, whatever happens', async () => {
    type Command = { do: 'commit' | 'step' | 'cut' | 'prune' | 'break' | 'pass' | 'paint' | 'open' | 'leave' | 'list'; n: number; m: number }
    const command = fc.record({
      do: fc.constantFrom<Command['do']>('commit', 'commit', 'commit', 'step', 'step', 'step', 'step', 'step', 'cut', 'prune', 'break', 'pass', 'paint', 'open', 'open', 'leave', 'list', 'list'),
      n: fc.nat({ max: 1000 }),
      m: fc.nat({ max: 1000 }),
    })
    await fc.assert(
      fc.asyncProperty(fc.array(command, { minLength: 20, maxLength: 100 }), fc.constantFrom('frame' as const, 'transaction' as const), fc.boolean(), fc.boolean(), async (commands, batch, refuses, indexed) => {
        const server = new ReferenceServer({ left: [0, 1, 2, 3, 4, 5].map(line), right: [] })
        // As where texts are not ordered.
        if (refuses) server.refused = /"grp" <|"amount" >/
        const platform = new FakePlatform()
        platform.onSocket = (socket) => void server.accept(socket)
        const failures: unknown[] = []
        globalThis.reportError = (error) => void failures.push(error)
        const client = clientOn('ws://reference/', { batch, linger: 2000, onWarning: () => {} }, platform)
        const options = { client, query: { table: 'left' }, getKey: (row: Line) => row.id } as const
        const whole = db.createCollection(walcastCollectionOptions(options as any)) as any
        const parts = db.createCollection(walcastCollectionOptions({ ...options, syncMode: 'on-demand', ...(indexed && { autoIndex: 'eager', defaultIndexType: db.BTreeIndex }) } as any)) as any
        const wheres: [(row: any) => any, (row: Line) => boolean][] = [
          [(row) => db.eq(row.grp, 'a'), (row) => row.grp === 'a'],
          [(row) => db.gt(row.amount, 20), (row) => row.amount > 20],
          [(row) => db.and(db.lt(row.grp, 'b'), db.not(db.isNull(row.note))), (row) => row.grp < 'b' && row.note !== null],
          [(row) => db.not(db.or(db.eq(db.upper(row.grp), 'A'), db.gt(row.amount, 30))), (row) => !(row.grp === 'a' || row.amount > 30)],
          // As the lists below: they may have these rows.
          [(row) => db.and(db.gte(row.amount, 0), db.eq(row.id, 5)), (row) => row.amount >= 0 && row.id === 5],
          [(row) => db.and(db.gte(row.amount, 0), db.eq(row.grp, 'b')), (row) => row.amount >= 0 && row.grp === 'b'],
          [(row) => db.inArray(row.id, [1, 3, 5, 8]), (row) => [1, 3, 5, 8].includes(row.id)],
          [(row) => db.or(db.like(row.note, 'l%g'), db.lte(row.amount, 0)), (row) => row.note === 'long' || row.amount <= 0],
        ]
        const orders: readonly { readonly by: (query: any) => any; readonly compare: (a: Line, b: Line) => number; readonly limit: number }[] = [
          { by: (query) => query.orderBy(({ row }: any) => row.amount).orderBy(({ row }: any) => row.id), compare: (a, b) => a.amount - b.amount || a.id - b.id, limit: 3 },
          { by: (query) => query.orderBy(({ row }: any) => row.id, 'desc'), compare: (a, b) => b.id - a.id, limit: 2 },
          { by: (query) => query.orderBy(({ row }: any) => row.note, { nulls: 'last' }).orderBy(({ row }: any) => row.id), compare: (a, b) => Number(a.note === null) - Number(b.note === null) || (a.note === b.note ? 0 : a.note! < b.note! ? -1 : 1) || a.id - b.id, limit: 4 },
        ]
        const lists = new Map<number, any>()
        const open = new Map<number, any>()
        const ids = (rows: Iterable<any>): string[] => plain(rows).map((row) => JSON.stringify(Object.entries(row).sort())).sort()
        const check = (): void => {
          // Each result is one that the database had where it says it stands.
          if (whole.status !== 'ready') return
          const had = [...server.histories.keys()].map((epoch) => ids(server.result({ table: 'left' }, whole.utils.position(), epoch)))
          expect(had).toContainEqual(ids(whole.values()))
        }
        whole.subscribeChanges(() => {
          try {
            check()
          } catch (error) {
            failures.push(error)
          }
        })
        const settle = async (): Promise<void> => {
          for (let i = 0; i < 30; i++) {
            while (server.connection?.step((n) => (n === 0 ? 0 : i % n))) await promises()
            platform.paint()
            platform.pass(2000)
            await soon()
          }
        }
        let next = 100
        for (const command of commands) {
          const { do: what, n, m } = command
          if (what === 'paint') platform.paint()
          else if (what === 'open' && !open.has(n % wheres.length)) {
            const [where] = wheres[n % wheres.length]!
            const own = db.createLiveQueryCollection((query: any) => query.from({ row: parts }).where(({ row }: any) => where(row)))
            own.preload().catch(() => {})
            open.set(n % wheres.length, own)
          } else if (what === 'list') {
            const i = n % orders.length
            const { by, limit } = orders[i]!
            const known = lists.get(i)
            if (m % 3 === 0) {
              await known?.cleanup()
              lists.delete(i)
            } else if (known) await Promise.race([known.utils.setWindow({ offset: m % 4, limit }), promises()])
            else {
              const list = db.createLiveQueryCollection((query: any) => by(query.from({ row: parts }).where(({ row }: any) => db.gte(row.amount, 0))).limit(limit)) as any
              list.preload().catch(() => {})
              lists.set(i, Object.assign(list, { offset: 0 }))
            }
            if (lists.has(i)) lists.get(i).offset = known && m % 3 !== 0 ? m % 4 : 0
          } else if (what === 'leave') {
            await open.get(n % wheres.length)?.cleanup()
            open.delete(n % wheres.length)
          } else await happens(command, server, platform, () => next++)
          await soon()
          check()
        }
        await settle()
        check()
        expect(failures).toEqual([])
        expect([whole.utils.status(), whole.status]).toEqual(['live', 'ready'])
        expect(ids(whole.values())).toEqual(ids(server.rows('left')))
        for (const [i, own] of open) {
          expect([i, own.status]).toEqual([i, 'ready'])
          expect([i, ...ids(own.values())]).toEqual([i, ...ids(server.rows('left').filter(wheres[i]![1]))])
        }
        for (const [i, list] of lists) {
          const { compare, limit } = orders[i]!
          const first = [...server.rows('left')].filter(({ amount }) => amount >= 0).sort(compare).slice(list.offset, list.offset + limit)
          expect([i, list.offset, ...list.toArray.map(({ id }: any) => id)]).toEqual([i, list.offset, ...first.map(({ id }) => id)])
          await list.cleanup()
        }
        // Nothing is there that nobody asked for.
        for (const own of open.values()) await own.cleanup()
        await soon()
        expect(parts.size).toBe(0)
        await client.close()
      }),
      { numRuns: RUNS, ...(SEED !== undefined && { seed: SEED }), endOnFailure: false },
    )
  }, 300_000)
})
