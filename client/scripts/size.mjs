// The size of each subpath, minified and gzipped, against sizes.json. `npm run size -- --write` notes what it is now.
import { readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { gzipSync } from 'node:zlib'
import { build } from 'esbuild'

process.chdir(fileURLToPath(new URL('..', import.meta.url)))
const { exports, peerDependencies = {} } = JSON.parse(readFileSync('package.json', 'utf8'))
const file = 'sizes.json'
const known = JSON.parse(readFileSync(file, 'utf8'))
const core = readdirSync('src').map((file) => `../${file.replace(/\.ts$/, '.js')}`)
const ts = (target) => target.replace('dist', './src').replace(/\.js$/, '.ts')
const entries = Object.entries(exports).flatMap(([name, target]) => (typeof target === 'string' ? [] : [[name, `export * from '${ts(target.default)}'`]]))
// What a page with live queries has of the core once its bundler has dropped the rest.
entries.splice(1, 0, ['. (a page)', `export { createClient, sql } from './src/index.ts'`])
// Collections that are whole queries do without what those on demand take.
entries.push(['./tanstack-db (whole)', `export { wholeCollectionOptions } from './src/tanstack-db/index.ts'`])
const found = {}
for (const [name, contents] of entries) {
  const { outputFiles } = await build({
    stdin: { contents, resolveDir: '.', loader: 'ts' },
    bundle: true,
    minify: true,
    format: 'esm',
    target: 'es2022',
    write: false,
    // What an application has anyway: its framework, and of a subpath the core.
    external: [...Object.keys(peerDependencies), 'react/jsx-runtime', ...(name.startsWith('. ') || name === '.' ? [] : core)],
  })
  found[name] = gzipSync(outputFiles[0].contents, { level: 9 }).length
}
if (process.argv.includes('--write')) writeFileSync(file, `${JSON.stringify(found, null, 2)}\n`)
let isLarger = false
for (const [name, bytes] of Object.entries(found)) {
  const most = known[name]
  console.log(`${name.padEnd(22)} ${(bytes / 1024).toFixed(2)} KiB (${bytes} bytes)`)
  if (most === undefined || bytes > most) isLarger = true
}
if (isLarger && !process.argv.includes('--write')) {
  console.error(`larger than ${file} says: make it smaller, or say why it is larger and run npm run size -- --write`)
  process.exit(1)
}
