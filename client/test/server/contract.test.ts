import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { WebSocket } from 'ws'
import { type Client, type LiveQuery, changes, createClient, sort, waitFor } from '../../src/index.js'
import { Server, WALCAST, eventually } from './server.js'

const SEED = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31))
const CLIENTS = 20

/** Chance that can be had again: mulberry32. */
function chance(seed: number): (n: number) => number {
  let state = seed
  return (n) => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) % n
  }
}

const SCHEMA = `
  CREATE TABLE account (id int PRIMARY KEY, owner text NOT NULL, amount int NOT NULL);
  ALTER TABLE account REPLICA IDENTITY FULL;
  INSERT INTO account SELECT g, 'o' || g % 5, 100 FROM generate_series(1, 40) g;
  CREATE TABLE item (id bigint PRIMARY KEY, kind text, price numeric(12, 2), note text, at timestamptz NOT NULL DEFAULT '2026-01-01', tags text[] NOT NULL DEFAULT '{}');
  ALTER TABLE item REPLICA IDENTITY FULL;
  ALTER TABLE item ALTER note SET STORAGE EXTERNAL;
  CREATE TABLE line (word text, n float8);
  ALTER TABLE line REPLICA IDENTITY FULL;
  CREATE TABLE plain (id int PRIMARY KEY, a int, note text);
  ALTER TABLE plain ALTER note SET STORAGE EXTERNAL;
  CREATE TABLE other (id int);
`
const TOTAL = 4000

interface Watched {
  readonly sql: string
  readonly live: LiveQuery<Record<string, unknown>, unknown>
}

