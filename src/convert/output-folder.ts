/** A model folder that appears whole or not at all: written beside its place under another name, then renamed. */
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, statSync } from 'node:fs';
import path from 'node:path';
import { AttentionPackError } from '../errors.ts';
import { readJson } from './checkpoint.ts';

/**
 * Runs `write` on an empty folder and moves what it wrote to `out`.
 *
 * `out` may be absent, empty, or a folder converted before: then the new files join it (another precision beside the first), config.json
 * last, so that a reader never sees a config without its files.
 *
 * @throws {AttentionPackError} if `out` holds anything else.
 */
export async function intoFolder<T>(
  out: string,
  write: (folder: string, before: Record<string, unknown> | undefined) => Promise<T>,
): Promise<T> {
  const target = path.resolve(out);
  const before = convertedBefore(target);
  const folder = `${target}.${process.pid}.part`;
  try {
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder, { recursive: true });
    const result = await write(folder, before);
    if (before) merge(folder, target);
    else {
      rmSync(target, { recursive: true, force: true }); // empty, or the rename would fail on some systems
      renameSync(folder, target);
    }
    return result;
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code ?? '';
    if (!(code in DISK_ERRORS)) throw cause;
    throw new AttentionPackError(`${target} cannot be written: ${DISK_ERRORS[code]}; nothing was left there`, { cause });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const DISK_ERRORS: Readonly<Record<string, string>> = {
  ENOSPC: 'the disk is full',
  EACCES: 'permission denied',
  EPERM: 'permission denied',
  EROFS: 'the file system is read-only',
  ENOTDIR: 'a part of the path is a file',
};

/** config.json of an earlier conversion in `target`; undefined if there is nothing. */
function convertedBefore(target: string): Record<string, unknown> | undefined {
  if (!existsSync(target)) return undefined;
  if (!statSync(target).isDirectory()) throw new AttentionPackError(`${target} is a file; name a folder`);
  if (readdirSync(target).length === 0) return undefined;
  const file = path.join(target, 'config.json');
  const config = existsSync(file) ? readJson(file) : {};
  if ('transformers.js_config' in config) return config;
  throw new AttentionPackError(`${target} is not empty and holds no converted model; use a new folder`);
}

function merge(from: string, to: string): void {
  removeStaleData(path.join(from, 'onnx'), path.join(to, 'onnx'));
  const names = readdirSync(from, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.relative(from, path.join(entry.parentPath, entry.name)))
    .sort((a, b) => Number(a === 'config.json') - Number(b === 'config.json'));
  for (const name of names) {
    mkdirSync(path.dirname(path.join(to, name)), { recursive: true });
    renameSync(path.join(from, name), path.join(to, name));
  }
}

/** Data files of models about to be replaced: the new ones may need fewer. */
function removeStaleData(from: string, to: string): void {
  if (!existsSync(to)) return;
  const models = readdirSync(from).filter((name) => name.endsWith('.onnx'));
  for (const name of readdirSync(to)) if (models.some((model) => name.startsWith(`${model}_data`))) rmSync(path.join(to, name));
}
