// Development: writes the types of the tables, then runs walcast and the server until Ctrl-C, or until one of them ends.
import { execFileSync, spawn } from 'node:child_process'

const options = { env: { ...process.env, WALCAST_DATABASE_URL: process.env.DATABASE_URL }, stdio: 'inherit' }

execFileSync('walcast', ['types', '--slot', 'walcast', '--publication', 'walcast', '--out', 'src/schema.ts'], options)
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
