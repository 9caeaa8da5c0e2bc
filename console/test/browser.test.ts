import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import type { Page } from 'playwright-core'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { HAS_BROWSER, Site } from './site.js'

const SCHEMA = `
  CREATE TABLE task (id int PRIMARY KEY, title text, state text);
  ALTER TABLE task REPLICA IDENTITY FULL;
  INSERT INTO task VALUES (1, 'one', 'new'), (2, NULL, 'new'), (3, '', 'done');
  CREATE TABLE item (id int PRIMARY KEY, name text, n int NOT NULL);
  ALTER TABLE item REPLICA IDENTITY FULL;
  INSERT INTO item SELECT g, md5(g::text), 0 FROM generate_series(1, 10000) g;
  CREATE TABLE large (id int PRIMARY KEY, body text);`

/** Looks for faults of accessibility. */
const axe = readFileSync(fileURLToPath(import.meta.resolve('axe-core')), 'utf8')

describe.skipIf(!HAS_BROWSER)('the console in a browser', () => {
  const site = new Site()
  const { server } = site
  let page: Page

  beforeAll(() => site.start(SCHEMA), 60_000)
  afterAll(() => site.stop(), 30_000)
  afterEach(async () => {
    await page?.context().close()
    expect(site.complaints.splice(0)).toEqual([])
  })

  const query = (text: string): Promise<unknown> => server.pool.query(text)
  /** The lines that are seen, a text each of the cells. */
  const lines = (): Promise<string[][]> =>
    page.$$eval('.line:not([hidden])', (all) =>
      all.sort((a, b) => Number(a.getAttribute('aria-rowindex')) - Number(b.getAttribute('aria-rowindex'))).map((line) => [...line.querySelectorAll('.cell')].map((cell) => cell.textContent!)))
  const eventually = <T>(look: () => T | Promise<T>) => expect.poll(look, { timeout: 20_000 })
  const nodes = (): Promise<number> => page.evaluate(() => document.querySelectorAll('*').length)
  const rows = (text: string): Promise<unknown> => page.waitForFunction((text) => document.querySelector('.figure')?.textContent === text, text, { timeout: 20_000 })

  test('values are text, whatever is in them, and NULL, nothing and text do not look alike', async () => {
    page = await site.open('#query?table=task')
    await rows('3 rows')
    expect(await lines()).toEqual([['1', 'one', 'new'], ['2', 'null', 'new'], ['3', "''", 'done']])
    const markup = `<img src=x onerror="document.title='owned'"><script>document.title='owned'</script><b style=color:red>bold</b>`
    await server.pool.query('UPDATE task SET title = $1 WHERE id = 1', [markup])
    await eventually(async () => (await lines())[0]?.[1]).toBe(markup)
    // In full, and as a change, too.
    await page.click('.line .cell >> nth=1')
    await page.waitForSelector('.details dd')
    await page.click('.side .item')
    await page.waitForSelector('.diff')
    expect(await page.$$eval('#app :is(img, script, b[style])', (found) => found.length)).toBe(0)
    expect(await page.$eval('.diff .new', (cell) => cell.textContent)).toBe(markup)
    expect(await page.title()).toBe('Query · walcast')
    await query("UPDATE task SET title = 'one' WHERE id = 1")
  }, 60_000)

  test('a value of 10 MB shows its beginning, and the page goes on', async () => {
    page = await site.open('#query?table=large')
    await rows('0 rows')
    await query("INSERT INTO large VALUES (1, repeat('<b>x</b>', 1310720)), (2, 'small')")
    await rows('2 rows')
    expect((await lines()).map(([, body]) => body!.length)).toEqual([161, 5])
    await page.click('.line .cell >> nth=1')
    await page.waitForSelector('.details .more')
    expect(await page.$eval('.details', (details) => details.textContent!.length)).toBeLessThan(12_000)
    await query("UPDATE large SET body = 'new' WHERE id = 2")
    await eventually(async () => (await lines())[1]?.[1]).toBe('new')
    expect(await nodes()).toBeLessThan(1000)
  }, 60_000)

  test('of 10,000 rows no more is on the page than is seen, and no change is lost', async () => {
    page = await site.open('#query?table=item')
    await rows('10,000 rows')
    for (let i = 0; i < 20; i++) await query('UPDATE item SET n = n + 1 WHERE id <= 200 OR id > 9950')
    await eventually(async () => (await lines())[0]?.[2]).toBe('20')
    expect(await nodes()).toBeLessThan(3000)
    await page.$eval('.grid', (grid) => (grid.scrollTop = grid.scrollHeight))
    await eventually(async () => (await lines()).at(-1)).toEqual(['10000', expect.any(String), '20'])
    expect(await page.$eval('.grid', (grid) => grid.getAttribute('aria-rowcount'))).toBe('10001')
    expect(await page.$$eval('.line:not([hidden])', (all) => Math.max(...all.map((line) => Number(line.getAttribute('aria-rowindex')))))).toBe(10001)
    expect(await nodes()).toBeLessThan(3000)
  }, 60_000)

  test('the keyboard alone reaches all of it, and the address says where one is', async () => {
    page = await site.open('#query?table=task')
    await rows('3 rows')
    const { keyboard } = page
    await keyboard.press('/')
    await keyboard.type("sta")
    await page.waitForSelector('#words [role=option]')
    await keyboard.press('ArrowDown')
    await keyboard.press('Enter')
    await keyboard.type("= 'new'")
    await keyboard.press('Enter')
    await rows('2 rows')
    expect(new URLSearchParams(new URL(page.url()).hash.split('?')[1]).get('where')).toBe("state = 'new'")
    await keyboard.press('Escape')
    await keyboard.press('j')
    await keyboard.press('j')
    expect(await page.$eval('.grid', (grid) => [document.activeElement === grid, grid.getAttribute('aria-activedescendant')])).toEqual([true, 'active-cell'])
    await keyboard.press('Enter')
    await page.waitForFunction(() => document.querySelector('.details h3')?.textContent === 'Row 2')
    await keyboard.press('Escape')
    await page.waitForSelector('.details', { state: 'detached' })
    await keyboard.press('Space')
    await query("UPDATE task SET state = 'done' WHERE id = 2")
    await page.waitForFunction(() => document.querySelector('.paused')?.textContent === '1 change while paused')
    expect((await lines()).length).toBe(2)
    await keyboard.press('Space')
    await rows('1 row')
    await keyboard.press('[')
    await page.waitForFunction(() => document.querySelector('.diff')?.textContent?.includes('left'))
    // Sorts by the column, and the address has it.
    await page.focus('.grid')
    await keyboard.press('ArrowRight')
    await keyboard.press('s')
    await page.waitForFunction(() => location.hash.includes('sort='))
    await keyboard.press('?')
    await page.waitForSelector('dialog[open]')
    await keyboard.press('Escape')
    for (const [key, name] of [['s', 'Stream'], ['h', 'Health'], ['c', 'Clients'], ['t', 'Tables'], ['q', 'Query']] as const) {
      await keyboard.press('g')
      await keyboard.press(key)
      await page.waitForFunction((name) => document.querySelector('.top [aria-current]')?.textContent === name, name)
    }
    await query("UPDATE task SET state = 'new' WHERE id = 2")
  }, 60_000)

  test('a predicate that is refused says where, and the rows that were there stay', async () => {
    page = await site.open('#query?table=task')
    await rows('3 rows')
    await page.fill('#where', "title = 'naïve' AND staet = 'new'")
    await page.waitForFunction(() => document.querySelector('.mirror [data-wrong]')?.textContent === 'staet')
    expect(await page.$eval('#verdict', (verdict) => verdict.textContent)).toContain('staet')
    await page.press('#where', 'Enter')
    await page.waitForFunction(() => document.querySelector('#where')?.getAttribute('aria-invalid') === 'true')
    expect((await lines()).length).toBe(3)
    await page.fill('#where', "state = 'done'")
    await page.waitForFunction(() => document.querySelector('#verdict')?.textContent?.startsWith('Filed under'))
    await page.press('#where', 'Enter')
    await rows('1 row')
  }, 60_000)

  test('the stream has every table, transaction by transaction', async () => {
    page = await site.open('#stream')
    await page.waitForFunction(() => document.querySelector('.state')?.textContent === 'live')
    const sent = async (): Promise<boolean> => {
      await query("BEGIN; UPDATE task SET title = 'uno' WHERE id = 1; UPDATE item SET n = 7 WHERE id = 5; COMMIT")
      return page.waitForFunction(() => document.querySelectorAll('.item:not([hidden]):not(.head)').length >= 2, undefined, { timeout: 2000 }).then(() => true, () => false)
    }
    // Its subscriptions begin a moment after the connection.
    await eventually(sent).toBe(true)
    const [head, first, second] = await page.$$eval('.item:not([hidden])', (all) =>
      all.sort((a, b) => a.getBoundingClientRect().top - b.getBoundingClientRect().top).map((line) => line.textContent!))
    expect(head).toContain('2 changes')
    expect([first, second]).toEqual([expect.stringContaining('task'), expect.stringContaining('item')])
  }, 60_000)

  test.each([[320, 'light'], [1280, 'dark']] as const)('at a width of %i, %s, each place fits, and has no fault of WCAG AA', async (width, colorScheme) => {
    page = await site.open('#query?table=task', { viewport: { width, height: 720 }, colorScheme })
    await rows('3 rows')
    await page.evaluate(axe)
    for (const place of ['query', 'stream', 'health', 'clients', 'tables']) {
      await page.evaluate((place) => (location.hash = `#${place}`), place)
      await page.waitForFunction((place) => document.querySelector(`#main > .${place === 'tables' ? 'tables-place' : place}`) !== null, place)
      expect(await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)).toBeLessThanOrEqual(0)
      const faults = await page.evaluate(() => (globalThis as any).axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'] }).then(({ violations }: any) => violations.map(({ id, nodes }: any) => `${id}: ${nodes[0].html}`)) as Promise<string[]>)
      expect(faults).toEqual([])
    }
  }, 60_000)

  test('a server that is killed is said to be away, and what was missed comes once it is back', async () => {
    page = await site.open('#query?table=task')
    await rows('3 rows')
    await server.kill()
    await page.waitForSelector('.notice[data-bad]')
    expect((await lines()).length).toBe(3)
    await query("INSERT INTO task VALUES (4, 'missed', 'new')")
    await server.serve()
    await rows('4 rows')
    await page.waitForSelector('.notice[data-bad]', { state: 'detached' })
    await page.waitForFunction(() => document.querySelector('.state')?.textContent === 'live')
  }, 60_000)
})
