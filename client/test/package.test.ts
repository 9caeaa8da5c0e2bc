import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { build } from 'vite'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
/** An application that has installed what `npm pack` gives. */
let app: string
let files: string[]

const write = (name: string, text: string): void => writeFileSync(join(app, name), text)
const node = (name: string): string => execFileSync(process.execPath, ['--no-warnings', name], { cwd: app, encoding: 'utf8' }).trim()
/** What Vite makes of a module of the application. */
const bundle = async (text: string): Promise<string> => {
  write('main.js', text)
  const result = (await build({ root: app, configFile: false, logLevel: 'error', build: { write: false, minify: true } })) as { output: { type: string; code?: string }[] }
  return result.output.map(({ code }) => code ?? '').join('')
}

beforeAll(() => {
  app = mkdtempSync(join(tmpdir(), 'walcast-package-'))
  const [packed] = JSON.parse(execFileSync('npm', ['pack', '--json', '--pack-destination', app], { cwd: ROOT, encoding: 'utf8' })) as [{ filename: string; files: { path: string }[] }]
  files = packed.files.map(({ path }) => path)
  const target = join(app, 'node_modules/@walcast/client')
  mkdirSync(target, { recursive: true })
  execFileSync('tar', ['-xzf', join(app, packed.filename), '--strip-components=1', '-C', target])
  for (const name of readdirSync(join(ROOT, 'node_modules'))) {
    if (/^(react|react-dom|scheduler|@types|csstype|@tanstack|@standard-schema|fractional-indexing|sorted-btree|vue|@vue)$/.test(name)) symlinkSync(join(ROOT, 'node_modules', name), join(app, 'node_modules', name))
  }
  write('package.json', '{"type":"module"}')
  write('index.html', '<script type="module" src="./main.js"></script>')
}, 60_000)

afterAll(() => rmSync(app, { recursive: true, force: true }))

test('the package holds modules, types, source maps that find their sources, its own README and the licenses', () => {
  for (const path of ['dist/index.js', 'dist/index.d.ts', 'dist/index.js.map', 'dist/client.min.js', 'dist/react/index.js', 'dist/react/index.d.ts', 'src/index.ts', 'README.md', 'LICENSE-MIT', 'LICENSE-APACHE']) {
    expect(files).toContain(path)
  }
  expect(files.filter((path) => /test|bench|scripts|sizes/.test(path))).toEqual([])
  const { sources } = JSON.parse(readFileSync(join(app, 'node_modules/@walcast/client/dist/react/index.js.map'), 'utf8'))
  expect(sources).toEqual(['../../src/react/index.ts'])
  const { dependencies, publishConfig } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'))
  expect(dependencies).toBeUndefined()
  expect(publishConfig).toEqual({ access: 'public', provenance: true })
})

test('the README says how large it is', () => {
  const sizes = JSON.parse(readFileSync(join(ROOT, 'sizes.json'), 'utf8')) as Record<string, number>
  const kib = (name: string): string => (sizes[name]! / 1024).toFixed(1)
  const [, text] = /\n## Size\n(.*?)\nIt runs in/s.exec(readFileSync(join(ROOT, 'README.md'), 'utf8'))!
  expect(text!.match(/`sql`\) takes ([\d.]+),/)![1]).toBe(kib('. (a page)'))
  expect(text!.match(/`@walcast\/client` takes ([\d.]+)\. /)![1]).toBe(kib('.'))
  const [names, , values] = text!.trim().split('\n').slice(-3).map((line) => line.split('|').slice(1, -1).map((cell) => cell.trim()))
  expect(values).toEqual(names!.map((name) => kib(name.replace(/^`(.*)`$/, '.$1'))))
  expect(text!.match(/`wholeCollectionOptions` alone takes ([\d.]+)\./)![1]).toBe(kib('./tanstack-db (whole)'))
  expect(names).toHaveLength(Object.keys(sizes).length - 3)
})

test('Node imports it, and requires it', () => {
  write('esm.js', `import { createClient, sql } from '@walcast/client'\nconst client = createClient('ws://127.0.0.1:9', { connect: 'manual' })\nconsole.log(client.connection.name, sql\`a = \${1}\`.where)`)
  expect(node('esm.js')).toBe('idle a = $1')
  write('cjs.cjs', `const { createClient } = require('@walcast/client')\nconsole.log(typeof createClient)`)
  expect(node('cjs.cjs')).toBe('function')
})

