#!/usr/bin/env node
// npm create walcast my-app
import { copyFileSync, cpSync, existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { basename, join, resolve } from 'node:path'
import { parseArgs } from 'node:util'

const USAGE = `usage: npm create walcast FOLDER
       npm create walcast FOLDER -- --client FILE

Makes a page with live rows of Postgres in a new folder.

  --client FILE  take @walcast/client from a tarball or a folder rather than from npm`

const options = { client: { type: 'string' }, help: { type: 'boolean' } }
const fail = (message) => {
  console.error(message)
  process.exit(2)
}

let given
try {
  given = parseArgs({ options, allowPositionals: true })
} catch (error) {
  fail(`${error.message}\n\n${USAGE}`)
}
const { values, positionals } = given
if (values.help) {
  console.log(USAGE)
  process.exit(0)
}
if (positionals.length !== 1) fail(USAGE)

const folder = resolve(positionals[0])
if (existsSync(folder) && readdirSync(folder).length > 0) fail(`${folder} is not empty: name another folder`)
cpSync(join(import.meta.dirname, 'template'), folder, { recursive: true })
// .env will have the password of a database: it stays on this machine, and .env.example says in the repository what it has to name.
copyFileSync(join(folder, '.env.example'), join(folder, '.env'))
// npm leaves a file of this name out of packages.
writeFileSync(join(folder, '.gitignore'), 'node_modules\ndist\n.walcast\n.env\n')

const file = join(folder, 'package.json')
const manifest = JSON.parse(readFileSync(file, 'utf8'))
manifest.name = basename(folder).toLowerCase().replace(/[^a-z0-9-]+/g, '-').replace(/^-+|-+$/g, '') || 'walcast-app'
if (values.client) manifest.dependencies['@walcast/client'] = `file:${resolve(values.client)}`
writeFileSync(file, `${JSON.stringify(manifest, null, 2)}\n`)

console.log(`${folder} is there. Next:

  cd ${positionals[0]}
  docker compose up --detach   # or a Postgres of your own: README.md
  npm install
  npm run dev`)
