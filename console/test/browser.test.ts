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

  let schema: Promise<unknown> | undefined
  /** Opens the console of a database that has its tables. */
  const open = async (...of: Parameters<Site['open']>): Promise<Page> => {
    await (schema ??= query(SCHEMA))
    return site.open(...of)
  }

  beforeAll(() => site.start(''))
  afterAll(() => site.stop())
  afterEach(async () => {
    await page?.context().close()
    expect(site.complaints.splice(0)).toEqual([])
  })

  const query = (text: string): Promise<unknown> => server.pool.query(text)
  /** The lines that are seen, a text each of the cells. */
  const lines = (): Promise<string[][]> =>
    page.$$eval('.line:not([hidden])', (all) =>
      all.sort((a, b) => Number(a.getAttribute('aria-rowindex')) - Number(b.getAttribute('aria-rowindex'))).map((line) => [...line.querySelectorAll('.cell')].map((cell) => cell.textContent!)))
  const nodes = (): Promise<number> => page.evaluate(() => document.querySelectorAll('*').length)
  const rows = (text: string): Promise<unknown> => page.waitForFunction((text) => document.querySelector('.figure')?.textContent === text, text)

  test('begins without a table, and has the first one once it is published', async () => {
    page = await site.open('#query')
    await page.waitForFunction(() => document.querySelector('.empty.page')?.textContent?.startsWith('No table is published'))
    // The place is drawn without its rows from the beginning, too.
    for (const [key, name] of [['h', 'Health'], ['q', 'Query']] as const) {
      await page.keyboard.press('g')
      await page.keyboard.press(key)
      await page.waitForFunction((name) => document.querySelector('.top [aria-current]')?.textContent === name, name)
    }
    await page.waitForSelector('.empty.page')
    await (schema ??= query(SCHEMA))
    await rows('10,000 rows')
    await page.waitForSelector('.grid .line:not([hidden])')
    await expect.poll(() => page.$eval('.tables', (tables) => tables.textContent)).toMatch(/item.*large.*task/)
  })

  test('a refusal of the server stands above the place, for as long as it lasts', async () => {
    page = await open('#health')
    await page.waitForSelector('.chart')
    const message = 'the database cannot be asked: connection refused'
    await page.route('**/api/tables*', (route) => route.fulfill({ status: 502, contentType: 'application/json', body: JSON.stringify({ error: { code: 'database', message } }) }))
    await page.keyboard.press('g')
    await page.keyboard.press('t')
    await page.waitForFunction(() => document.querySelector('.notice[data-amber]')?.textContent === 'The database cannot be asked: connection refused. The page asks again by itself.')
    await page.unroute('**/api/tables*')
    await page.waitForSelector('.notice', { state: 'detached' })
    await page.waitForSelector('.facts')
    expect(site.complaints.splice(0).filter((text) => !text.includes('502'))).toEqual([])
  })

  test('values are text, whatever is in them, and NULL, nothing and text do not look alike', async () => {
    page = await open('#query?table=task')
    await rows('3 rows')
    await expect.poll(lines).toEqual([['1', 'one', 'new'], ['2', 'null', 'new'], ['3', "''", 'done']])
    const markup = `<img src=x onerror="document.title='owned'"><script>document.title='owned'</script><b style=color:red>bold</b>`
    await server.pool.query('UPDATE task SET title = $1 WHERE id = 1', [markup])
    await expect.poll(async () => (await lines())[0]?.[1]).toBe(markup)
    // In full, and as a change, too.
    await page.click('.line .cell >> nth=1')
    await page.waitForSelector('.details dd')
    await page.click('.side .item')
    await page.waitForSelector('.diff')
    expect(await page.$$eval('#app :is(img, script, b[style])', (found) => found.length)).toBe(0)
    await expect.poll(() => page.$eval('.diff .new', (cell) => cell.textContent)).toBe(markup)
    expect(await page.title()).toBe('Query · walcast')
    await query("UPDATE task SET title = 'one' WHERE id = 1")
  })

  test('a value of 10 MB shows its beginning, and the page goes on', async () => {
    page = await open('#query?table=large')
    await rows('0 rows')
    await query("INSERT INTO large VALUES (1, repeat('<b>x</b>', 1310720)), (2, 'small')")
    await rows('2 rows')
    await expect.poll(async () => (await lines()).map(([, body]) => body!.length)).toEqual([161, 5])
    await page.click('.line .cell >> nth=1')
    await page.waitForSelector('.details .more')
    expect(await page.$eval('.details', (details) => details.textContent!.length)).toBeLessThan(12_000)
    await query("UPDATE large SET body = 'new' WHERE id = 2")
    await expect.poll(async () => (await lines())[1]?.[1]).toBe('new')
    expect(await nodes()).toBeLessThan(1000)
  })

  test('of 10,000 rows no more is on the page than is seen, and no change is lost', async () => {
    page = await open('#query?table=item')
    await rows('10,000 rows')
    const session = await page.context().newCDPSession(page)
    const heap = async (): Promise<number> => {
      await session.send('HeapProfiler.collectGarbage')
      return (await session.send('Runtime.getHeapUsage')).usedSize
    }
    for (let i = 0; i < 20; i++) await query('UPDATE item SET n = n + 1 WHERE id <= 200 OR id > 9950')
    await expect.poll(async () => (await lines())[0]?.[2]).toBe('20')
    // By now it holds as many changes and transactions as it ever will: twice as many more add nothing.
    const before = await heap()
    for (let i = 0; i < 40; i++) await query('UPDATE item SET n = n + 1 WHERE id <= 200 OR id > 9950')
    await expect.poll(async () => (await lines())[0]?.[2]).toBe('60')
    expect((await heap()) - before).toBeLessThan(1_000_000)
    expect(await nodes()).toBeLessThan(3000)
    await page.$eval('.grid', (grid) => (grid.scrollTop = grid.scrollHeight))
    await expect.poll(async () => (await lines()).at(-1)).toEqual(['10000', expect.any(String), '60'])
    expect(await page.$eval('.grid', (grid) => grid.getAttribute('aria-rowcount'))).toBe('10001')
    expect(await page.$$eval('.line:not([hidden])', (all) => Math.max(...all.map((line) => Number(line.getAttribute('aria-rowindex')))))).toBe(10001)
    expect(await nodes()).toBeLessThan(3000)
  })

  test('the first rows of a large result are shown, and said to be some of them, until all are there', async () => {
    await (schema ??= query(SCHEMA))
    page = await site.open('#tables')
    let isHeld = true
    const held: (() => void)[] = []
    await page.routeWebSocket(/\/v1\/stream/, (socket) => {
      const real = socket.connectToServer()
      let snapshots = 0
      real.onMessage((message) => {
        if (String(message).startsWith('{"type":"snapshot"')) snapshots++
        if (isHeld && snapshots > 1) held.push(() => socket.send(message))
        else socket.send(message)
      })
    })
    await page.evaluate(() => (location.hash = '#query?table=item'))
    await page.reload()
    await page.waitForFunction(() => document.querySelector('.state')?.textContent === 'reading rows')
    await page.waitForFunction(() => /^[\d,]+ rows so far$/.test(document.querySelector('.figure')?.textContent ?? ''))
    await expect.poll(async () => (await lines()).length).toBeGreaterThan(10)
    const first = (await lines()).map(([id]) => Number(id))
    expect(first).toEqual(first.toSorted((a, b) => a - b))
    expect(await page.$eval('.grid', ({ ariaBusy, ariaRowCount }) => [ariaBusy, ariaRowCount])).toEqual(['true', '-1'])
    isHeld = false
    for (const send of held) send()
    await rows('10,000 rows')
    await page.waitForFunction(() => document.querySelector('.state')?.textContent === 'live')
    await page.waitForFunction(() => document.querySelector('.grid')?.ariaRowCount === '10001')
    expect(await page.$eval('.grid', ({ ariaBusy }) => ariaBusy)).toBe(null)
  })

  test('keys of an input method choose characters, and run nothing', async () => {
    page = await open('#query?table=task')
    await rows('3 rows')
    await page.fill('#where', "title = '")
    await page.focus('#where')
    // Enter takes the characters that are offered.
    const isTaken = await page.$eval('#where', (field) => !field.dispatchEvent(new KeyboardEvent('keydown', { key: 'Enter', isComposing: true, bubbles: true, cancelable: true })))
    expect(isTaken).toBe(false)
    await page.keyboard.insertText('猫')
    await page.keyboard.type("'")
    expect(new URL(page.url()).hash).toBe('#query?table=task')
    await page.keyboard.press('Enter')
    await rows('0 rows')
    expect(new URLSearchParams(new URL(page.url()).hash.split('?')[1]).get('where')).toBe("title = '猫'")
  })

  test('the keyboard alone reaches all of it, and the address says where one is', async () => {
    page = await open('#query?table=task')
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
    // The grid is drawn with the next frame.
    await expect.poll(() => page.$eval('.grid', (grid) => [document.activeElement === grid, grid.getAttribute('aria-activedescendant')])).toEqual([true, 'active-cell'])
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
    // Keys go on from the row that is in its place now.
    await page.waitForFunction(() => document.querySelector('.grid')?.getAttribute('aria-activedescendant') === 'active-cell' && document.querySelector('#active-cell')?.textContent === '1')
    await keyboard.press('[')
    await page.waitForFunction(() => document.querySelector('.diff')?.textContent?.includes('left'))
    // Sorts by the column, and the address has it.
    await page.focus('.grid')
    await keyboard.press('ArrowRight')
    await keyboard.press('s')
    await page.waitForFunction(() => location.hash.includes('sort='))
    await keyboard.press('?')
    await page.waitForSelector('dialog[open]')
    await page.uncheck('dialog input')
    await keyboard.press('Escape')
    await keyboard.press('g')
    await keyboard.press('s')
    await keyboard.press('?')
    expect(await page.$$eval('dialog[open], #main > .stream', (all) => all.length)).toBe(0)
    await page.click('[aria-label=Keys]')
    await page.check('dialog input')
    await keyboard.press('Escape')
    for (const [key, name] of [['s', 'Stream'], ['h', 'Health'], ['c', 'Clients'], ['t', 'Tables'], ['q', 'Query']] as const) {
      await keyboard.press('g')
      await keyboard.press(key)
      await page.waitForFunction((name) => document.querySelector('.top [aria-current]')?.textContent === name, name)
    }
    await query("UPDATE task SET state = 'new' WHERE id = 2")
  })

  test('a predicate that is refused says where, and the rows that were there stay', async () => {
    page = await open('#query?table=task')
    await rows('3 rows')
    await page.fill('#where', "title = 'naïve' AND staet = 'new'")
    await page.waitForFunction(() => document.querySelector('.mirror [data-wrong]')?.textContent === 'staet')
    await expect.poll(() => page.$eval('#verdict', (verdict) => verdict.textContent)).toContain('staet')
    await page.press('#where', 'Enter')
    await page.waitForFunction(() => document.querySelector('#where')?.getAttribute('aria-invalid') === 'true')
    expect((await lines()).length).toBe(3)
    // The colours of a text that is higher than its field stand below its letters.
    await page.fill('#where', Array.from({ length: 40 }, (_, i) => `id <> ${i}`).join('\n AND '))
    for (const top of [300, 100]) {
      await page.$eval('#where', (field, top) => (field.scrollTop = top), top)
      await page.waitForFunction((top) => document.querySelector('.mirror')!.scrollTop === top && document.querySelector('#where')!.scrollTop === top, top)
    }
    expect(await page.evaluate(() => document.querySelector('.mirror')!.scrollHeight - document.querySelector('#where')!.scrollHeight)).toBe(0)
    await page.fill('#where', "state = 'done'")
    await page.waitForFunction(() => document.querySelector('#verdict')?.textContent?.startsWith('Filed under'))
    await page.press('#where', 'Enter')
    await rows('1 row')
  })

  /** The live subscriptions of the page. */
  const subscriptions = async (): Promise<number> => {
    const { connections } = (await (await fetch(`${site.origin}/api/connections`)).json()) as { connections: { subscriptions: number; operator: boolean }[] }
    return Math.max(0, ...connections.filter(({ operator }) => operator).map((one) => one.subscriptions))
  }
  const follows = (count: number): Promise<void> => expect.poll(subscriptions).toBe(count)

  test('warnings are sentences, and have the SQL that mends them once', async () => {
    page = await open("#query?table=large&where=body+=+'x'")
    await page.click('.warnings summary')
    await expect.poll(() => page.$$eval('.warnings .command code', (all) => all.map((one) => one.textContent))).toEqual(['ALTER TABLE public.large REPLICA IDENTITY FULL;'])
    expect(await page.$$eval('.warnings li', (all) => all.map((one) => one.textContent!).filter((text) => !/^[A-Z].*\.$/.test(text) || text.includes('fix:')))).toEqual([])
  })

  test('a predicate that is too long to be sent is refused, and the next one is run', async () => {
    page = await open('#query?table=task')
    await rows('3 rows')
    await page.fill('#where', `title = '${'x'.repeat(100_000)}'`)
    await page.press('#where', 'Enter')
    await page.waitForFunction(() => document.querySelector('#verdict')?.textContent?.includes('65536 bytes'))
    await expect.poll(() => page.$$eval('.result .figure', (all) => all.map((one) => one.textContent))).toContain('of the query before')
    await page.fill('#where', "state = 'new'")
    await page.press('#where', 'Enter')
    await rows('2 rows')
    expect(site.complaints.splice(0).filter((text) => !text.includes('413'))).toEqual([])
  })

  test('a table that is not published is said to be so, in each place, and what a link says is no SQL to copy', async () => {
    page = await open('#query?table=t;+DROP+TABLE+task', { viewport: { width: 320, height: 640 } })
    const statement = 'ALTER PUBLICATION walcast ADD TABLE "t; DROP TABLE task";'
    await page.waitForFunction((statement) => document.querySelector('.result .command')?.textContent?.startsWith(statement), statement)
    await page.keyboard.press('g')
    await page.keyboard.press('t')
    await page.waitForFunction((statement) => document.querySelector('.table-info .command')?.textContent?.startsWith(statement), statement)
    await page.selectOption('.table-choice select', 'task')
    await page.waitForFunction(() => document.querySelector('.table-info h2')?.textContent === 'task')
    expect(await page.$eval('.table-info', (info) => info.getBoundingClientRect().width)).toBeGreaterThan(250)
    await page.evaluate(() => (location.hash = '#stream?table=nosuch'))
    await page.waitForFunction(() => document.querySelector('.stream .empty')?.textContent === 'nosuch is not published. Choose another table.')
    await page.evaluate(() => (location.hash = '#stream'))
    await page.waitForFunction(() => document.querySelector<HTMLSelectElement>('.filters select')?.selectedIndex === 0)
  })

  test('the stream has every table, transaction by transaction', async () => {
    page = await open('#stream')
    await page.waitForFunction(() => document.querySelector('.state')?.textContent === 'live')
    await follows(3)
    await query("BEGIN; UPDATE task SET title = 'uno' WHERE id = 1; UPDATE item SET n = 7 WHERE id = 5; COMMIT")
    await page.waitForFunction(() => document.querySelectorAll('.item:not([hidden]):not(.head)').length === 2)
    const [head, first, second] = await page.$$eval('.item:not([hidden])', (all) =>
      all.sort((a, b) => a.getBoundingClientRect().top - b.getBoundingClientRect().top).map((line) => line.textContent!))
    expect(head).toContain('2 changes')
    expect([first, second]).toEqual([expect.stringContaining('task'), expect.stringContaining('item')])
    // Of the tables that are followed none is missed while another one comes.
    let sent = 2
    const write = async (): Promise<void> => {
      await query("UPDATE task SET title = title || '!' WHERE id = 2")
      sent++
    }
    await query('CREATE TABLE late (id int PRIMARY KEY)')
    await expect.poll(async () => (await write(), page.$$eval('select option', (all) => all.map(({ textContent }) => textContent)))).toContain('late')
    await expect.poll(async () => (await write(), subscriptions())).toBe(4)
    await query('INSERT INTO late VALUES (1)')
    await page.waitForFunction((sent) => document.querySelector('.figure b')?.textContent === sent, String(sent + 1))
  })

  test.each([[320, 'light'], [1280, 'dark']] as const)('at a width of %i, %s, each place fits, and has no fault of WCAG AA', async (width, colorScheme) => {
    page = await open('#query?table=task', { viewport: { width, height: 720 }, colorScheme })
    await rows('3 rows')
    await page.evaluate(axe)
    const content = { query: '.line:not([hidden])', stream: '.item:not([hidden])', health: '.chart li', clients: '.clients td', tables: '.facts' }
    for (const [place, selector] of Object.entries(content)) {
      await page.evaluate((place) => (location.hash = `#${place}`), place)
      if (place === 'stream') await expect.poll(async () => (await query('UPDATE item SET n = n + 1 WHERE id = 1'), page.$$(selector))).not.toEqual([])
      await page.waitForSelector(selector)
      await page.waitForFunction((place) => document.querySelector(`#main > .${place === 'tables' ? 'tables-place' : place}`) !== null, place)
      expect(await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)).toBeLessThanOrEqual(0)
      const faults = await page.evaluate(() => (globalThis as any).axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'] }).then(({ violations }: any) => violations.map(({ id, nodes }: any) => `${id}: ${nodes[0].html}`)) as Promise<string[]>)
      expect(faults).toEqual([])
    }
  })

  test('a server that is killed is said to be away, and what was missed comes once it is back', async () => {
    page = await open('#query?table=task')
    await rows('3 rows')
    await server.kill()
    await page.waitForSelector('.notice[data-bad]')
    expect((await lines()).length).toBe(3)
    await query("INSERT INTO task VALUES (4, 'missed', 'new')")
    // To the page it is away until it is ready.
    await page.route('**/api/**', (route) => route.abort('connectionrefused'))
    await server.serve()
    await site.ready()
    await page.unroute('**/api/**')
    await rows('4 rows')
    await page.waitForSelector('.notice[data-bad]', { state: 'detached' })
    await page.waitForFunction(() => document.querySelector('.state')?.textContent === 'live')
  })
})
