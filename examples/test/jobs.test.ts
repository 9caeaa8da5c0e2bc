import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Page } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { Example } from './example.js'

const example = new Example()
let page: Page
let asked = 0
/** The worker in Python that takes the place of the one that was killed. */
let restarted: ReturnType<typeof example.stack.run>

const ask = async (title: string) => {
  await page.getByLabel('Title').fill(title)
  await page.getByRole('button', { name: 'Ask for it' }).click()
}
const job = (title: string) => page.getByRole('listitem').filter({ hasText: title })
const worker = (title: string) => job(title).locator('.worker').innerText()

beforeAll(async () => {
  await example.start('jobs')
  page = await example.open()
})
afterAll(() => example.stop())

test('the types of the tables are those of schema.sql', () => {
  example.stack.script('types', '--check')
})

/** A job that a worker is amid, and that it keeps: from here on the worker stands still. */
async function hold(kind: string): Promise<{ title: string; pid: number }> {
  let held: { title: string; pid: number } | undefined
  const look = async () => {
    // There are always jobs for both.
    if ((await page.locator('[data-state=queued]').count()) < 2) await ask(`Report ${++asked}.`)
    const amid = "SELECT title, worker FROM jobs WHERE state = 'running' AND progress BETWEEN 10 AND 80 AND worker LIKE $1"
    const running = (await example.pool.query<{ title: string; worker: string }>(amid, [`${kind}%`])).rows[0]
    if (!running) return false
    const pid = Number(running.worker.split(' ').at(-1))
    process.kill(pid, 'SIGSTOP')
    // A report of 90 may still be on its way, and none of 100.
    if ((await example.pool.query(`${amid} AND title = $2`, [running.worker, running.title])).rowCount) held = { title: running.title, pid }
    else process.kill(pid, 'SIGCONT')
    return held !== undefined
  }
  await expect.poll(look).toBe(true)
  return held!
}

test('both workers take what the page asks for; when one is killed the other one finishes its job', async () => {
  await Promise.all([example.printed('python', 'ready'), example.printed('typescript', 'ready')])
  await page.getByText('0 queued, 0 running, 0 done').waitFor()
  const { title, pid } = await hold('python')
  await example.shoot(page, 'jobs')
  process.kill(pid, 'SIGKILL')
  await expect.poll(() => worker(title)).toMatch(/^typescript \S+ \d+, attempt 2$/)
  await job(title).getByText('done', { exact: true }).waitFor()
  await example.shoot(page, 'jobs-done')

  // One that is started again takes part again.
  const python = example.stack.processes.find(({ name }) => name === 'python')!
  restarted = example.stack.run('python', python.command)
  const again = await hold('python')
  expect(again.pid).not.toBe(pid)
  process.kill(again.pid, 'SIGCONT')
  expect(example.complaints).toEqual([])
})

test('a report of an attempt that is not the last one is refused, whatever the worker is called', async () => {
  const taken = "INSERT INTO jobs (title, state, worker, attempts, lease) VALUES ('Taken twice', 'running', 'same', 2, now() + interval '1 hour') RETURNING id"
  const { id } = (await example.pool.query<{ id: number }>(taken)).rows[0]!
  const report = async (attempt: number) => (await example.pool.query('SELECT report_job($1, $2, 100) AS is_ours', [id, attempt])).rows[0].is_ours
  expect([await report(1), await report(2)]).toEqual([false, true])
})

test('workers and server go on after Postgres ended their connections', async () => {
  await example.pool.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()")
  const isAsked = async () => {
    await ask('Last report')
    return job('Last report').count()
  }
  await expect.poll(isAsked).toBeGreaterThan(0)
  await job('Last report').first().getByText('done', { exact: true }).waitFor()
  expect(example.log).not.toMatch(/^(page|python|typescript) ended \(\d/m)
})

test('the workers are rung for a job, and do not wait for their next look', async () => {
  await example.end('typescript')
  restarted.kill('SIGKILL')
  const folder = example.stack.folder!
  const kinds = [
    { kind: 'python', file: 'worker.py', often: 'LOOK = 1\n', seldom: 'LOOK = 86400\n', program: '.venv/bin/python' },
    { kind: 'typescript', file: 'worker.ts', often: 'const LOOK = 1000\n', seldom: 'const LOOK = 86_400_000\n', program: 'node --import tsx' },
  ]
  for (const { kind, file, often, seldom, program } of kinds) {
    await example.pool.query("DELETE FROM jobs WHERE state <> 'done'")
    // The same worker, which looks once a day by itself.
    const source = readFileSync(join(folder, file), 'utf8')
    expect(source).toContain(often)
    const rung = join(folder, `rung-${file}`)
    writeFileSync(rung, source.replace(often, seldom))
    try {
      const worker = example.stack.run(`rung-${kind}`, `${program} ${rung}`)
      await example.printed(`rung-${kind}`, 'ready')
      // A job may ring a moment before other sessions of Postgres see it, and its worker finds nothing: the next one rings again.
      const taken = async () => {
        await example.pool.query("INSERT INTO jobs (title) VALUES ('Ring')")
        const count = 'SELECT count(*)::int AS count FROM jobs WHERE worker LIKE $1'
        return (await example.pool.query<{ count: number }>(count, [`${kind} % ${worker.pid}`])).rows[0]!.count
      }
      await expect.poll(taken).toBeGreaterThan(0)
      worker.kill('SIGKILL')
    } finally {
      rmSync(rung)
    }
  }
})
