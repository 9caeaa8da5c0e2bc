import { persistedCollectionOptions } from '@tanstack/db-sqlite-persistence-core'
import { and, createCollection, createLiveQueryCollection, eq, gt, gte, ilike, inArray, isNull, like, lower, lt, lte, not, or } from '@tanstack/db'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { WebSocket } from 'ws'
import { type Client, createClient, parse, parsers } from '../../src/index.js'
import { walcastCollectionOptions, wholeCollectionOptions } from '../../src/tanstack-db/index.js'
import { Store } from '../support/store.js'
import { Server, WALCAST, eventually } from './server.js'

const SCHEMA = `
  CREATE TABLE thing (id int PRIMARY KEY, name text, code text, n float8, done boolean, at timestamptz, "odd ""name" int);
  ALTER TABLE thing REPLICA IDENTITY FULL;
  INSERT INTO thing SELECT g, (ARRAY['Ann', 'bob', 'c\\d', NULL])[1 + g % 4], 'k' || g % 7, g / 2.0, g % 3 = 0, '2026-01-01'::timestamptz + g * interval '1 hour', g % 5 FROM generate_series(1, 60) g;
`

/** Conditions of TanStack DB, and what they are in SQL. */
const CONDITIONS: readonly [(row: any) => any, string][] = [
  [(row) => eq(row.code, 'k3'), `code = 'k3'`],
  [(row) => gt(row.n, 20.5), `n > 20.5`],
  [(row) => and(gte(row.id, 10), lt(row.id, 20), lte(row.n, 8)), `id >= 10 AND id < 20 AND n <= 8`],
  [(row) => inArray(row.id, [3, 5, 8, 13, 100]), `id IN (3, 5, 8, 13, 100)`],
  [(row) => inArray(row.id, Array.from({ length: 2500 }, (_, i) => i * 2)), `id % 2 = 0`],
  [(row) => or(like(row.name, 'c\\%'), ilike(row.name, 'a_N')), `name LIKE 'c\\\\%' OR name ILIKE 'a_N'`],
  [(row) => and(row.done, not(isNull(row.name))), `done AND name IS NOT NULL`],
  [(row) => not(or(row.done, inArray(row.code, ['k1', 'k2']))), `NOT (done OR code IN ('k1', 'k2'))`],
  // The order of names may be refused: then the collection decides it, as "C" does.
  [(row) => and(gt(row.name, 'B'), lt(row.id, 30)), `name COLLATE "C" > 'B' AND id < 30`],
  [(row) => eq(lower(row.name), 'ann'), `lower(name) = 'ann'`],
  [(row) => gt(row.at, '2026-01-02T00:00:00+00:00'), `at > '2026-01-02'`],
  [(row) => eq(row['odd "name'], 2), `"odd ""name" = 2`],
]

