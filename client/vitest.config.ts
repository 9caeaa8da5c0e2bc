import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { transformAsync } from '@babel/core'
import { transform } from 'esbuild'
import { compile } from 'svelte/compiler'
import { defineConfig } from 'vitest/config'

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url))

/** The text of an example. A part of one stands in a function of its own. */
function code(page: string, number: number): string {
  const text = [...readFileSync(page, 'utf8').matchAll(/^ *```(?:ts|tsx|html)\n(.*?)^ *```$/gms)][number]![1]!
  const script = /<script type="module">(.*)<\/script>/s.exec(text)?.[1] ?? text
  // What the server has for pages is the committed file.
  if (/createClient\(["']|export /.test(script)) return script.replace('http://127.0.0.1:8080/client.js', here('dist/client.min.js'))
  const params = '{ client, url, post, form, take, rows, useOptimistic }'
  const result = script.includes('function send') ? 'return { shown, send }' : /^const orders =/m.test(script) ? 'return { orders }' : ''
  const imports = [...script.matchAll(/^import .*\n/gm)].map(([line]) => line).join('')
  const names = ['createClient', 'sql', 'parse', 'parsers', 'waitFor'].filter((name) => !imports.includes(name))
  return `import { ${names.join()} } from '@walcast/client'\n${imports}export default async function (${params}) {{\n${script.replace(/^import .*\n/gm, '')}\n${result}\n}}`
}

/** The component of Svelte among the examples, as a server renders it. Its `./client` is the test's. */
function component(page: string): string {
  const [, text] = /^```svelte\n(.*?)^```$/ms.exec(readFileSync(page, 'utf8'))!
  return compile(text!, { generate: 'server' }).js.code.replace(`'./client'`, JSON.stringify(here('test/support/client.ts')))
}

/** The examples of a page, as modules: `snippet:client/README.md/2`, and `snippet:client/README.md/svelte`. */
const snippets = {
  name: 'snippets',
  enforce: 'pre' as const,
  resolveId(id: string): string | undefined {
    return id.startsWith('snippet:') ? `\0${id}` : undefined
  },
  async load(id: string): Promise<string | undefined> {
    const [, page, number] = /^\0snippet:(.+)\/(\d+|svelte)$/.exec(id) ?? []
    if (!page) return undefined
    if (number === 'svelte') return component(here(`../${page}`))
    return (await transform(code(here(`../${page}`), Number(number)), { loader: 'tsx', jsx: 'automatic' })).code
  },
}

/** What the React Compiler makes of the components that are there for it. */
const compiler = {
  name: 'compiler',
  enforce: 'pre' as const,
  async transform(code: string, id: string): Promise<string | undefined> {
    if (!id.endsWith('/compiled.tsx')) return undefined
    const { code: js } = await transform(code, { loader: 'tsx', jsx: 'preserve' })
    const compiled = await transformAsync(js, { filename: id, configFile: false, babelrc: false, parserOpts: { plugins: ['jsx'] }, plugins: ['babel-plugin-react-compiler'] })
    return (await transform(compiled!.code!, { loader: 'jsx', jsx: 'automatic' })).code
  },
}

export default defineConfig({
  plugins: [snippets, compiler],
  resolve: {
    alias: [
      { find: /^@walcast\/client\/(.+)$/, replacement: here('src/$1/index.ts') },
      { find: /^@walcast\/client$/, replacement: here('src/index.ts') },
    ],
  },
  test: { include: ['test/**/*.test.{ts,tsx}'], testTimeout: 30_000 },
})
