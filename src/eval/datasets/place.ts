/** Where a dataset lies, and the one form of its errors. */
import { readdirSync, statSync } from 'node:fs';
import path from 'node:path';
import { AttentionPackError } from '../../errors.ts';

/** A dataset by name in a local folder. */
export interface Place {
  readonly dataset: string;
  readonly folder: string;
}

/** One line: dataset, folder, what is wrong and what to do. For the caller to throw. */
export function misplaced(place: Place, reason: string, cause?: unknown): AttentionPackError {
  return new AttentionPackError(`${place.dataset} in '${place.folder}': ${reason}`, { cause });
}

/** @throws {AttentionPackError} if the dataset's folder is none */
export function checkFolder(place: Place): void {
  if (kindOf(place.folder) !== 'folder') throw misplaced(place, 'no such folder');
}

/** What stands at a path, links followed: the Hugging Face cache keeps links to files. */
export function kindOf(file: string): 'file' | 'folder' | undefined {
  const found = statSync(file, { throwIfNoEntry: false });
  return found?.isFile() ? 'file' : found?.isDirectory() ? 'folder' : undefined;
}

/** Files below the dataset's folder whose name ends so, relative to it and sorted. Hidden folders and those deeper than `depth` are left out. */
export function filesBelow(place: Place, ending: string, depth = 4): string[] {
  const found: string[] = [];
  const walk = (folder: string, left: number): void => {
    for (const entry of readdirSync(path.join(place.folder, folder), { withFileTypes: true })) {
      if (entry.name.startsWith('.')) continue;
      const file = path.posix.join(folder, entry.name);
      const kind = entry.isSymbolicLink() ? kindOf(path.join(place.folder, file)) : entry.isFile() ? 'file' : 'folder';
      if (kind === 'file' && entry.name.endsWith(ending)) found.push(file);
      if (kind === 'folder' && left > 0) walk(file, left - 1);
    }
  };
  walk('', depth);
  return found.sort();
}
