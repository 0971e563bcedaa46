/** `npm run repro` on an embedded model, through the command line: one small part is measured, kept and shown; mistakes are one line. */
import { spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { PartResult } from '../bench/repro/part.ts';
import type { VarianceData } from '../bench/repro/parts/variance.ts';
import { PACKAGE_ROOT } from '../src/cli/embedded.ts';
import { complaintOf, type Result } from './support/cli.ts';
import { removeFolder, temporaryFolder } from './support/models.ts';

let root: string;
beforeEach(() => {
  root = temporaryFolder();
});
afterEach(() => removeFolder(root));

function repro(...args: readonly string[]): Promise<Result> {
  const child = spawn(process.execPath, ['--import', 'tsx', path.join(PACKAGE_ROOT, 'bench/repro/main.ts'), ...args], {
    cwd: PACKAGE_ROOT,
    env: { ...process.env, NO_COLOR: '1' },
  });
  const [out, err]: [string[], string[]] = [[], []];
  child.stdout.on('data', (data) => out.push(String(data)));
  child.stderr.on('data', (data) => err.push(String(data)));
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, stdout: out.join(''), stderr: err.join('') }));
  });
}

test('one part of one context is measured, and found the second time', async () => {
  const args = ['--model', 'pack-gqa', '--only', 'variance', '--limit', '1', '--threads', '1', '--out', root, '--json'];
  const first = await repro(...args);
  expect(first.code, first.stderr).toBe(0);
  const outcome = JSON.parse(first.stdout.trim().split('\n').at(-1) ?? '') as { outcomes: { file: string; wasThere: boolean }[] };
  expect(outcome.outcomes).toMatchObject([{ model: 'pack-gqa', part: 'variance', wasThere: false }]);
  const file = outcome.outcomes[0]?.file ?? '';
  const { model, asked, data } = JSON.parse(readFileSync(file, 'utf8')) as PartResult<VarianceData>;
  expect(model.model).toBe('pack-gqa');
  expect(asked).toMatchObject({ contexts: 1 });
  for (const { points } of data.curves) {
    const lost = points.map(({ combined }) => combined);
    expect(lost).toEqual(lost.toSorted((a, b) => b - a));
    expect(Math.min(...lost)).toBeGreaterThanOrEqual(0);
    expect(Math.max(...lost)).toBeLessThan(1);
  }
  const page = readFileSync(path.join(root, 'README.md'), 'utf8');
  expect(page).toContain(model.fingerprint.slice(0, 12));
  expect(existsSync(path.join(root, 'variance.svg'))).toBe(true);

  const before = readFileSync(file, 'utf8');
  const second = await repro(...args);
  expect(second.stdout).toMatch(/pack-gqa variance: was there/);
  expect(readFileSync(file, 'utf8')).toBe(before);
  expect(readdirSync(root).filter((name) => name.endsWith('.json'))).toHaveLength(1);
});

test('what cannot be is refused in one line', async () => {
  expect(complaintOf(await repro('--only', 'speed'))).toMatch(/--only must be one of variance, tiers, .*got 'speed'/);
  expect(complaintOf(await repro('--limits', '1'))).toMatch(/has no option '--limits'/);
  expect(complaintOf(await repro('--model', 'nowhere', '--out', root))).toMatch(/'nowhere' is neither a folder nor an id/);
});
