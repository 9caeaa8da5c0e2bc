import { readFileSync } from 'node:fs'
import type { Page } from 'playwright-core'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { HAS_BROWSER, Site } from './site.js'

const PAGE = `<!doctype html><title>page</title><script type="module">
  import { createClient, waitFor } from '/client.js'
  const given = new URLSearchParams(location.search)
  const client = globalThis.client = createClient(given.get('url'), { backoff: { first: 50, most: Number(given.get('most') ?? 300) } })
  globalThis.query = client.liveQuery({ table: 'task' })
  globalThis.states = []
  globalThis.waitFor = (position) => waitFor(client, position)
  globalThis.sizes = []
  client.onConnection(({ name }) => states.push(name))
  query.subscribe(({ rows, status, filled }) => {
    if (filled) sizes.push(rows.length)
    document.body.textContent = status + ' ' + rows.map((row) => row.title).join()
  })
</script>`

describe.skipIf(!HAS_BROWSER)('in a browser', () => {
  const site = new Site()
  const { server } = site
  let page: Page

  const shows = (text: string): Promise<unknown> => page.waitForFunction((text) => document.body.textContent === text, text, { timeout: 20_000 })
  const open = (more = ''): Promise<unknown> => page.goto(site.page(more))
  /** What the page sent as requests for rows since it was opened. */
  const asked: string[] = []

  beforeAll(async () => {
    const module = readFileSync(new URL('../../dist/client.min.js', import.meta.url))
    const html = (path: string): string => (path === '/elsewhere' ? '<title>elsewhere</title>' : PAGE.replace('<script', '<script nonce="n"'))
    // What a strict page allows: its own scripts, this one inline one, and the server.
    await site.start('/client.js', module, html, "'self' 'nonce-n'", { args: ['--enable-features=BackForwardCache'], ignoreDefaultArgs: ['--disable-back-forward-cache'] })
  }, 60_000)

  afterAll(() => site.stop(), 30_000)

  beforeEach(async () => {
    await site.reset()
    page = await site.context.newPage()
    asked.length = 0
    page.on('websocket', (socket) => socket.on('framesent', ({ payload }) => asked.push(String(payload))))
    await open()
    await shows('live a')
  }, 30_000)

  afterEach(() => site.context.close())

  const snapshots = (): number => asked.filter((text) => text.includes('"snapshot":true')).length

  test('a page under a strict policy follows, and comes back after the server was killed, with what it missed alone', async () => {
    await site.add('b')
    await shows('live a,b')
    await server.kill()
    await shows('offline a,b')
    await site.add('c')
    await server.serve()
    await shows('live a,b,c')
    expect(snapshots()).toBe(1)
    // Nothing was ever taken away in between.
    const sizes = await page.evaluate(() => (globalThis as any).sizes as number[])
    expect(sizes).toEqual([...sizes].sort((a, b) => a - b))
  }, 60_000)

  test('a page that knows that there is no network waits, and is back at once when there is one', async () => {
    await open('most=3600000')
    await shows('live a')
    await server.kill()
    await shows('offline a')
    await site.context.setOffline(true)
    await page.waitForFunction(() => (globalThis as any).client.connection.name === 'offline')
    await server.serve()
    await site.add('b')
    await site.context.setOffline(false)
    await shows('live a,b')
    // Once for each time that the page was opened.
    expect(snapshots()).toBe(2)
  }, 60_000)

  test('a hidden page goes on', async () => {
    const other = await site.context.newPage()
    await other.goto('about:blank')
    await other.bringToFront()
    await site.add('b')
    await shows('live a,b')
  }, 60_000)

  test('a page that comes back from the history of the browser goes on from its place', async () => {
    await page.goto(`${site.origin}/elsewhere`)
    await site.add('b')
    // It was never away, so it does not load.
    await page.goBack({ waitUntil: 'commit' })
    await shows('live a,b')
    // The browser kept the page, which it does only if nothing is connected.
    expect(await page.evaluate(() => (globalThis as any).states)).toContain('offline')
    expect(snapshots()).toBe(1)
  }, 60_000)

  test('own writes are there when waitFor is done', async () => {
    await server.pool.query("INSERT INTO task (title) VALUES ('mine')")
    const position = await server.position()
    expect(await page.evaluate((position) => (globalThis as any).waitFor(position).then(() => (globalThis as any).query.state.rows.length), position)).toBe(2)
  }, 60_000)

  test('an origin that the server does not know waits, and says what may be wrong', async () => {
    const stranger = await site.context.newPage()
    await stranger.goto(site.page().replace('127.0.0.1', 'localhost'))
    const reason = await stranger.waitForFunction(() => {
      const { connection } = (globalThis as any).client ?? {}
      return connection?.name === 'waiting' && connection.reason
    })
    expect(await reason.jsonValue()).toContain('accept this origin')
  }, 60_000)
})
