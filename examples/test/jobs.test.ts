import type { Page } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { Example } from './example.js'

const example = new Example()
let page: Page

const ask = async (title: string) => {
  await page.getByLabel('Title').fill(title)
  await page.getByRole('button', { name: 'Ask for it' }).click()
}
const job = (title: string) => page.getByRole('listitem').filter({ hasText: title })
const progress = (title: string) => job(title).locator('progress').evaluate((bar: HTMLProgressElement) => bar.value)
const worker = (title: string) => job(title).locator('.worker').innerText()

beforeAll(async () => {
  await example.start('jobs')
  page = await example.open()
})
afterAll(() => example.stop())

test('the types of the tables are those of schema.sql', () => {
  example.stack.script('types', '--check')
})

test('both workers take what the page asks for; when one is killed the other one finishes its job', async () => {
  await page.getByText('0 queued, 0 running, 0 done').waitFor()
  await ask('Spring report')
  await ask('Summer report')
  await ask('Autumn report')
  // Each has one, and the page sees it advance.
  await expect.poll(async () => [await progress('Spring'), await progress('Summer')].every((done) => done > 0 && done < 100), { timeout: 20_000 }).toBe(true)
  const [first, second] = [await worker('Spring'), await worker('Summer')]
  expect([first, second].map((name) => name.split(' ')[0]).sort()).toEqual(['python', 'typescript'])
  await example.shoot(page, 'jobs')

  const killed = first.startsWith('python') ? { title: 'Spring', worker: first } : { title: 'Summer', worker: second }
  process.kill(Number(killed.worker.split(' ')[1]), 'SIGKILL')
  await page.getByText('0 queued, 0 running, 3 done').waitFor()
  expect(await worker(killed.title)).toMatch(/^typescript \d+, attempt 2$/)
  await example.shoot(page, 'jobs-done')

  // One that is started again takes part again.
  const python = example.stack.processes.find(({ name }) => name === 'python')!
  example.stack.run('python', python.command)
  await ask('Winter report')
  await ask('Yearly report')
  await expect.poll(async () => `${await worker('Winter')} ${await worker('Yearly')}`, { timeout: 20_000 }).toMatch(/python/)
  expect(example.complaints).toEqual([])
})
