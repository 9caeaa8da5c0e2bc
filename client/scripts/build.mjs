// dist/: modules, types and source maps by tsc; client.min.js, which is one file for pages without a build, by esbuild.
import { execFileSync } from 'node:child_process'
import { rmSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'

process.chdir(fileURLToPath(new URL('..', import.meta.url)))
rmSync('dist', { recursive: true, force: true })
execFileSync(process.execPath, ['node_modules/typescript/bin/tsc'], { stdio: 'inherit' })
await build({
  entryPoints: ['src/index.ts'],
  outfile: 'dist/client.min.js',
  bundle: true,
  minify: true,
  format: 'esm',
  target: 'es2022',
  legalComments: 'none',
  banner: { js: '/*! @walcast/client, MIT OR Apache-2.0; made by `npm run build` in client/ */' },
})
