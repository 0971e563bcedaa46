/** Runs the command line for tests, in this process or in one of its own, and judges how it complains. */
import { spawn } from 'node:child_process';
import path from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import { expect, vi } from 'vitest';
import { PACKAGE_ROOT } from '../../src/cli/embedded.ts';
import { start } from '../../src/cli/start.ts';

export interface Result {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs the command line in this process: the same code, without the seconds a process takes to load transformers.js. */
export async function attentionpack(...args: readonly string[]): Promise<Result> {
  const [out, err]: [string[], string[]] = [[], []];
  const into = (list: string[]) => (text: unknown) => list.push(String(text)) > 0;
  const line = (list: string[]) => (text: unknown) => void list.push(`${String(text)}\n`);
  const spies = [
    vi.spyOn(process.stdout, 'write').mockImplementation(into(out)),
    vi.spyOn(process.stderr, 'write').mockImplementation(into(err)),
    vi.spyOn(console, 'log').mockImplementation(line(out)),
    vi.spyOn(console, 'warn').mockImplementation(line(err)),
    vi.spyOn(console, 'error').mockImplementation(line(err)),
  ];
  process.exitCode = undefined;
  try {
    await start(args);
    return { code: Number(process.exitCode ?? 0), stdout: out.join(''), stderr: stripVTControlCharacters(err.join('')) };
  } finally {
    for (const spy of spies) spy.mockRestore();
    process.exitCode = undefined;
  }
}

/** The same in a process of its own, as a shell starts it. */
export function spawned(...args: readonly string[]): Promise<Result> {
  const { FORCE_COLOR: _forced, ...env } = process.env;
  const child = spawn(process.execPath, ['--import', 'tsx', path.join(PACKAGE_ROOT, 'src/cli/main.ts'), ...args], {
    cwd: PACKAGE_ROOT,
    env: { ...env, NO_COLOR: '1' },
  });
  const [out, err]: [string[], string[]] = [[], []];
  child.stdout.on('data', (data) => out.push(String(data)));
  child.stderr.on('data', (data) => err.push(String(data)));
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, stdout: out.join(''), stderr: err.join('') }));
  });
}

export async function complaint(...args: readonly string[]): Promise<string> {
  return complaintOf(await attentionpack(...args));
}

export function complaintOf({ code, stdout, stderr }: Result): string {
  expect(stderr).toMatch(/^error: [^\n]+\n$/);
  expect(stderr).not.toMatch(/\bat .*:\d+:\d+/);
  expect(stdout).toBe('');
  expect(code).toBe(2);
  return stderr;
}

export function lastJson({ stdout }: Result): Record<string, unknown> {
  return JSON.parse(stdout.trimEnd().split('\n').at(-1) ?? '') as Record<string, unknown>;
}
