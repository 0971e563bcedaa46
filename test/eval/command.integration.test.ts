/** `attentionpack eval` on the embedded model: what it prints and writes, what it refuses, and that a killed run goes on to the same result. */
import { spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { PACKAGE_ROOT } from '../../src/cli/embedded.ts';
import { JOURNAL_FILE } from '../../src/eval/journal.ts';
import type { Evaluation } from '../../src/eval/run.ts';
import { attentionpack, complaint, lastJson } from '../support/cli.ts';
import { removeFolder, temporaryFolder } from '../support/models.ts';

let root: string;
beforeEach(() => {
  root = temporaryFolder();
});
afterEach(() => removeFolder(root));

const ARGS = ['eval', 'embedded', '--tasks', 'name,order', '--cache', 'int8,packed:8', '--limit', '2', '--threads', '1', '--json'];

const lasting = ({ run: _, ...rest }: Evaluation): object => rest;

/** Starts the command line in a process of its own and ends it by `signal` once the journal has `lines` lines. */
function interrupted(out: string, lines: number, signal: NodeJS.Signals): Promise<{ code: number | null; stderr: string }> {
  const child = spawn(process.execPath, ['--import', 'tsx', path.join(PACKAGE_ROOT, 'src/cli/main.ts'), ...ARGS, '--out', out], {
    cwd: PACKAGE_ROOT,
    env: { ...process.env, NO_COLOR: '1' },
  });
  const file = path.join(out, JOURNAL_FILE);
  let stderr = '';
  child.stderr.on('data', (data) => {
    stderr += String(data);
  });
  const watch = async (): Promise<void> => {
    while (child.exitCode === null) {
      if (existsSync(file) && readFileSync(file, 'utf8').split('\n').length > lines) return void child.kill(signal);
      await sleep(20);
    }
  };
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, stderr }));
    void watch();
  });
}

test('a run that is killed, or stopped by Ctrl-C, goes on to the same result', async () => {
  const whole = lastJson(await attentionpack(...ARGS, '--out', path.join(root, 'whole'))) as unknown as Evaluation;
  expect(whole.rows.map(({ task, setting }) => `${task} ${setting}`)).toEqual(
    ['name', 'order'].flatMap((task) => ['dense', 'int8', 'packed:8'].map((setting) => `${task} ${setting}`)),
  );
  // Line 1 is the journal's own, 2 and 3 announce the tasks.
  const killed = path.join(root, 'killed');
  expect((await interrupted(killed, 5, 'SIGKILL')).code).toBe(null);
  const stopped = await interrupted(killed, 8, 'SIGINT');
  expect(stopped.code).toBe(130);
  expect(stopped.stderr).toMatch(
    /stopped; \d+ of 12 done and kept in .*killed\. Go on with: attentionpack eval embedded --tasks name,order .*--out .*killed\n$/,
  );
  const result = await attentionpack(...ARGS, '--out', killed);
  expect(result.code).toBe(0);
  expect(lasting(lastJson(result) as unknown as Evaluation)).toEqual(lasting(whole));

  // Beside the journal lie the dated results: the same object, and the page.
  const files = readdirSync(killed).sort();
  expect(files).toEqual([
    expect.stringMatching(/^\d{4}-\d\d-\d\d-pack-mha\.html$/),
    expect.stringMatching(/^\d{4}-\d\d-\d\d-pack-mha\.json$/),
    JOURNAL_FILE,
  ]);
  const written = JSON.parse(readFileSync(path.join(killed, files[1] ?? ''), 'utf8')) as Evaluation;
  expect(lasting(written)).toEqual(lasting(whole));
  expect(readFileSync(path.join(killed, files[0] ?? ''), 'utf8')).toMatch(/^<!doctype html>[\s\S]*<svg[\s\S]*packed:8/);
  expect(result.stdout).toMatch(/name: one drawing[\s\S]*packed:8/);
});

test('--list shows every task and setting', async () => {
  const result = await attentionpack('eval', '--list', '--json');
  const { tasks, cache } = lastJson(result) as { tasks: { name: string }[]; cache: { name: string }[] };
  const names = tasks.map(({ name }) => name);
  for (const name of ['name', 'choice', 'ocr', 'needle-64', 'needle-frames-16', 'order', 'five', 'name-style', 'a-okvqa', 'mmmu'])
    expect(names).toContain(name);
  expect(cache.map(({ name }) => name)).toEqual([
    'dense',
    'dense-fp32',
    'dense-fp16',
    'half-resolution',
    'int8',
    'int4',
    'packed',
    'evict',
  ]);
  expect(result.stdout).toContain('needle-64');
});

describe('mistakes are one line and exit code 2', () => {
  const refused = (...args: string[]): Promise<string> => complaint('eval', ...args, '--out', path.join(root, 'out'));
  test.each([
    [[], '<model> is missing'],
    [['nowhere'], "model 'nowhere' is neither a folder nor an id"],
    [['embedded', '--tasks', 'naming'], "'naming' is not a task; use all, name, choice, ocr"],
    [['embedded', '--tasks', 'name,'], '--tasks takes names with commas between'],
    [['embedded', '--tasks', 'mmmu'], "task 'mmmu' needs its files; add --data mmmu=<folder>"],
    [['embedded', '--tasks', 'name', '--data', 'vqa=/tmp'], "no dataset 'vqa'; there are a-okvqa"],
    [['embedded', '--tasks', 'name', '--data', 'mmmu=/not/there'], "folder '/not/there' of mmmu does not exist"],
    [['embedded', '--tasks', 'name', '--data', '/not/there'], "--data takes name=folder; got '/not/there'"],
    [['embedded', '--tasks', 'name', '--cache', 'int2'], "'int2' is not a cache setting"],
    [['embedded', '--tasks', 'name', '--cache', 'packed:9999'], 'rank 9999 exceeds the'],
    [['embedded', '--tasks', 'name', '--limit', '0'], '--limit takes a whole number >= 1'],
    [['embedded', '--tasks', 'name', '--pixels', '63'], 'pictures of 63 pixels cannot be drawn'],
    [['embedded', '--tasks', 'name', '--dtype', 'q4'], 'has no q4 weights'],
    [['embedded', '--tasks', 'name', '--casche', 'int8'], "eval has no option '--casche'"],
  ])('%j', async (args, message) => {
    expect(await refused(...args)).toContain(message);
  });

  test('a journal of other tasks of the same name', async () => {
    const args = ['eval', 'embedded', '--tasks', 'name', '--cache', 'dense', '--limit', '1', '--threads', '1', '--out', root];
    expect((await attentionpack(...args)).code).toBe(0);
    expect(await complaint(...args, '--seed', '2')).toMatch(/task .name. had firstContext name-1-\d+-0, now name-2-\d+-0/);
  });
});
