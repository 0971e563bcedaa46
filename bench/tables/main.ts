/** `npm run tables`: makes the tables of README.md and of the model cards anew from bench/results. */
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { PACKAGE_ROOT } from '../../src/cli/embedded.ts';
import { withTables } from './blocks.ts';
import { DOCUMENTS } from './documents.ts';
import { render } from './render.ts';

for (const document of DOCUMENTS) {
  const file = path.join(PACKAGE_ROOT, document);
  const before = readFileSync(file, 'utf8');
  const after = withTables(before, render);
  if (after !== before) writeFileSync(file, after);
  console.log(`${document}: ${after === before ? 'as it was' : 'made anew'}`);
}
