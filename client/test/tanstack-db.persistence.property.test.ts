import { persistedCollectionOptions } from '@tanstack/db-sqlite-persistence-core'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { clientOn } from '../src/client.js'
import { parsers } from '../src/index.js'
import { wholeCollectionOptions } from '../src/tanstack-db/index.js'
import { happens, line } from './support/happenings.js'
import { FakePlatform, promises } from './support/platform.js'
import { ReferenceServer } from './support/server.js'
import { Store } from './support/store.js'
import { CORES, plain, soon } from './support/tanstack-db.js'

const RUNS = Number(process.env.RUNS ?? 60)
const SEED = process.env.SEED === undefined ? undefined : Number(process.env.SEED)

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] }))
afterEach(() => void vi.useRealTimers())

describe.each(CORES)('kept by TanStack, with the %s @tanstack/db', (_, db) => {
  /** A server of which every state is known, and pages that come and go: what is stored is always one of these. */
  test('rows that are stored are those of the place that is stored with them', async () => {
    const command = fc.record({
      do: fc.constantFrom('commit', 'commit', 'commit', 'step', 'step', 'step', 'step', 'cut', 'prune', 'break', 'pass', 'paint', 'reload', 'reload', 'other'),
      n: fc.nat({ max: 1000 }),
      m: fc.nat({ max: 1000 }),
    })
    await fc.assert(
      fc.asyncProperty(fc.array(command, { minLength: 20, maxLength: 100 }), fc.constantFrom('frame' as const, 'transaction' as const), async (commands, batch) => {
        const server = new ReferenceServer({ left: [0, 1, 2, 3, 4, 5].map(line), right: [] })
        const store = new Store()
        const failures: unknown[] = []
        globalThis.reportError = (error) => void failures.push(error)
        /** Which rows are asked for: those of at least so much. */
        let least = 0
        const asks = (amount: number) => ({ table: 'left', where: '"amount" >= $1', params: [amount] })
        const texts = (rows: Iterable<any>): string[] => [...rows].map((row) => JSON.stringify(Object.entries(row).sort())).sort()
        const begin = () => {
          const platform = new FakePlatform()
          platform.onSocket = (socket) => void server.accept(socket)
          const options = { batch, linger: 2000, onWarning: () => {}, parsers: parsers({ columns: { left: { note: (text) => text.toUpperCase() } } }) }
          const client = clientOn('ws://reference/', options, platform)
          const own = wholeCollectionOptions({ client, query: asks(least), getKey: (row: any) => row.id as number })
          const rows = db.createCollection(persistedCollectionOptions({ id: 'rows', ...own, persistence: { adapter: store } } as any) as any) as any
          rows.subscribeChanges(() => {})
          return { platform, client, rows }
        }
        let page = begin()
        const check = (): void => {
          const { place, query } = (store.metadata.get('walcast:result') ?? {}) as { place?: { position: string; epoch: string }; query: string }
          if (!place) return expect([...store.rows]).toEqual([])
          const [amount] = JSON.parse(query).params
          const stored = [...store.rows].map(([key, row]) => store.rowMetadata.get(key) ?? row)
          expect(texts(stored)).toEqual(texts(server.result(asks(amount), place.position, place.epoch)))
          // What is shown is a state, too, though maybe of another one than is stored.
          const { rows } = page
          if (rows.status !== 'ready' || !rows.utils.position()) return
          const shown = texts(plain(rows.values()).map((row) => ({ ...row, note: row.note?.toLowerCase() ?? null })))
          const had = [...server.histories.keys()].map((epoch) => texts(server.result(asks(least), rows.utils.position(), epoch)))
          expect(had).toContainEqual(shown)
        }
        let next = 100
        for (const command of commands) {
          const { do: what, n, m } = command
          const { platform, client } = page
          if (what === 'paint') {
            platform.paint()
            // Before what was told is written, more may come.
            for (let i = 0; i < n % 4; i++) server.connection?.step((k) => (k === 0 ? 0 : m % k))
          } else if (what === 'reload' || what === 'other') {
            if (what === 'other') least = [0, 20][n % 2]!
            // The page is gone, with whatever it was doing; what is being stored still is.
            await client.close()
            await soon()
            page = begin()
          } else await happens(command, server, platform, () => next++)
          await soon()
          check()
        }
        for (let i = 0; i < 30; i++) {
          while (server.connection?.step((n) => (n === 0 ? 0 : i % n))) await promises()
          page.platform.paint()
          page.platform.pass(2000)
          await soon()
        }
        check()
        expect(failures).toEqual([])
        expect([page.rows.utils.status(), page.rows.status]).toEqual(['live', 'ready'])
        const wanted = server.rows('left').filter(({ amount }) => (amount as number) >= least)
        expect(texts([...store.rows].map(([key, row]) => store.rowMetadata.get(key) ?? row))).toEqual(texts(wanted))
        await page.client.close()
      }),
      { numRuns: RUNS, ...(SEED !== undefined && { seed: SEED }), endOnFailure: false },
    )
  }, 300_000)
})
