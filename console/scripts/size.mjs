// The size of each asset, gzipped, against sizes.json, and of all of them against the 70 KiB that a console may take.
// `npm run size -- --write` notes what it is now.
import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { gzipSync } from 'node:zlib'

const MOST = 70 * 1024

process.chdir(fileURLToPath(new URL('..', import.meta.url)))
const found = Object.fromEntries(['index.html', 'app.css', 'app.js'].map((name) => [name, gzipSync(readFileSync(`dist/${name}`), { level: 9 }).length]))
const total = Object.values(found).reduce((sum, bytes) => sum + bytes, 0)
if (process.argv.includes('--write')) writeFileSync('sizes.json', `${JSON.stringify(found, null, 2)}\n`)
const known = JSON.parse(readFileSync('sizes.json', 'utf8'))
let isLarger = total > MOST
for (const [name, bytes] of Object.entries(found)) {
  console.log(`${name.padEnd(12)} ${(bytes / 1024).toFixed(2)} KiB (${bytes} bytes)`)
  if (known[name] === undefined || bytes > known[name]) isLarger = true
}
console.log(`all          ${(total / 1024).toFixed(2)} KiB of ${MOST / 1024}`)
if (isLarger) {
  console.error('larger than sizes.json says: make it smaller, or say why it is larger and run npm run size -- --write')
  process.exit(1)
}
