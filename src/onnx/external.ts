/** External data: where a tensor's bytes lie when they are not in its message, checked so that no path leaves the model's folder. */
import { copyFileSync, existsSync, linkSync, mkdirSync, realpathSync, statSync } from 'node:fs';
import path from 'node:path';
import { AttentionPackError, FileFormatError } from '../errors.ts';
import type { ModelFile } from './file.ts';
import { DataLocation, type Tensor } from './proto.ts';
import { eachTensor } from './visit.ts';

/** A range of a file beside the model. `location` is relative to the model's folder. */
export interface ExternalRange {
  readonly location: string;
  readonly offset: number;
  /** In bytes; -1 if the entry does not say (then: to the end of the file). */
  readonly length: number;
}

/** The tensor's external range, or undefined if its data is in its message. */
export function externalRange(tensor: Tensor): ExternalRange | undefined {
  if (tensor.dataLocation !== DataLocation.EXTERNAL) return undefined;
  const entries = new Map(tensor.externalData?.map((entry) => [entry.key, entry.value ?? '']));
  return {
    location: entries.get('location') ?? '',
    offset: Number(entries.get('offset') ?? 0),
    length: Number(entries.get('length') ?? -1),
  };
}

/** Makes the tensor refer to `range` instead of carrying its data. */
export function setExternal(tensor: Tensor, range: ExternalRange): void {
  delete tensor.rawData;
  tensor.dataLocation = DataLocation.EXTERNAL;
  tensor.externalData = [
    { key: 'location', value: range.location },
    { key: 'offset', value: String(range.offset) },
    { key: 'length', value: String(range.length) },
  ];
}

/**
 * Absolute path of external data named `location` by the model at `modelPath`.
 *
 * @throws {FileFormatError} if the location is absolute, leaves the folder (also through a link to a folder), or does not exist.
 */
export function externalFile(modelPath: string, location: string): string {
  const folder = path.dirname(path.resolve(modelPath));
  const file = path.resolve(folder, location);
  if (!location || path.isAbsolute(location) || !isInside(folder, file)) {
    throw new FileFormatError(modelPath, `external data path '${location}' leaves the model's folder`);
  }
  if (!existsSync(file)) throw new FileFormatError(modelPath, `external data file '${location}' is missing (looked for ${file})`);
  // A linked file is how model hubs' caches work; a linked folder on the way is not.
  if (!isInside(realpathSync(folder), path.join(realpathSync(path.dirname(file)), path.basename(file)))) {
    throw new FileFormatError(modelPath, `external data path '${location}' leaves the model's folder through a link`);
  }
  if (!statSync(file).isFile()) throw new FileFormatError(modelPath, `external data path '${location}' is not a file`);
  return file;
}

function isInside(folder: string, file: string): boolean {
  const relative = path.relative(folder, file);
  return relative !== '' && relative !== '..' && !relative.startsWith(`..${path.sep}`) && !path.isAbsolute(relative);
}

/** Checks that a range lies inside its file and gives its length in bytes. */
export function checkedLength(modelPath: string, tensorName: string, range: ExternalRange): number {
  const size = statSync(externalFile(modelPath, range.location)).size;
  const length = range.length < 0 ? size - range.offset : range.length;
  if (!(range.offset >= 0 && length >= 0 && range.offset + length <= size)) {
    throw new FileFormatError(
      modelPath,
      `tensor '${tensorName}' wants bytes ${range.offset} to ${range.offset + length} of '${range.location}', which has ${size}`,
    );
  }
  return length;
}

/** Names of all external data files of a model, in order of first use; the model's own file is among them if weights were left in it. */
export function externalLocations(file: ModelFile): string[] {
  const locations = new Set<string>();
  eachTensor(file.model, (tensor) => {
    const range = externalRange(tensor);
    if (range) locations.add(range.location);
  });
  return [...locations];
}

/**
 * Puts the model's external data beside a rewritten copy in `folder`: a hard link, or a copy where the file system has no links.
 *
 * Symbolic links are not used: ONNX Runtime refuses external data whose real path leaves the model's folder. A file of that name and size
 * that is already there is taken to be the same one. Weights inside the source file count if `weights` is `refer`; give what `writeModel` got.
 *
 * @throws {AttentionPackError} if another file of that name is in the way.
 */
export function linkExternalData(file: ModelFile, folder: string, weights: 'copy' | 'refer' = 'refer'): void {
  for (const location of externalLocations(file)) {
    if (weights === 'copy' && location === path.basename(file.path)) continue;
    const source = realpathSync(externalFile(file.path, location));
    const target = path.join(folder, location);
    if (existsSync(target)) {
      if (statSync(target).size === statSync(source).size) continue;
      throw new AttentionPackError(`${target} exists and is not ${source} (other size); remove it or choose another folder`);
    }
    mkdirSync(path.dirname(target), { recursive: true });
    try {
      linkSync(source, target);
    } catch {
      copyFileSync(source, target);
    }
  }
}
