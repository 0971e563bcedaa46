import { defineConfig } from 'tsdown';

const shared = { format: 'esm', platform: 'node', target: 'node20', checks: { pluginTimings: false } } as const;

/** The library and its evaluation with their types, and the command line, which loads each command when it is called. */
export default defineConfig([
  { ...shared, entry: { index: 'src/index.ts', eval: 'src/eval/index.ts' }, dts: true },
  { ...shared, entry: { cli: 'src/cli/main.ts' }, dts: false, clean: false },
]);
