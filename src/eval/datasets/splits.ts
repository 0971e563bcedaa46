/** Finds the parquet files of a split, as Hugging Face names them. */
import path from 'node:path';
import { checkFolder, filesBelow, misplaced, type Place } from './place.ts';

/**
 * Files of a split below the folder, in order: `validation-00000-of-00002.parquet` and so on in any folder, or `0000.parquet` in a folder named
 * after the split (the converted branch).
 *
 * @throws {AttentionPackError} if there is none, or one of a numbered series is missing: part of a dataset would quietly be scored as the whole
 */
export function splitFiles(place: Place, split: string): string[] {
  checkFolder(place);
  const all = filesBelow(place, '.parquet');
  const files = all.filter((file) => splitOf(file) === split);
  if (!files.length) {
    const there = [...new Set(all.map(splitOf))].map((name) => `'${name}'`);
    const instead = there.length ? `found files of ${there.join(', ')}` : 'found no parquet file at all';
    throw misplaced(place, `no file of split '${split}'; looked for ${split}-*.parquet here and in folders below, ${instead}`);
  }
  checkSeries(place, files);
  return files;
}

/** "data/validation-00000-of-00002-5f.parquet" and "default/validation/0000.parquet" are both of split 'validation'. */
function splitOf(file: string): string {
  const stem = path.posix.basename(file, '.parquet');
  if (/^\d+$/.test(stem)) return path.posix.basename(path.posix.dirname(file)).replace(/^partial-/, '');
  return stem.split('-')[0] as string;
}

function checkSeries(place: Place, files: readonly string[]): void {
  const series = new Map<string, Set<number>>();
  for (const file of files) {
    const [, number, count] = path.posix.basename(file).match(/-(\d+)-of-(\d+)/) ?? [];
    if (!number || !count) continue;
    const key = `${path.posix.dirname(file)}/*-of-${count}`;
    series.set(key, (series.get(key) ?? new Set()).add(Number(number)));
  }
  for (const [key, seen] of series) {
    const count = Number(key.slice(key.lastIndexOf('-') + 1));
    const missing = Array.from({ length: count }, (_, i) => i).filter((i) => !seen.has(i));
    if (missing.length)
      throw misplaced(
        place,
        `${missing.length} of ${count} files ${key} are missing: number ${missing.slice(0, 5).join(', ')} counted from 0`,
      );
  }
}
