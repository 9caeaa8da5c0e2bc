// A worker in TypeScript. Start as many as you like, on as many machines.
import { hostname } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import { changes, createClient, sql } from '@walcast/client'
import pg from 'pg'
import WebSocket from 'ws'
import { type Jobs, schema } from './schema.js'

const { WALCAST_URL = 'ws://127.0.0.1:8080', DATABASE_URL } = process.env
// For people. In containers the process is mostly 1, and the host tells them apart.
const name = `typescript ${hostname()} ${process.pid}`
const pool = new pg.Pool({ connectionString: DATABASE_URL })
// A connection that is lost while it is idle, as when Postgres restarts. Without a listener it would end the process.
pool.on('error', (error) => console.error(`Postgres is away: ${error.message}`))
// Node 22 and later have a WebSocket of their own.
const client = createClient(WALCAST_URL, { schema, webSocket: WebSocket })

/**
 * The pause between two looks without the bell, in milliseconds. No row changes when the lease of a dead worker ends, and the
 * bell may ring a moment before the job is visible here.
 */
const LOOK = 1000

let ring = () => {}

/** Rings whenever a job is queued, and once the connection is there. After a disconnect it goes on where it was. */
async function listen(): Promise<void> {
  const queued = { table: 'jobs', where: sql`state = ${'queued'}`, columns: ['id'] } as const
  for await (const event of changes(client, queued, { onGap: 'snapshot' })) {
    if (event.type === 'live') console.log('ready')
    ring()
  }
}

async function take(): Promise<Jobs | undefined> {
  const { rows } = await pool.query<Jobs>('SELECT * FROM take_job($1)', [name])
  return rows[0]
}

/** Works, a tenth at a time. The job goes on where the worker before came to. */
async function work(job: Jobs): Promise<void> {
  let { progress } = job
  while (progress < 100) {
    await sleep(400) // Your work.
    progress = Math.min(100, progress + 10)
    const { rows } = await pool.query<{ is_ours: boolean }>('SELECT report_job($1, $2, $3) AS is_ours', [job.id, job.attempts, progress])
    if (!rows[0]?.is_ours) return
  }
}

listen().catch((error) => {
  console.error(error)
  process.exit(1)
})
for (;;) {
  // Before looking, so that what is queued meanwhile is not missed.
  const rung = new Promise<void>((resolve) => (ring = resolve))
  try {
    const job = await take()
    if (job) await work(job)
    else await Promise.race([rung, sleep(LOOK)])
  } catch (error) {
    // The job that it had is taken again once its lease ends.
    console.error(`no work: ${(error as Error).message}`)
    await sleep(LOOK)
  }
}
