import { defineConfig } from 'vitest/config'

// Each example has a Postgres, a walcast and a browser of its own: two at a time are enough.
export default defineConfig({ test: { include: ['test/*.test.ts'], testTimeout: 60_000, hookTimeout: 60_000, maxWorkers: 2 } })