describe.skipIf(!WALCAST)('TanStack DB with a real server', () => {
  const server = new Server()
  let client: Client

  beforeAll(async () => {
    await server.start(SCHEMA)
    client = createClient(server.url, { webSocket: WebSocket, onWarning: () => {} })
  }, 120_000)
  afterAll(async () => {
    await client?.close()
    await server.stop()
  }, 60_000)

  test('every condition has the rows that SELECT has, also after changes', async () => {
    const things = createCollection(
      walcastCollectionOptions({
        client,
        query: { table: 'thing' },
        getKey: (thing) => thing.id as number,
        syncMode: 'on-demand',
        onUpdate: async ({ transaction }) => {
          const { modified } = transaction.mutations[0] as any
          await server.pool.query('UPDATE thing SET n = $1 WHERE id = $2', [modified.n, modified.id])
          return { position: await server.position() }
        },
      }),
    )
    const queries = CONDITIONS.map(([where]) => createLiveQueryCollection((query) => query.from({ thing: things as any }).where(({ thing }: any) => where(thing))))
    await Promise.all(queries.map((query) => query.preload()))
    const compare = async (): Promise<void> => {
      for (const [i, [, sql]] of CONDITIONS.entries()) {
        const { rows } = await server.pool.query(`SELECT id, n FROM thing WHERE ${sql} ORDER BY id`)
        const own = [...queries[i]!.values()].map(({ id, n }: any) => ({ id, n })).sort((a, b) => a.id - b.id)
        expect([sql, ...own]).toEqual([sql, ...rows])
      }
    }
    await compare()
    await server.pool.query(`UPDATE thing SET n = n + 1, done = NOT done, name = 'C' || name WHERE id % 4 = 1; DELETE FROM thing WHERE id % 11 = 0; INSERT INTO thing VALUES (1000, 'Ann', 'k3', 21, NULL, '2027-01-01', 2)`)
    await things.utils.waitFor(await server.position())
    await compare()
    // A write of one's own is there once it is persisted.
    await things.update(1000, (draft: any) => void (draft.n = 30)).isPersisted.promise
    expect((things.get(1000) as any).n).toBe(30)
    await compare()
    for (const query of queries) await query.cleanup()
  }, 60_000)

  test('what TanStack keeps of a whole query goes on from its place', async () => {
    const store = new Store()
    const page = async (shown: (things: any) => Promise<void>): Promise<object[]> => {
      const sent: object[] = []
      class Socket extends WebSocket {
        override send(text: string): void {
          sent.push(JSON.parse(text))
          super.send(text)
        }
      }
      const client = createClient(server.url, { webSocket: Socket, parsers: parsers({ types: { timestamptz: parse.date } }), onWarning: () => {} })
      const options = wholeCollectionOptions({ client, query: { table: 'thing', where: 'id < 50' }, getKey: ({ id }) => id as number })
      const things = createCollection(persistedCollectionOptions({ id: 'things', ...options, persistence: { adapter: store } } as any) as any) as any
      things.subscribeChanges(() => {})
      await things.preload()
      await shown(things)
      await things.utils.waitFor(await server.position())
      const { rows } = await server.pool.query('SELECT id, name, at FROM thing WHERE id < 50 ORDER BY id')
      expect([...things.values()].map(({ id, name, at }: any) => ({ id, name, at })).sort((a, b) => a.id - b.id)).toEqual(rows)
      // What is shown is stored a moment later.
      await eventually('the rows are stored', () => (store.rows.size === rows.length && rows.every(({ id, name }) => store.rows.get(id)?.name === name)) || undefined)
      await client.close()
      return sent.filter((message) => 'table' in message)
    }
    expect(await page(async () => {})).toMatchObject([{ snapshot: true }])
    const before = store.rows.size
    await server.pool.query(`UPDATE thing SET name = 'while away' WHERE id % 7 = 0; DELETE FROM thing WHERE id % 10 = 0; INSERT INTO thing (id, at) VALUES (-1, now())`)
    const asked = await page(async (things) => expect(things.size).toBe(before))
    expect(asked).toMatchObject([{ from: expect.any(String), epoch: expect.any(String) }])
  }, 60_000)

  test('the first rows of an order are asked for alone, page by page, and stay what SELECT has', async () => {
    /** How to order in TanStack DB, and in SQL; whether the server is asked for the first rows. */
    const orders: readonly [(row: any) => [any, object][], string, boolean][] = [
      [(row) => [[row.id, { direction: 'desc' }]], 'id DESC', true],
      [(row) => [[row.n, {}], [row.id, {}]], 'n NULLS FIRST, id', true],
      [(row) => [[row.at, { direction: 'desc' }], [row.id, {}]], 'at DESC NULLS FIRST, id', true],
      // Seven values: what ties comes along.
      [(row) => [[row.code, {}], [row.id, { direction: 'desc' }]], 'code COLLATE "C" NULLS FIRST, id DESC', true],
      [(row) => [[row.name, { nulls: 'last' }], [row.id, {}]], 'name COLLATE "C" NULLS LAST, id', true],
      [(row) => [[row.done, { direction: 'desc', nulls: 'last' }], [row.id, {}]], 'done DESC NULLS LAST, id', true],
      // As text here, as a number there.
      [(row) => [[row.price, {}], [row.id, {}]], 'price::text COLLATE "C" NULLS FIRST, id', false],
      [(row) => [[row['odd "name'], {}], [row.id, {}]], '"odd ""name" NULLS FIRST, id', true],
    ]
    await server.pool.query(`TRUNCATE thing; ALTER TABLE thing ADD price numeric; INSERT INTO thing SELECT g, (ARRAY['Ann', 'bob', 'cd', NULL])[1 + g % 4], 'k' || g % 7, NULLIF(g * 37 % 200, 5) / 2.0, g % 3 = 0, '2026-01-01'::timestamptz + g * interval '1 hour', g % 50, g * 7 % 300 FROM generate_series(1, 300) g`)
    for (const [order, sql, isPushed] of orders) {
      const things = createCollection(walcastCollectionOptions({ client, query: { table: 'thing' }, getKey: (thing) => thing.id as number, syncMode: 'on-demand' }))
      const list = createLiveQueryCollection((query) => {
        let built: any = query.from({ thing: things as any }).where(({ thing }: any) => gt(thing.id, 20))
        for (const [i, [, options]] of order({}).entries()) built = built.orderBy(({ thing }: any) => order(thing)[i]![0], options)
        return built.limit(10)
      }) as any
      await list.preload()
      let [offset, limit] = [0, 10]
      const compare = async (): Promise<void> => {
        const { rows } = await server.pool.query(`SELECT id FROM thing WHERE id > 20 ORDER BY ${sql} OFFSET ${offset} LIMIT ${limit}`)
        await eventually(`the rows by ${sql} from ${offset}`, () => {
          const own = list.toArray.map(({ id }: any) => id)
          return JSON.stringify(own) === JSON.stringify(rows.map(({ id }) => id)) || undefined
        }, 10_000)
      }
      await compare()
      const { rows: all } = await server.pool.query(`SELECT count(*)::int AS n FROM thing WHERE id > 20`)
      expect([sql, things.size < all[0].n]).toEqual([sql, isPushed])
      await server.pool.query(`UPDATE thing SET n = n + 40, at = at - interval '100 hours', done = NOT done WHERE id % 9 = 1; DELETE FROM thing WHERE id IN (SELECT id FROM thing WHERE id > 20 ORDER BY ${sql} LIMIT 7)`)
      await things.utils.waitFor(await server.position())
      await compare()
      for (const window of [{ offset: 10, limit: 10 }, { offset: 0, limit: 30 }]) {
        ;({ offset, limit } = window)
        await list.utils.setWindow(window)
        await compare()
      }
      await server.pool.query(`INSERT INTO thing SELECT 1 + max(id), 'Ann', 'k0', 0, true, '2025-01-01', 1, 1 FROM thing; DELETE FROM thing WHERE id % 13 = 0`)
      await things.utils.waitFor(await server.position())
      await compare()
      await list.cleanup()
    }
  }, 120_000)
})
