import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['test/**/*.test.{ts,tsx}'],
    // The limits only end what hangs: on a busy machine each process may be stalled for seconds.
    testTimeout: 240_000,
    hookTimeout: 240_000,
    teardownTimeout: 60_000,
    expect: { poll: { timeout: 60_000, interval: 50 } },
    cache: false, // several Vitests run at once, and one fails if it reads the cache while another one writes it
    typecheck: { enabled: true, include: ['test/**/*.test-d.{ts,tsx}'], spawnTimeout: 240_000 }
  }
})
