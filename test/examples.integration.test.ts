/** Every example runs, and prints what is kept beside it for review. */
import { execFile } from 'node:child_process';
import { readdirSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { PACKAGE_ROOT } from '../src/cli/embedded.ts';

const folder = path.join(PACKAGE_ROOT, 'examples');

test.each(readdirSync(folder).filter((name) => name.endsWith('.ts')))('%s', async (name) => {
  const { stdout } = await promisify(execFile)(process.execPath, ['--import', 'tsx', path.join(folder, name)], { cwd: PACKAGE_ROOT });
  await expect(stdout).toMatchFileSnapshot(path.join(folder, name.replace(/\.ts$/, '.txt')));
});
