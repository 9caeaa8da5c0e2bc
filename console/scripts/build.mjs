// dist/: what the server embeds and has at `/`. The client is built from its sources in ../client.
import { copyFileSync, mkdirSync } from 'node:fs'
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
