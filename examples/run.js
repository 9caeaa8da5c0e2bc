// Runs an example until Ctrl-C: make example NAME=chat
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { PORTS, Stack } from './support/stack.js'

const [name] = process.argv.slice(2)
const folder = fileURLToPath(new URL(name || '?', import.meta.url))
if (!existsSync(`${folder}/Procfile`)) {
  console.error('usage: make example NAME=page, or chat, jobs, dashboard, starter')
  process.exit(2)
}

const stack = new Stack()
const stop = async (status) => {
  await stack.stop()
  process.exit(status)
}
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.once(signal, () => stop(0))

try {
  console.log('starting a throwaway Postgres, and walcast on it')
  await stack.start(folder, { log: (name, line) => console.log(`${name.padEnd(10)} ${line}`) })
  stack.script('types')
  const processes = await stack.runAll()
  for (const { name, command, child } of processes) console.log(`${name.padEnd(10)} ${command} (process ${child.pid})`)
  console.log(`\n${name} is at http://localhost:${PORTS.page}/, its database at ${stack.url}\nCtrl-C ends it and leaves nothing behind\n`)
} catch (error) {
  console.error(error.message)
  await stop(1)
}
