/** A checkpoint folder's weights: one safetensors file or the shards its index names, under canonical names. */
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { AttentionPackError, FileFormatError } from '../errors.ts';
import { SafetensorsFile } from './safetensors.ts';
import { canonicalName, type WeightSource } from './weight-source.ts';

const SINGLE = 'model.safetensors';
const INDEX = 'model.safetensors.index.json';

/** Weights of a Hugging Face checkpoint. All shards are opened, and their headers checked, at once. */
export class Checkpoint implements WeightSource {
  readonly folder: string;
  readonly #files: SafetensorsFile[] = [];
  readonly #tensors = new Map<string, { file: SafetensorsFile; stored: string }>();

  /**
   * @throws {AttentionPackError} if the folder has no safetensors or a shard is missing.
   * @throws {FileFormatError} if one of them is truncated or not safetensors.
   */
  constructor(folder: string) {
    this.folder = folder;
    try {
      for (const name of weightFiles(folder)) {
        const file = new SafetensorsFile(path.join(folder, name));
        this.#files.push(file);
        for (const stored of file.tensors.keys()) this.#tensors.set(canonicalName(stored), { file, stored });
      }
    } catch (cause) {
      this.close();
      throw cause;
    }
  }

  has(name: string): boolean {
    return this.#tensors.has(name);
  }

  expect(name: string, dims: readonly number[]): void {
    const { file, stored } = this.#find(name);
    const found = file.tensors.get(stored)?.dims ?? [];
    if (found.length !== dims.length || found.some((dim, i) => dim !== dims[i])) {
      throw new AttentionPackError(
        `${file.path}: weight '${stored}' is [${found}], config.json asks for [${dims}]; they are not of one model`,
      );
    }
  }

  rows(name: string, start: number, end: number): Float32Array {
    const { file, stored } = this.#find(name);
    return file.rows(stored, start, end);
  }

  close(): void {
    for (const file of this.#files) file.close();
  }

  #find(name: string): { file: SafetensorsFile; stored: string } {
    const tensor = this.#tensors.get(name);
    if (!tensor) {
      throw new AttentionPackError(
        `${this.folder}: weight '${name}' is missing among ${this.#tensors.size} in ${this.#files.length} file(s); is the checkpoint complete?`,
      );
    }
    return tensor;
  }
}

function weightFiles(folder: string): string[] {
  const index = path.join(folder, INDEX);
  if (!existsSync(index)) {
    if (existsSync(path.join(folder, SINGLE))) return [SINGLE];
    throw new AttentionPackError(`${folder} has neither ${SINGLE} nor ${INDEX}; pickled .bin weights are not read: save with safetensors`);
  }
  const names = new Set(Object.values(readIndex(index)));
  for (const name of names) {
    if (path.basename(name) !== name) throw new FileFormatError(index, `shard '${name}' is outside the folder`);
    if (!existsSync(path.join(folder, name))) {
      throw new AttentionPackError(`${folder}: shard '${name}' is missing, ${INDEX} names ${names.size}; download it`);
    }
  }
  return [...names].sort();
}

/** The index's weight map: tensor name -> shard. */
function readIndex(file: string): Record<string, string> {
  const { weight_map: map } = readJson(file);
  if (typeof map !== 'object' || map === null || !Object.values(map).every((name) => typeof name === 'string')) {
    throw new FileFormatError(file, 'has no weight_map of tensor names to file names');
  }
  return map as Record<string, string>;
}

/** @throws {FileFormatError} if the file is missing or not a JSON object. */
export function readJson(file: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(file, 'utf8'));
  } catch (cause) {
    const missing = (cause as NodeJS.ErrnoException).code === 'ENOENT';
    throw new FileFormatError(file, missing ? 'no such file; a checkpoint folder is needed' : `not JSON: ${(cause as Error).message}`, {
      cause,
    });
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new FileFormatError(file, 'not a JSON object');
  return value as Record<string, unknown>;
}
