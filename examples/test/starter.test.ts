import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Page } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { Example } from './example.js'

const example = new Example()
const empty = mkdtempSync(join(tmpdir(), 'walcast-starter-'))
const app = join(empty, 'my-app')
let page: Page

const run = (cwd: string, program: string, ...args: string[]) => execFileSync(program, args, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })

/** The packages as npm would have them. */
function pack(folder: string): string {
  run(fileURLToPath(new URL(`../../${folder}`, import.meta.url)), 'npm', 'pack', '--silent', '--pack-destination', empty)
  return join(empty, readdirSync(empty).find((file) => file.includes(folder) && file.endsWith('.tgz'))!)
}

const task = (title: string) => page.getByRole('listitem').filter({ hasText: title })

/** The time from `npm create` to the first live row, which people are promised in five minutes. */
let began: number

beforeAll(async () => {
  const [client, create] = [pack('client'), pack('create-walcast')]
  began = performance.now()
  run(empty, 'npm', 'exec', '--yes', `--package=${create}`, '--', 'create-walcast', 'my-app', '--client', client)
  run(app, 'npm', 'install', '--no-audit', '--no-fund', '--prefer-offline')
  await example.startIn(app, 'npm run dev')
  page = await example.open()
}, 180_000)
afterAll(async () => {
  await example.stop()
  rmSync(empty, { recursive: true, force: true })
})

test('an app that was created in an empty folder shows rows, and those that come', async () => {
  const has = (file: string) => readFileSync(join(app, file), 'utf8')
  expect(JSON.parse(has('package.json'))).toMatchObject({ name: 'my-app' })
  expect(has('.env')).toBe(has('.env.example'))
  expect(has('.gitignore').split('\n')).toContain('.env')
  await page.getByText('1 to do').waitFor()
  await example.pool.query("INSERT INTO tasks (id, title) VALUES (gen_random_uuid(), 'From psql')")
  await task('From psql').waitFor()
  console.log(`the first live row came ${((performance.now() - began) / 1000).toFixed(1)} s after npm create walcast`)
  await page.getByText('2 to do').waitFor()
  await example.shoot(page, 'starter')
})

test('what is written shows at once, stays once it is stored, and is taken back if it is refused', async () => {
  await page.getByLabel('Task', { exact: true }).fill('From the page')
  await page.getByRole('button', { name: 'Add' }).click()
  await task('From the page').waitFor()
  await task('From the page').getByRole('checkbox').check()
  const stored = async () => (await example.pool.query("SELECT done FROM tasks WHERE title = 'From the page'")).rows
  await expect.poll(stored).toEqual([{ done: true }])
  await page.getByText('2 to do').waitFor()

  await page.route('**/api/tasks', (route) => route.fulfill({ status: 403 }))
  await page.getByLabel('Task', { exact: true }).fill('Not allowed')
  await page.getByRole('button', { name: 'Add' }).click()
  await page.getByRole('alert').getByText('That was not saved: the server answered 403').waitFor()
  await expect.poll(() => task('Not allowed').count()).toBe(0)
  expect(example.complaints.filter((line) => !line.includes('status of 403'))).toEqual([])
})

test('without the program walcast it says how to get it', () => {
  const { status, stderr } = spawnSync(process.execPath, ['dev.js'], { cwd: app, encoding: 'utf8', env: { ...process.env, PATH: '' } })
  expect([status, stderr]).toEqual([1, 'There is no program walcast in PATH: README.md says how to get it.\n'])
})

test('its own test passes, it builds, and its types are those of the repository', () => {
  example.stack.script('test')
  example.stack.script('build')
  const types = (folder: string) => readFileSync(join(folder, 'src/schema.ts'), 'utf8')
  expect(types(app)).toBe(types(fileURLToPath(new URL('../starter', import.meta.url))))
})
