import type { Page } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { Example } from './example.js'

const example = new Example()
let page: Page

/** The figures that the page shows, all at one moment. */
const figures = () =>
  page.evaluate(() => {
    const figure = (name: string) => document.querySelector(`[data-figure=${name}] dd`)!.textContent!
    return { since: Number(document.querySelector('dl')!.dataset.since), shown: ['orders', 'worth', 'shipped', 'paid', 'open', 'cancelled'].map(figure) }
  })
const money = (cents: number) => new Intl.NumberFormat('en', { style: 'currency', currency: 'EUR' }).format(cents / 100)

/** The same by SELECT. */
async function selected(since: number): Promise<string[]> {
  const { rows } = await example.pool.query<Record<string, string>>(
    `SELECT count(*) AS orders, coalesce(sum(cents), 0) AS worth,
            coalesce(sum(cents) FILTER (WHERE status = 'shipped'), 0) AS shipped, coalesce(sum(cents) FILTER (WHERE status = 'paid'), 0) AS paid,
            coalesce(sum(cents) FILTER (WHERE status = 'open'), 0) AS open, coalesce(sum(cents) FILTER (WHERE status = 'cancelled'), 0) AS cancelled
     FROM orders WHERE placed_at >= to_timestamp($1::float8 / 1000) AND placed_at < to_timestamp($1::float8 / 1000) + interval '2 minutes'`,
    [since],
  )
  const { orders, worth, shipped, paid, open, cancelled } = rows[0]!
  return [orders!, ...[worth, shipped, paid, open, cancelled].map((cents) => money(Number(cents)))]
}

beforeAll(async () => {
  await example.start('dashboard')
  page = await example.open()
})
afterAll(() => example.stop())

test('the types of the tables are those of schema.sql', () => {
  example.stack.script('types', '--check')
})

test('the figures move, and are what SELECT gives', async () => {
  await page.getByText('of the last 2 minutes').waitFor()
  const { shown } = await figures()
  await expect.poll(async () => (await figures()).shown).not.toEqual(shown)
  await example.shoot(page, 'dashboard')
  await example.end('traffic')
  await expect
    .poll(async () => {
      const { since, shown } = await figures()
      return JSON.stringify(shown) === JSON.stringify(await selected(since))
    })
    .toBe(true)
})

test('a bar opens the rows behind it, which are live', async () => {
  await page.getByRole('button', { name: /: [1-9]\d* orders/ }).last().click()
  const rows = page.locator('tbody tr')
  const orders = Number(/: (\d+) orders/.exec((await page.locator('.bars button[aria-pressed=true]').getAttribute('aria-label'))!)![1])
  await expect.poll(() => rows.count()).toBe(orders)
  const id = await rows.first().locator('td').first().innerText()
  await example.pool.query("UPDATE orders SET status = 'cancelled', customer = 'Nobody' WHERE id = $1", [id])
  await rows.filter({ hasText: 'Nobody' }).getByText('cancelled').waitFor()
  await example.shoot(page, 'dashboard-rows')
})

test('a frozen chart stays as it was, and says how far now is from it', async () => {
  await page.getByRole('button', { name: 'Freeze' }).click()
  const { shown } = await figures()
  const change = page.locator('[data-figure=orders] .change')
  const before = await change.innerText()
  expect(before).toMatch(/^[+−]\d+ since$/)
  await example.pool.query("INSERT INTO orders (customer, cents) VALUES ('Somebody', 100000)")
  await expect.poll(() => change.innerText()).not.toBe(before)
  expect((await figures()).shown).toEqual(shown)
  await example.shoot(page, 'dashboard-frozen')
  await page.getByRole('button', { name: 'Freeze' }).click()
})

test('the line of a minute ago is replayed from the journal, and goes on', async () => {
  // This page's clock is ahead, so that a minute ago is what happens now.
  const later = await example.open('/', () => {
    const { now } = Date
    Date.now = () => now() + 90_000
  })
  await later.getByText('of the last 2 minutes').waitFor()
  const place = () => example.pool.query<{ cents: number; at: Date }>("INSERT INTO orders (customer, cents, placed_at) VALUES ('Later', 4711, now() + interval '20 seconds') RETURNING placed_at AS at")
  const at = Number((await place()).rows[0]!.at)
  const before = async () => {
    const labels = await later.locator('.bars button').evaluateAll((bars) => bars.map((bar) => bar.getAttribute('aria-label')!))
    const start = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' }).format(Math.floor((at + 60_000) / 10_000) * 10_000)
    return labels.find((label) => label.startsWith(start))?.split('before ')[1]
  }
  await expect.poll(before).toBe('€47.11')
  await example.pool.query("INSERT INTO orders (customer, cents, placed_at) VALUES ('Later', 289, $1)", [new Date(at)])
  await expect.poll(before).toBe('€50.00')
  await example.shoot(later, 'dashboard-ghost')
  expect(example.complaints).toEqual([])
})
