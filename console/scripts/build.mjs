// dist/: what the server embeds and has at `/`. The client is built from its sources in ../client.
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'

process.chdir(fileURLToPath(new URL('..', import.meta.url)))
mkdirSync('dist', { recursive: true })
copyFileSync('src/index.html', 'dist/index.html')
await build({
  entryPoints: { app: 'src/main.tsx' },
  outdir: 'dist',
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

// The licenses of what is in it, which want to be passed on with it: scripts/third-party.py does.
const licenses = ['preact', '@preact/signals', '@preact/signals-core'].map((name) => {
  const { version, license } = JSON.parse(readFileSync(`node_modules/${name}/package.json`, 'utf8'))
  return `${name} ${version}: ${license}\n\n${readFileSync(`node_modules/${name}/LICENSE`, 'utf8').trim()}\n`
})
writeFileSync('dist/licenses.txt', licenses.join(`\n${'='.repeat(80)}\n`))
