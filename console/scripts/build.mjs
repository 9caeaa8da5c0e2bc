// dist/: what the server embeds and has at `/`. The client is built from its sources in ../client.
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'
import { write } from '../../client/scripts/write.mjs'

process.chdir(fileURLToPath(new URL('..', import.meta.url)))
write('dist/index.html', readFileSync('src/index.html'))
const { outputFiles } = await build({
  entryPoints: { app: 'src/main.tsx' },
  outdir: 'dist',
  write: false,
  bundle: true,
  minify: true,
  format: 'esm',
  target: 'es2022',
  jsx: 'automatic',
  jsxImportSource: 'preact',
  legalComments: 'none',
  banner: {
    js: '/*! The console of walcast, MIT OR Apache-2.0; made by `npm run build` in console/. With Preact and @preact/signals (MIT) */',
    css: '/*! The console of walcast, MIT OR Apache-2.0; made by `npm run build` in console/. */',
  },
})
for (const { path, contents } of outputFiles) write(path, contents)

// The licenses of what is in it, which want to be passed on with it: scripts/third-party.py does.
const licenses = ['preact', '@preact/signals', '@preact/signals-core'].map((name) => {
  const { version, license } = JSON.parse(readFileSync(`node_modules/${name}/package.json`, 'utf8'))
  return `${name} ${version}: ${license}\n\n${readFileSync(`node_modules/${name}/LICENSE`, 'utf8').trim()}\n`
})
write('dist/licenses.txt', licenses.join(`\n${'='.repeat(80)}\n`))
