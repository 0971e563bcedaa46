import { defineConfig } from 'vitest/config';

/** Two tiers: `unit` needs no model and ends within seconds; `integration` runs decoders, the embedded model and the command line. */
export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: 'unit',
          include: ['test/**/*.test.ts'],
          exclude: ['test/**/*.integration.test.ts'],
          // One module graph for all files of a worker: loading ONNX Runtime for each would take longer than many tests.
          isolate: false,
          maxWorkers: 2,
          testTimeout: 60_000,
        },
      },
      { test: { name: 'integration', include: ['test/**/*.integration.test.ts'], testTimeout: 240_000, fileParallelism: false } },
    ],
  },
});
