import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'

const client = (path: string): string => fileURLToPath(new URL(`../client/src/${path}`, import.meta.url))

export default defineConfig({
  resolve: {
    alias: [
      { find: /^@walcast\/client$/, replacement: client('index.ts') },
      { find: /^@walcast\/client\/(.+)\.js$/, replacement: client('$1.ts') },
    ],
  },
  test: { include: ['test/**/*.test.ts'], testTimeout: 30_000 },
})
