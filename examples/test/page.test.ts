import { afterAll, beforeAll, expect, test } from 'vitest'
import { Example } from './example.js'

const example = new Example()
beforeAll(() => example.start('page'))
afterAll(() => example.stop())

test('the page runs as it stands, and follows the statements of its README', async () => {
  const page = await example.open()
  const guests = page.locator('#guests li')
  const shows = (...names: string[]) => expect.poll(() => guests.allTextContents()).toEqual(names)
  await shows('Ada', 'Edgar')
  await example.shoot(page, 'page')
  await example.pool.query("UPDATE guests SET arrived = true WHERE name = 'Grace'")
  await shows('Ada', 'Edgar', 'Grace')
  await example.pool.query("UPDATE guests SET name = 'Ada Lovelace' WHERE name = 'Ada'")
  await shows('Ada Lovelace', 'Edgar', 'Grace')
  await example.pool.query("UPDATE guests SET arrived = false WHERE name = 'Edgar'")
  await shows('Ada Lovelace', 'Grace')
  expect(await page.locator('#status').textContent()).toBe('2 guests, as of now')
  await example.pool.query("UPDATE guests SET arrived = false WHERE name = 'Grace'")
  await page.getByText('1 guest, as of now').waitFor()
  expect(example.complaints).toEqual([])
})