describe.skipIf(!WALCAST)(`with a real server (SEED=${SEED})`, () => {
  const server = new Server()
  const choose = chance(SEED)
  const sockets = new Set<WebSocket>()
  const clients: { client: Client; watched: Watched[] }[] = []
  const failures: unknown[] = []

  /** A socket that the test can cut. */
  class Cuttable extends WebSocket {
    constructor(url: string, protocol?: string) {
      super(url, protocol)
      sockets.add(this)
      this.on('close', () => sockets.delete(this))
    }
  }

  const queries = (): { table: string; where?: string; params?: (number | string)[]; columns?: string[]; undecided?: 'send' }[] => [
    { table: 'account', where: 'amount >= $1', params: [100] },
    { table: 'account', where: 'amount < $1', params: [100] },
    [
      { table: 'item' },
      { table: 'item', where: 'kind = $1', params: ['ab'[choose(2)]!] },
      { table: 'item', where: 'price > $1 OR note IS NULL', params: [choose(500)] },
      { table: 'line' },
      { table: 'line', where: 'n > $1', params: [choose(5)] },
      // Its long values are not in the log when a row comes into the result: they are left out.
      { table: 'plain', where: 'a < $1', params: [choose(10)], columns: ['id', 'a'], undecided: 'send' as const },
      { table: 'account', where: 'owner = $1', params: [`o${choose(5)}`] },
    ][choose(7)]!,
  ]

  function connect(): void {
    const client = createClient(server.url, { webSocket: Cuttable, backoff: { first: 50, most: 500 }, batch: choose(2) ? 'frame' : 'transaction', onWarning: () => {} })
    const watched = queries().map((query) => {
      const live = client.liveQuery(query)
      const literal = (i: number): string => (typeof query.params![i] === 'number' ? String(query.params![i]) : `'${query.params![i]}'`)
      const sql = `SELECT row_to_json(t)::text AS row FROM ${query.columns ? `(SELECT id, a FROM ${query.table})` : query.table} t${query.where ? ` WHERE ${query.where.replace('$1', () => literal(0))}` : ''}`
      return { sql, live }
    })
    const [rich, poor] = watched as [Watched, Watched]
    const look = (): void => {
      if (rich.live.state.status !== 'live' || poor.live.state.status !== 'live') return
      // Whatever moves between them is in one of them.
      const rows = [...rich.live.state.rows, ...poor.live.state.rows]
      const sum = rows.reduce((all, { amount }) => all + Number(amount), 0)
      if (sum !== TOTAL || rows.length !== 40) failures.push(`${rows.length} accounts with ${sum} at ${rich.live.state.position} and ${poor.live.state.position}`)
    }
    for (const { live } of watched) live.onChange(look)
    clients.push({ client, watched })
  }

  /** Workers that read every change at their own pace, from a buffer that is too small: they come back to the journal. */
  const workers: { rows: Map<string, Record<string, unknown>>; gaps: number }[] = []

  function work(): void {
    const { client } = clients[workers.length]!
    const worker = { rows: new Map<string, Record<string, unknown>>(), gaps: 0 }
    workers.push(worker)
    const put = (row: Record<string, unknown>): void => void worker.rows.set(String(row['id']), row)
    const reading = async (): Promise<void> => {
      for await (const event of changes(client, { table: 'item' }, { snapshot: true, buffer: 10, whole: choose(2) === 0 })) {
        if (event.type === 'gap') {
          worker.rows.clear()
          worker.gaps++
        }
        if (event.type === 'rows') event.rows.forEach(put)
        if (event.type !== 'tx') continue
        for (const change of event.changes) {
          if (change.op === 'delete') worker.rows.delete(String(change.key['id']))
          if (change.op === 'update' && change.key) worker.rows.delete(String(change.key['id']))
          if (change.op === 'insert' || change.op === 'update') put(change.row)
        }
        await new Promise((resolve) => setTimeout(resolve, choose(3)))
      }
    }
    reading().catch((error: unknown) => {
      if ((error as { code?: string }).code !== 'closed') failures.push(error)
    })
  }

  /** One transaction of whatever comes to mind. */
  async function write(): Promise<void> {
    const db = await server.pool.connect()
    try {
      await db.query('BEGIN')
      if (choose(3) === 0) await db.query('SET LOCAL synchronous_commit = off')
      for (let i = 1 + choose(4); i > 0; i--) {
        const id = 1 + choose(40)
        switch (choose(12)) {
          case 0:
          case 1:
          case 2:
            await db.query('UPDATE account SET amount = amount - $1 WHERE id = $2', [choose(20), id]).then(async () => {
              await db.query('UPDATE account SET amount = amount + (SELECT $1::int - sum(amount)::int FROM account) WHERE id = $2', [TOTAL, 1 + choose(40)])
            })
            break
          case 3:
            await db.query(`INSERT INTO item VALUES ($1, $2, $3, $4) ON CONFLICT (id) DO UPDATE SET kind = excluded.kind`, [id, 'abc'[choose(3)], choose(1000), choose(2) ? 'x'.repeat(3000) : null])
            break
          case 4:
            await db.query('UPDATE item SET price = price + 1, tags = tags || $1::text WHERE id % 7 = $2', ['t', choose(7)])
            break
          case 5:
            await db.query('DELETE FROM item WHERE id = $1', [id])
            break
          case 6:
            await db.query('UPDATE item SET id = -id WHERE id = $1 AND NOT EXISTS (SELECT FROM item WHERE id = -$1)', [id])
            break
          case 7:
            await db.query(`INSERT INTO line SELECT 'w' || g % 2, CASE WHEN g = 1 THEN 'NaN'::float8 ELSE g % 3 END FROM generate_series(1, $1) g`, [1 + choose(4)])
            break
          case 8:
            await db.query('DELETE FROM line WHERE ctid IN (SELECT ctid FROM line LIMIT $1)', [choose(4)])
            break
          case 9:
            await db.query('UPDATE line SET n = $1 WHERE ctid IN (SELECT ctid FROM line LIMIT 2)', [choose(9)])
            break
          case 10:
            await db.query('INSERT INTO plain VALUES ($1, $2, $3) ON CONFLICT (id) DO UPDATE SET a = excluded.a', [id, choose(12), 'y'.repeat(3000)])
            break
          case 11:
            if (choose(6) === 0) await db.query('TRUNCATE line')
            // A large one comes in many frames.
            else if (choose(3) === 0) await db.query(`INSERT INTO line SELECT 'large', g FROM generate_series(1, 300) g`)
        }
      }
      await db.query(choose(8) === 0 ? 'ROLLBACK' : 'COMMIT')
    } catch (error) {
      await db.query('ROLLBACK')
      // Two writers may be in each other's way.
      if (!['40P01', '23505'].includes((error as { code: string }).code)) throw error
    } finally {
      db.release()
    }
  }

  /** Row as text, its names in order; bigint and numeric as the client has them. */
  const canonical = (row: Record<string, unknown>, isItem: boolean): string =>
    JSON.stringify(Object.entries(row).map(([name, value]) => [name, (isItem && (name === 'id' || name === 'price') && value !== null) || Number.isNaN(value) ? String(value) : value]).sort())

  async function compare(): Promise<void> {
    const position = await server.position()
    await Promise.all(clients.map(({ client }) => waitFor(client, position, { timeout: 60_000 })))
    expect(failures).toEqual([])
    for (const { watched } of clients) {
      for (const { sql, live } of watched) {
        const isItem = sql.includes(' item ')
        const { rows } = await server.pool.query<{ row: string }>(sql)
        // The digits of a numeric are in its text alone.
        const expected = rows.map(({ row }) => canonical(JSON.parse(row.replace(/"(id|price)":(-?[\d.]+)/g, isItem ? '"$1":"$2"' : '$&')), isItem))
        expect([live.state.status, live.state.error]).toEqual(['live', undefined])
        expect(live.state.rows.map((row) => canonical(row, isItem)).sort(), sql).toEqual(expected.sort())
      }
    }
    const { rows } = await server.pool.query<{ row: string }>('SELECT row_to_json(item)::text AS row FROM item')
    const expected = JSON.stringify(rows.map(({ row }) => canonical(JSON.parse(row.replace(/"(id|price)":(-?[\d.]+)/g, '"$1":"$2"')), true)).sort())
    for (const worker of workers) {
      await eventually('a worker has read everything', () => failures.length > 0 || JSON.stringify([...worker.rows.values()].map((row) => canonical(row, true)).sort()) === expected || undefined)
    }
    expect(failures).toEqual([])
  }

  beforeAll(async () => {
    await server.start(SCHEMA)
    for (let i = 0; i < CLIENTS; i++) connect()
    for (let i = 0; i < 4; i++) work()
  }, 60_000)

  afterAll(async () => {
    for (const { client } of clients) await client.close()
    await server.stop()
  }, 30_000)

  test('every client holds what SELECT gives, with clients cut and the server killed at any moment', async () => {
    for (let round = 0; round < 6; round++) {
      let isOver = false
      const writers = Array.from({ length: 3 }, async () => {
        while (!isOver) await write()
      })
      for (let i = 0; i < 15; i++) {
        await new Promise((resolve) => setTimeout(resolve, 20 + choose(150)))
        for (const socket of [...sockets]) if (choose(6) === 0) socket.terminate()
        if (i === 7 && round % 2 === 1) {
          await server.kill()
          await server.serve()
        }
      }
      isOver = true
      await Promise.all(writers)
      await compare()
    }
    expect(failures).toEqual([])
  }, 150_000)

  test('waitFor ends soon after any write: one that matched nothing, changed nothing, or was not on disk yet', async () => {
    const { client } = clients[0]!
    for (const sql of [
      'INSERT INTO other VALUES (1)',
      'UPDATE account SET amount = amount WHERE false',
      `BEGIN; SET LOCAL synchronous_commit = off; INSERT INTO line VALUES ('own', 1); COMMIT`,
    ]) {
      await server.pool.query(sql)
      const position = await server.position()
      await waitFor(client, position, { timeout: 20_000 })
    }
  }, 60_000)

  test('the first rows of an order are those of SELECT … ORDER BY … LIMIT, sorted as there, and their range stays exact over a cut', async () => {
    await server.pool.query(`
      CREATE TABLE ranked (id int PRIMARY KEY, i int, word text COLLATE "C", price numeric, big bigint, f float8, at timestamptz, day date, flag bool);
      ALTER TABLE ranked REPLICA IDENTITY FULL;
      INSERT INTO ranked SELECT g, g % 7 - 3,
        (ARRAY['', 'a', 'B', 'é', 'a b', chr(65533), chr(128512), NULL])[g % 8 + 1],
        (ARRAY['1.0', '1.00', 'NaN', '0.1', '12345678901234567890.5', '12345678901234567890.6', '-0.5', NULL, 'Infinity'])[g % 9 + 1]::numeric,
        (ARRAY[9007199254740993, 9007199254740992, -9007199254740993, 5, 10, NULL])[g % 6 + 1],
        (ARRAY['0.1', '-0', '0', 'NaN', '-Infinity', '1e-300', '0.30000000000000004', NULL])[g % 8 + 1]::float8,
        (ARRAY['infinity', '2024-01-01 00:00:00.000001Z', '2024-01-01Z', '0044-03-15 00:00Z BC', '12024-01-01Z', NULL])[g % 6 + 1]::timestamptz,
        (ARRAY['-infinity', '2024-01-01', '0044-03-15 BC', '10000-01-01', NULL])[g % 5 + 1]::date,
        (ARRAY[true, false, NULL])[g % 3 + 1]
      FROM generate_series(1, 60) g`)
    const own = new Set<WebSocket>()
    class Cut extends WebSocket {
      constructor(url: string, protocol?: string) {
        super(url, protocol)
        own.add(this)
      }
    }
    const client = createClient(server.url, { webSocket: Cut, sort, backoff: { first: 20, most: 100 }, onWarning: ({ text }) => failures.push(text) })
    const columns = ['i', 'word', 'price', 'big', 'f', 'at', 'day', 'flag']
    const asked = columns.flatMap((column) =>
      [{}, { desc: true }, { nulls: 'first' as const }, { desc: true, nulls: 'last' as const }].map((how) => {
        const live = client.liveQuery({ table: 'ranked', columns: ['id'], orderBy: [{ column, ...how }, { column: 'id', desc: true }], limit: 5 + choose(20) })
        const sql = `${column}${'desc' in how ? ' DESC' : ''}${'nulls' in how ? ` NULLS ${how.nulls}` : ''}, id DESC`
        return { live, sql }
      }),
    )
    const ids = ({ live }: (typeof asked)[number]): number[] => live.state.rows.map(({ id }) => id)
    for (const each of asked) await each.live.ready()
    const bounds = asked.map(({ live }) => live.dehydrate()!.place.bound!.at(-1))
    for (const each of asked) {
      const { rows } = await server.pool.query<{ id: number }>(`SELECT id FROM ranked ORDER BY ${each.sql} LIMIT ${ids(each).length}`)
      expect([each.sql, ids(each)]).toEqual([each.sql, rows.map(({ id }) => id)])
      // No two rows tie, since the key is the last column.
      expect(bounds[asked.indexOf(each)]).toBe(ids(each).at(-1))
    }
    // Rows that are no bound come into ranges and leave them, while there is no connection, too.
    const fixed = `id <> ALL ('{${bounds.join()}}')`
    for (let round = 0; round < 3; round++) {
      if (round > 0) for (const socket of own) socket.terminate()
      await server.pool.query(`UPDATE ranked r SET (i, word, price, big, f, at, day, flag) = (SELECT i, word, price, big, f, at, day, flag FROM ranked o WHERE o.id = (r.id * 7 + ${choose(50)}) % 50 + 1) WHERE ${fixed} AND id % 3 = ${round}`)
      await server.pool.query(`INSERT INTO ranked SELECT id + ${1000 * (round + 1)}, i, word, price, big, f, at, day, flag FROM ranked WHERE id % 5 = 0 AND id < 60; DELETE FROM ranked WHERE ${fixed} AND id % 11 = ${round} AND id > 50`)
      await waitFor(client, await server.position(), { timeout: 20_000 })
      for (const [i, each] of asked.entries()) {
        const { rows } = await server.pool.query<{ id: number }>(`WITH t AS (SELECT id, row_number() OVER (ORDER BY ${each.sql}) AS n FROM ranked) SELECT id FROM t WHERE n <= (SELECT n FROM t WHERE id = $1) ORDER BY n`, [bounds[i]])
        expect([each.sql, ids(each)]).toEqual([each.sql, rows.map(({ id }) => id)])
        expect(each.live.dehydrate()!.place.bound!.at(-1)).toBe(bounds[i])
      }
    }
    await client.close()
    expect(failures).toEqual([])
  }, 60_000)

  test('a request that the server does not take is a clear error', async () => {
    const client = createClient(server.url, { webSocket: WebSocket, sort, onWarning: () => {} })
    const refused = (query: { table: string; where?: string; orderBy?: { column: string }[]; limit?: number }): Promise<unknown> => client.liveQuery(query).ready().then(() => 'taken', (error) => error)
    expect(await refused({ table: 'account', where: 'amuont > 1 AND id = 2' })).toMatchObject({ code: 'unknown_column', message: expect.stringContaining('amuont') })
    expect(await refused({ table: 'account', where: 'id = 2 AND amount >> 1' })).toMatchObject({ code: 'bad_predicate', message: expect.stringContaining('\n  id = 2 AND amount >> 1\n  ') })
    expect(await refused({ table: 'accounts' })).toMatchObject({ code: 'unknown_table' })
    expect(await refused({ table: 'account', orderBy: [{ column: 'amount' }] })).toMatchObject({ code: 'bad_request', message: expect.stringContaining('"limit"') })
    expect(await refused({ table: 'account', orderBy: [{ column: 'amuont' }], limit: 3 })).toMatchObject({ code: 'unknown_column' })
    expect(await refused({ table: 'plain', where: 'a = 1' })).toMatchObject({ code: 'replica_identity', message: expect.stringContaining('REPLICA IDENTITY FULL') })
    expect(client.connection.name).toBe('open')
    await client.close()
  }, 30_000)
})
