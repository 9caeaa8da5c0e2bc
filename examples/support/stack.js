// A throwaway Postgres, a walcast before it, and the processes of an example.
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { chownSync, existsSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const EXAMPLES = fileURLToPath(new URL('..', import.meta.url))

/** The program, if it is not in PATH. */
const WALCAST = process.env.WALCAST

/** The ports of an example as a reader runs it. Its pages and its walcast.toml name them. */
export const PORTS = { page: 5173, walcast: 8080 }

/** @returns {Promise<number>} a port that nobody listens on */
export async function freePort(wanted = 0) {
  const server = createServer().listen(wanted, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address()
  server.close()
  await once(server, 'close')
  return port
}

/** The path of a program of Postgres': of PG_BIN, of the newest version that Debian has, or of PATH. */
function program(name) {
  if (process.env.PG_BIN) return join(process.env.PG_BIN, name)
  const root = '/usr/lib/postgresql'
  const versions = existsSync(root) ? readdirSync(root).map(Number).sort((a, b) => b - a) : []
  return versions.map((version) => join(root, String(version), 'bin', name)).find(existsSync) ?? name
}

/**
 * Ends what runs, and removes the directory, if this process dies before it can: the pipe of the process groups' ids ends.
 * Postgres takes its own processes with it at SIGQUIT.
 */
const GUARD = `
  while read -r group; do groups="$groups -$group"; done
  for group in $groups; do kill -s QUIT -- $group; done
  for group in $groups; do while kill -s 0 -- $group; do sleep 0.1; done; done
  rm -rf -- "$1"`

/** Looks until `look` gives something; what it throws meanwhile is not there yet. */
async function eventually(what, look, ms = 60_000) {
  for (const end = Date.now() + ms; ; ) {
    try {
      return await look()
    } catch (error) {
      if (error.isFinal || Date.now() > end) throw new Error(`${what}: ${error.message}`)
    }
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

/** All that an example needs, from an empty database on. */
export class Stack {
  /** The processes that run, in the order in which they were started. */
  #running = []
  #log = () => {}
  #directory
  #guard
  #environment

  /**
   * Starts the database, makes the tables of `schema.sql` in it, and starts walcast with `walcast.toml`, unless the
   * example does so itself (`walcast: false`).
   * @param {string} folder of the example
   * @param {{ ports?: typeof PORTS, log?: (name: string, line: string) => void, walcast?: boolean }} options
   */
  async start(folder, { ports = PORTS, log, walcast = true } = {}) {
    this.folder = folder
    if (log) this.#log = log
    for (const port of Object.values(ports)) {
      await freePort(port).catch(() => {
        throw new Error(`port ${port} is taken: end what listens there`)
      })
    }
    const directory = (this.#directory = mkdtempSync(join(tmpdir(), 'walcast-example-')))
    this.#guard = spawn('sh', ['-c', GUARD, 'sh', directory], { detached: true, stdio: ['pipe', 'ignore', 'ignore'] })
    const database = await this.#startPostgres(directory)
    this.url = `postgresql://postgres@127.0.0.1:${database}/postgres`
    this.#environment = {
      ...process.env,
      PATH: [join(EXAMPLES, 'node_modules/.bin'), ...(WALCAST ? [dirname(WALCAST)] : []), process.env.PATH].join(delimiter),
      PORT: String(ports.page),
      DATABASE_URL: this.url,
      TOKEN_SECRET: randomBytes(32).toString('hex'),
      WALCAST_URL: `ws://127.0.0.1:${ports.walcast}`,
      WALCAST_DATABASE_URL: this.url,
      WALCAST_DATA_DIR: join(directory, 'journal'),
      WALCAST_LISTEN: `127.0.0.1:${ports.walcast}`,
      WALCAST_ADMIN_LISTEN: '127.0.0.1:0',
      WALCAST_LOG: 'warn',
    }
    const psql = ['--quiet', '--no-psqlrc', '--set=ON_ERROR_STOP=1', '--file', join(folder, 'schema.sql'), this.url]
    execFileSync(program('psql'), psql, { stdio: ['ignore', 'ignore', 'inherit'], env: { ...process.env, PGOPTIONS: '-c client_min_messages=warning' } })
    if (!walcast) return

    const server = this.run('walcast', 'walcast serve --config walcast.toml')
    await eventually('walcast does not listen', async () => {
      if (server.exitCode !== null) throw Object.assign(new Error('it ended'), { isFinal: true })
      await fetch(`http://127.0.0.1:${ports.walcast}/client.js`)
    })
  }

  async #startPostgres(directory) {
    // Postgres does not run as root.
    const isRoot = process.getuid?.() === 0
    const id = (flag) => Number(execFileSync('id', [flag, 'postgres']))
    const owner = isRoot ? { uid: id('-u'), gid: id('-g') } : {}
    if (isRoot) chownSync(directory, owner.uid, owner.gid)
    const data = join(directory, 'data')
    execFileSync(program('initdb'), ['-D', data, '-U', 'postgres', '-A', 'trust', '-E', 'UTF8', '--locale=C', '--no-sync'], { ...owner, stdio: 'ignore' })
    const port = await freePort()
    const settings = { port, listen_addresses: '127.0.0.1', unix_socket_directories: '', wal_level: 'logical', fsync: 'off' }
    const flags = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])
    this.#keep('postgres', spawn(program('postgres'), ['-D', data, ...flags], { ...owner, detached: true, stdio: 'ignore' }), 'SIGINT')
    await eventually('Postgres does not answer', () => execFileSync(program('psql'), ['--no-psqlrc', '-c', 'SELECT 1', `postgresql://postgres@127.0.0.1:${port}/postgres`], { stdio: 'ignore' }))
    return port
  }

  /** The processes that the example's Procfile names, with their commands. */
  get processes() {
    const lines = readFileSync(join(this.folder, 'Procfile'), 'utf8').matchAll(/^(\w+): *(.+)$/gm)
    return [...lines].map(([, name, command]) => ({ name, command }))
  }

  /** Runs a script of the example's package.json, if it has it. Throws with what it printed if that fails. */
  script(name, ...args) {
    const options = { cwd: this.folder, env: this.#environment, encoding: 'utf8' }
    const { status, stdout, stderr } = spawnSync('npm', ['run', '--silent', '--if-present', name, '--', ...args], options)
    if (status !== 0) throw new Error(`npm run ${name}: ${stdout}${stderr}`)
  }

  /** Starts processes, which are those of the Procfile, and waits until the page is there. */
  async runAll(processes = this.processes) {
    const children = processes.map(({ name, command }) => ({ name, command, child: this.run(name, command) }))
    await eventually('the page is not there', async () => {
      const ended = children.find(({ child }) => child.exitCode !== null)
      if (ended) throw Object.assign(new Error(`${ended.name} ended`), { isFinal: true })
      await fetch(`http://127.0.0.1:${this.#environment.PORT}/`)
    })
    return children
  }

  /** Starts a process in the example's folder. Each line that it prints goes to the log. */
  run(name, command) {
    const options = { cwd: this.folder, env: this.#environment, detached: true, stdio: ['ignore', 'pipe', 'pipe'] }
    const child = spawn('sh', ['-c', `exec ${command}`], options)
    for (const stream of [child.stdout, child.stderr]) {
      let rest = ''
      stream.setEncoding('utf8').on('data', (text) => {
        const lines = (rest + text).split('\n')
        rest = lines.pop()
        for (const line of lines) this.#log(name, line)
      })
    }
    return this.#keep(name, child, 'SIGTERM')
  }

  #keep(name, child, signal) {
    this.#running.push({ child, signal })
    this.#guard.stdin.write(`${child.pid}\n`)
    child.once('exit', (code, by) => {
      if (this.#directory) this.#log(name, `ended (${by ?? code})`)
    })
    return child
  }

  /** Ends everything, the last first, and removes the database. */
  async stop() {
    const directory = this.#directory
    this.#directory = undefined
    for (const { child, signal } of this.#running.splice(0).reverse()) {
      if (child.exitCode !== null || child.signalCode !== null) continue
      const ended = once(child, 'exit')
      process.kill(-child.pid, signal)
      const force = setTimeout(() => process.kill(-child.pid, 'SIGKILL'), 10_000)
      await ended
      clearTimeout(force)
    }
    this.#guard?.kill('SIGKILL')
    if (directory) rmSync(directory, { recursive: true, force: true })
  }
}
