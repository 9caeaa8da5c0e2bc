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
  // A machine that builds something else at the same time is slow.
  test: { include: ['test/**/*.test.ts'], testTimeout: 90_000, hookTimeout: 90_000, expect: { poll: { timeout: 30_000 } } },
})
