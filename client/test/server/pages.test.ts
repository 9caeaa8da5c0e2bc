import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'
import type { Page } from 'playwright-core'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { HAS_BROWSER, Site } from './site.js'

const MAIN = `
  import { createClient } from './index.ts'
  import { mount } from './devtools/index.ts'
  import { indexedDB } from './persist/index.ts'
  import { tabs } from './tabs/index.ts'
  const given = new URLSearchParams(location.search)
  const client = globalThis.client = createClient(given.get('url'), {
    backoff: { first: 50, most: 300 },
    ...(given.has('persist') && { persist: indexedDB({ scope: given.get('persist') }) }),
    ...(given.has('tabs') && { share: tabs() }),
    connect: given.has('offline') ? 'manual' : 'first-use',
  })
  globalThis.states = []
  client.liveQuery({ table: 'task' }).subscribe(({ rows, status }) => {
    states.push(status)
    document.querySelector('main').textContent = status + ' ' + rows.map((row) => row.title).join()
  })
  if (given.has('devtools')) mount(client, { open: true })
`

describe.skipIf(!HAS_BROWSER)('pages in a browser', () => {
  const site = new Site()
  /** What pages sent, and how many connections they made. */
  let sent: string[]
  let sockets: number

  const shows = (page: Page, text: string): Promise<unknown> => page.waitForFunction((text) => document.querySelector('main')?.textContent === text, text, { timeout: 20_000 })
  const open = async (more: string): Promise<Page> => {
    const page = await site.context.newPage()
    page.on('websocket', (socket) => {
      sockets++
      socket.on('framesent', ({ payload }) => sent.push(String(payload)))
    })
    await page.goto(site.page(more))
    return page
  }
  const asked = (): any[] => sent.map((text) => JSON.parse(text)).filter(({ type }) => type === 'subscribe')

  beforeAll(async () => {
    const { outputFiles } = await build({ stdin: { contents: MAIN, resolveDir: fileURLToPath(new URL('../../src', import.meta.url)), loader: 'ts' }, bundle: true, format: 'esm', write: false })
    // No inline scripts or styles, and no workers.
    await site.start('/main.js', outputFiles[0]!.contents, () => '<!doctype html><title>page</title><main></main><script type="module" src="/main.js"></script>', "'self'")
  }, 60_000)

  afterAll(() => site.stop(), 30_000)

  beforeEach(async () => {
    await site.reset()
    sent = []
    sockets = 0
  })
  afterEach(() => site.context.close())

  test('a page that is loaded again shows its rows at once, and asks for what changed since', async () => {
    const page = await open('persist=ann')
    await shows(page, 'live a')
    await site.add('b')
    await shows(page, 'live a,b')
    // Leaving the page writes what it has.
    await page.reload()
    await shows(page, 'live a,b')
    expect(asked()).toMatchObject([{ snapshot: true }, { from: expect.any(String), epoch: expect.any(String) }])
    // Also without a connection.
    const offline = await open('persist=ann&offline')
    await shows(offline, 'catching-up a,b')
    const other = await open('persist=bob&offline')
    await other.waitForFunction(() => (globalThis as any).states.length > 0)
    expect(await other.evaluate(() => (globalThis as any).states)).toEqual(['connecting'])
  }, 60_000)

  test('two tabs have one socket; when the one that has it is closed the other goes on from its place', async () => {
    const one = await open('tabs')
    await shows(one, 'live a')
    const two = await open('tabs')
    await shows(two, 'live a')
    expect(sockets).toBe(1)
    await site.add('b')
    await Promise.all([shows(one, 'live a,b'), shows(two, 'live a,b')])
    await one.close()
    await site.add('c')
    await shows(two, 'live a,b,c')
    expect(sockets).toBe(2)
    expect(asked().at(-1)).toMatchObject({ from: expect.any(String) })
    expect(await two.evaluate(() => (globalThis as any).client.connection.name)).toBe('open')
  }, 60_000)

  test('the devtools show under a strict policy what there is', async () => {
    const errors: string[] = []
    const page = await site.context.newPage()
    page.on('console', (message) => message.type() === 'error' && errors.push(message.text()))
    await page.goto(site.page('devtools'))
    await shows(page, 'live a')
    await page.getByRole('cell', { name: 'live', exact: true }).waitFor()
    await page.getByRole('tab', { name: 'Frames' }).click()
    await page.getByText('← live 1').waitFor()
    await page.getByRole('button', { name: 'Drop the socket' }).click()
    await page.getByRole('tab', { name: 'Connection' }).click()
    await page.getByText('waiting').first().waitFor()
    await shows(page, 'live a')
    expect(await page.locator('.panel').evaluate((panel) => getComputedStyle(panel).display)).toBe('flex')
    expect(errors.filter((text) => !text.includes('favicon'))).toEqual([])
  }, 60_000)
})
