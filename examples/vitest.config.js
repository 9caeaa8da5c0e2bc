import { defineConfig } from 'vitest/config'

// Each example has a Postgres, a walcast and a browser of its own: two at a time are enough. The times are for machines that
// do much else: a test that passes ends as soon as what it waits for is there.
export default defineConfig({
  test: { include: ['test/*.test.ts'], testTimeout: 120_000, hookTimeout: 120_000, expect: { poll: { timeout: 30_000 } }, maxWorkers: 2 },
})
