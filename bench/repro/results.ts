/** Results of the reproduction on disk: one dated JSON for each part of each model, written whole or not at all. */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { type Asked, PART_NAMES, type PartName, type PartResult, type Subject } from './part.ts';

const stemOf = (model: string, part: PartName): string => `repro-${model.replaceAll('/', '-')}-${part}`;
const FILE = /^(?<date>\d{4}-\d\d-\d\d)-repro-(?<model>.+)-(?<part>[a-z]+)\.json$/;

/** Writes a result under its date; one of the same day is replaced. Returns the file. */
export function save(folder: string, result: PartResult): string {
  mkdirSync(folder, { recursive: true });
  const file = fileOf(folder, result);
  writeWhole(file, `${JSON.stringify(result, null, 1)}\n`);
  return file;
}

/** Where a result lies, with slashes: a path and a link. */
export function fileOf(folder: string, { date, model, part }: PartResult): string {
  return `${folder}/${date.slice(0, 10)}-${stemOf(model.model, part)}.json`;
}

/** Replaces the file at once, so that an interrupt leaves the old or the new one, never half. */
export function writeWhole(file: string, text: string): void {
  writeFileSync(`${file}.part`, text);
  renameSync(`${file}.part`, file);
}

/** A result that answers exactly what is asked, of the same weights and versions, if there is one. */
export function finished(folder: string, { identity }: Subject, part: PartName, asked: Asked): PartResult | undefined {
  const same = (result: PartResult): boolean => keyOf(result.model, result.asked) === keyOf(identity, asked);
  return all(folder)
    .filter((result) => result.part === part && same(result))
    .at(-1);
}

/** The newest result of every part of every model: models by name, parts in their order. */
export function newest(folder: string): PartResult[] {
  const latest = new Map<string, PartResult>();
  for (const result of all(folder)) latest.set(`${result.model.model} ${result.part}`, result);
  return [...latest.values()].sort(
    (a, b) => PART_NAMES.indexOf(a.part) - PART_NAMES.indexOf(b.part) || order(b.model.model, a.model.model),
  );
}

/** Oldest first. */
function all(folder: string): PartResult[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder)
    .filter((name) => PART_NAMES.some((part) => part === FILE.exec(name)?.groups?.part))
    .map((name) => JSON.parse(readFileSync(path.join(folder, name), 'utf8')) as PartResult)
    .filter(({ format }) => format === 'attentionpack-repro')
    .sort((a, b) => order(a.date, b.date));
}

const order = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

/** Folder for what is finished of a part that is not yet: another model, version or question has another. */
export function keptFolder(root: string, { identity }: Subject, part: PartName, asked: Asked): string {
  const hash = createHash('sha256').update(keyOf(identity, asked)).digest('hex').slice(0, 12);
  return path.join(root, `${identity.model.replaceAll('/', '-')}-${part}-${hash}`);
}

const keyOf = (identity: unknown, asked: Asked): string => JSON.stringify([identity, asked], sorted);

/** Keys in one order, whatever made the object. */
function sorted(_key: string, value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).sort(([a], [b]) => order(a, b)));
}
