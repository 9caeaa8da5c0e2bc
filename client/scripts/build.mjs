// dist/: modules, types and source maps by tsc; client.min.js, which is one file for pages without a build, by esbuild.
import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, rmSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'
import { write } from './write.mjs'

process.chdir(fileURLToPath(new URL('..', import.meta.url)))
const embedded = 'client.min.js'
for (const name of existsSync('dist') ? readdirSync('dist') : []) {
  if (name !== embedded) rmSync(`dist/${name}`, { recursive: true })
}
execFileSync(process.execPath, ['node_modules/typescript/bin/tsc'], { stdio: 'inherit' })
const { outputFiles } = await build({
  entryPoints: ['src/index.ts'],
  write: false,
  bundle: true,
  minify: true,
  format: 'esm',
  target: 'es2022',
  legalComments: 'none',
  banner: { js: '/*! @walcast/client, MIT OR Apache-2.0; made by `npm run build` in client/ */' },
})
write(`dist/${embedded}`, outputFiles[0].contents)
