import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { chownSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'

/** The server's program, which `make test-client` builds. Without it the tests that need it are left out. */
export const WALCAST = process.env.WALCAST
if (!WALCAST) console.warn('WALCAST does not name the server\'s program: the tests against a real server are left out. make test-client runs them.')

/** A port of loopback that nobody listens on. */
export async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as { port: number }
  await new Promise((resolve) => server.close(resolve))
  return port
}

/** The directory of the newest Postgres there is, or of the one that PG_BIN names. */
function programs(): string {
  if (process.env.PG_BIN) return process.env.PG_BIN
  const root = '/usr/lib/postgresql'
  const versions = readdirSync(root).map(Number).sort((a, b) => a - b)
  return join(root, String(versions.at(-1)), 'bin')
}

/** Waits until something is there; fails with what it last said. */
export async function eventually<T>(what: string, look: () => Promise<T | undefined> | T | undefined, ms = 30_000): Promise<T> {
  const end = Date.now() + ms
  let last: unknown
  for (;;) {
    try {
      const found = await look()
      if (found !== undefined) return found
    } catch (error) {
      last = error
    }
    if (Date.now() > end) throw new Error(`${what}: not within ${ms} ms (${String(last)})`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

/** A throwaway Postgres with a walcast before it. */
export class Server {
  readonly #directory = mkdtempSync(join(tmpdir(), 'walcast-client-'))
  #postgres: ChildProcess | undefined
  #walcast: ChildProcess | undefined
  #databasePort = 0
  #port = 0
  log = ''
  pool!: pg.Pool

  get url(): string {
    return `ws://127.0.0.1:${this.#port}/`
  }

  #more: Readonly<Record<string, string>> = {}

  async start(schema: string, flags: Readonly<Record<string, string>> = {}): Promise<void> {
    this.#more = flags
    this.#databasePort = await freePort()
    this.#port = await freePort()
    // Postgres does not run as root.
    const isRoot = process.getuid?.() === 0
    const id = (flag: string): number => Number(execFileSync('id', [flag, 'postgres']).toString())
    const owner = isRoot ? { uid: id('-u'), gid: id('-g') } : {}
    if (isRoot) chownSync(this.#directory, owner.uid!, owner.gid!)
    const data = join(this.#directory, 'data')
    execFileSync(join(programs(), 'initdb'), ['-D', data, '-U', 'postgres', '-A', 'trust', '--no-sync', '-E', 'UTF8', '--locale=C'], { ...owner, stdio: 'ignore' })
    const settings = { port: this.#databasePort, listen_addresses: '127.0.0.1', unix_socket_directories: this.#directory, wal_level: 'logical', fsync: 'off' }
    this.#postgres = spawn(join(programs(), 'postgres'), ['-D', data, ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])], { ...owner, stdio: 'ignore' })
    this.pool = new pg.Pool({ host: '127.0.0.1', port: this.#databasePort, user: 'postgres', database: 'postgres', max: 10 })
    this.pool.on('error', () => {})
    await eventually('Postgres answers', () => this.pool.query('SELECT 1'))
    await this.pool.query(schema)
    await this.pool.query('CREATE PUBLICATION walcast FOR ALL TABLES')
    await this.serve()
  }

  /** Writes a file beside the database, and returns its path. */
  file(name: string, text: string): string {
    const path = join(this.#directory, name)
    writeFileSync(path, text, { mode: 0o600 })
    return path
  }

  /** Starts walcast, again on what it kept. */
  async serve(): Promise<void> {
    const flags = { 'database-url': `postgresql://postgres@127.0.0.1:${this.#databasePort}/postgres`, slot: 'walcast', publication: 'walcast', 'data-dir': join(this.#directory, 'journal'), listen: `127.0.0.1:${this.#port}`, 'admin-listen': '127.0.0.1:0', 'max-frame-bytes': '4KiB', ...this.#more }
    const walcast = spawn(WALCAST!, ['serve', '--create-slot', ...Object.entries(flags).map(([name, value]) => `--${name}=${value}`)], { stdio: ['ignore', 'ignore', 'pipe'] })
    walcast.stderr!.on('data', (text: Buffer) => (this.log += text.toString()))
    this.#walcast = walcast
    await eventually(`walcast listens`, async () => {
      if (walcast.exitCode !== null) throw new Error(`walcast ended: ${this.log.slice(-2000)}`)
      return fetch(`http://127.0.0.1:${this.#port}/v1/stream`).then(() => true)
    })
  }

  /** Ends walcast as a crash would, and waits for that. */
  async kill(): Promise<void> {
    const walcast = this.#walcast
    if (!walcast || walcast.exitCode !== null || walcast.signalCode !== null) return
    const ended = new Promise((resolve) => walcast.once('exit', resolve))
    walcast.kill('SIGKILL')
    await ended
  }

  /** Where Postgres stands: after everything that is committed. */
  async position(): Promise<string> {
    const { rows } = await this.pool.query<{ lsn: string }>('SELECT pg_current_wal_insert_lsn()::text AS lsn')
    return rows[0]!.lsn
  }

  async stop(): Promise<void> {
    await this.kill()
    await this.pool?.end()
    const postgres = this.#postgres
    if (postgres && postgres.exitCode === null) {
      const ended = new Promise((resolve) => postgres.once('exit', resolve))
      postgres.kill('SIGQUIT')
      await ended
    }
    rmSync(this.#directory, { recursive: true, force: true })
  }
}
