/** Decodes pictures of a dataset: bytes in a parquet column, or files. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { RawImage } from '@huggingface/transformers';
import { misplaced, type Place } from './place.ts';

/**
 * The picture in a parquet column of Hugging Face's image type, as RGB.
 *
 * @param value struct of the encoded `bytes` and the `path` they came from
 * @throws {AttentionPackError} if there are no bytes or they are not a picture
 */
export async function pictureOf(place: Place, where: string, value: unknown): Promise<RawImage> {
  const { bytes, path: origin } = (value ?? {}) as { bytes?: unknown; path?: unknown };
  if (bytes instanceof Uint8Array && bytes.length) return decoded(place, where, bytes);
  const instead = origin ? `only a path, '${origin}'; take the form of the dataset that holds its pictures` : 'no bytes';
  throw misplaced(place, `${where} has ${instead}`);
}

/** The picture in a file, relative to the dataset's folder, as RGB. */
export async function pictureFile(place: Place, file: string): Promise<RawImage> {
  return decoded(place, file, await readFile(path.join(place.folder, file)));
}

/** @param where the picture's place, for the error if it is none */
export async function decoded(place: Place, where: string, bytes: Uint8Array): Promise<RawImage> {
  try {
    return (await RawImage.fromBlob(new Blob([bytes as Uint8Array<ArrayBuffer>]))).rgb();
  } catch (cause) {
    throw misplaced(place, `${where} is no picture that can be read (${bytes.length} bytes): ${(cause as Error).message}`, cause);
  }
}
