// Development: writes the types of the tables, then runs walcast and the server until Ctrl-C, or until one of them ends.
import { spawn, spawnSync } from 'node:child_process'

const options = { env: { ...process.env, WALCAST_DATABASE_URL: process.env.DATABASE_URL }, stdio: 'inherit' }

const types = spawnSync('walcast', ['types', '--slot', 'walcast', '--publication', 'walcast', '--out', 'src/schema.ts'], options)
if (types.error) console.error(types.error.code === 'ENOENT' ? 'There is no program walcast in PATH: README.md says how to get it.' : types.error.message)
// If it ran, it has said itself what is wrong.
if (types.status !== 0) process.exit(types.status ?? 1)
const children = [spawn('walcast', ['serve', '--config', 'walcast.toml'], options), spawn('node', ['server.js'], options)]

const stop = () => children.forEach((child) => child.kill())
for (const child of children) {
  child.once('exit', (status) => {
    process.exitCode ||= status ?? 0
    stop()
  })
}
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, stop)
console.log(`http://localhost:${process.env.PORT}/`)
