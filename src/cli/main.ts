#!/usr/bin/env node
/** The command line: one file per command, loaded when it is called. */
import { defineCommand, runMain } from 'citty';
import packageJson from '../../package.json' with { type: 'json' };

const main = defineCommand({
  meta: { name: 'attentionpack', version: packageJson.version, description: packageJson.description },
  subCommands: {
    demo: () => import('./demo.ts').then((module) => module.demoCommand),
    run: () => import('./run.ts').then((module) => module.runCommand),
    inspect: () => import('./inspect.ts').then((module) => module.inspectCommand),
    rewrite: () => import('./rewrite.ts').then((module) => module.rewriteCommand),
    convert: () => import('./convert.ts').then((module) => module.convertCommand),
  },
});

await runMain(main);