test('Vite bundles it, and leaves out what is not used', async () => {
  const all = await bundle(`import { createClient } from '@walcast/client'\nimport { useLiveQuery } from '@walcast/client/react'\nconsole.log(createClient, useLiveQuery)`)
  expect(all).toContain('walcast.v1')
  expect(all).not.toMatch(/from\s*["']@walcast/)
  const little = await bundle(`import { sql } from '@walcast/client'\nconsole.log(sql\`a = \${1}\`)`)
  expect(little).not.toContain('walcast.v1')
  expect(little.length).toBeLessThan(4000)
}, 60_000)

test.each([
  ['a bundler', { module: 'esnext', moduleResolution: 'bundler' }],
  ['Node', { module: 'nodenext', moduleResolution: 'nodenext' }],
])('TypeScript finds its types as %s resolves them', (_, options) => {
  write('app.ts', `import { type QueryState, createClient, sql } from '@walcast/client'\nimport { createHooks } from '@walcast/client/react'\ninterface Schema { task: { row: { id: number }; key: 'id' } }\nconst client = createClient<Schema>('ws://127.0.0.1')\nexport const state: QueryState<{ id: number }> = client.liveQuery({ table: 'task', where: sql\`id = \${1}\` }).state\nexport const { useLiveQuery } = createHooks<Schema>()\n`)
  const compilerOptions = { ...options, target: 'es2022', lib: ['es2023', 'dom'], strict: true, exactOptionalPropertyTypes: true, noEmit: true, types: [] }
  write('tsconfig.json', JSON.stringify({ compilerOptions, files: ['app.ts'] }))
  const tsc = join(ROOT, 'node_modules/typescript/bin/tsc')
  expect(() => execFileSync(process.execPath, [tsc, '-p', app], { encoding: 'utf8', stdio: 'pipe' })).not.toThrow()
}, 60_000)

const SUBPATHS = { 'tanstack-db': 'walcastCollectionOptions', persist: 'indexedDB', tabs: 'tabs', vue: 'useLiveQuery', devtools: 'mount' }

test('Node imports every subpath, also where there is no page', () => {
  for (const [path, name] of Object.entries(SUBPATHS)) {
    expect(files).toContain(`dist/${path}/index.d.ts`)
    write('sub.js', `import { ${name} } from '@walcast/client/${path}'\nconsole.log(typeof ${name})`)
    expect(node('sub.js')).toBe('function')
  }
  // Each finds what it needs of its framework alone, and works without a browser.
  write('use.js', `import { createClient } from '@walcast/client'\nimport { indexedDB } from '@walcast/client/persist'\nimport { tabs } from '@walcast/client/tabs'\nconst client = createClient('ws://127.0.0.1:9', { connect: 'manual', persist: indexedDB(), share: tabs() })\nclient.liveQuery({ table: 'task' }).subscribe(({ status }) => console.log(status))\nprocess.exit()`)
  expect(node('use.js')).toBe('connecting')
})

test('Vite bundles what does not use the devtools without them', async () => {
  const all = await bundle(`import { createClient } from '@walcast/client'\nimport { indexedDB } from '@walcast/client/persist'\nimport { tabs } from '@walcast/client/tabs'\ncreateClient('ws://127.0.0.1', { persist: indexedDB(), share: tabs() })`)
  expect(all).not.toContain('Drop the socket')
  expect(await bundle(`import { createClient } from '@walcast/client'\nimport { mount } from '@walcast/client/devtools'\nmount(createClient('ws://127.0.0.1'))`)).toContain('Drop the socket')
}, 60_000)

test('Vite bundles collections that are whole queries without what those on demand take', async () => {
  const collection = (name: string): Promise<string> => bundle(`import { createClient } from '@walcast/client'\nimport { ${name} } from '@walcast/client/tanstack-db'\nconsole.log(${name}({ client: createClient('ws://127.0.0.1'), query: { table: 'task' }, getKey: ({ id }) => id }))`)
  expect(await collection('wholeCollectionOptions')).not.toContain('ILIKE')
  expect(await collection('walcastCollectionOptions')).toContain('ILIKE')
}, 60_000)

test('the types of the subpaths go together', () => {
  write(
    'sub.ts',
    `import { createCollection } from '@tanstack/db'
import { createClient } from '@walcast/client'
import { mount } from '@walcast/client/devtools'
import { indexedDB } from '@walcast/client/persist'
import { tabs } from '@walcast/client/tabs'
import { walcastCollectionOptions } from '@walcast/client/tanstack-db'
import { useLiveQuery, walcast } from '@walcast/client/vue'
interface Task { id: number; title: string }
interface Schema { task: { row: Task; key: 'id' } }
const client = createClient<Schema>('ws://127.0.0.1', { persist: indexedDB({ scope: 'ann' }), share: tabs() })
export const tasks = createCollection(walcastCollectionOptions({ client, query: { table: 'task' }, getKey: (task) => task.id, onInsert: async ({ transaction }) => ({ position: transaction.mutations[0].modified.title }) }))
export const title: string | undefined = tasks.get(1)?.title
export const position: Promise<string> = tasks.utils.waitFor('0/1')
// @ts-expect-error There is no such table.
walcastCollectionOptions({ client, query: { table: 'tusk' }, getKey: () => 1 })
// @ts-expect-error Its key is a number.
tasks.get('1')
export const plugin = walcast(client)
export const use = () => useLiveQuery<Schema, 'task'>({ table: 'task' }).rows.value[0]?.title.length
export const unmount: () => void = mount(client)
`,
  )
  const compilerOptions = { module: 'esnext', moduleResolution: 'bundler', target: 'es2022', lib: ['es2023', 'dom'], strict: true, skipLibCheck: true, noEmit: true, types: [] }
  write('tsconfig.json', JSON.stringify({ compilerOptions, files: ['sub.ts'] }))
  const tsc = join(ROOT, 'node_modules/typescript/bin/tsc')
  let told = ''
  try {
    execFileSync(process.execPath, [tsc, '-p', app], { encoding: 'utf8', stdio: 'pipe' })
  } catch (error) {
    told = (error as { stdout: string }).stdout
  }
  expect(told).toBe('')
}, 60_000)
