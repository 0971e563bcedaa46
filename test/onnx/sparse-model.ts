/** Large models that cost neither time nor disk. */
import { closeSync, ftruncateSync, openSync, writeSync } from 'node:fs';
import { concat, lengthDelimited, tag, varint } from './generate.ts';

export const MEBIBYTE = 2 ** 20;

/** Writes a model of `count` inline weights of `size` zeros each. The zeros are holes in the file: it takes neither time nor disk. */
export function writeSparseModel(file: string, count: number, size: number): string {
  const head = (i: number): Uint8Array =>
    concat([
      concat([tag(1, 0), varint(BigInt(size / 4)), tag(2, 0), varint(1n)]), // dims [size / 4], FLOAT
      lengthDelimited(8, new TextEncoder().encode(`weight${i}`)),
      concat([tag(9, 2), varint(BigInt(size))]), // raw_data, whose bytes are the hole
    ]);
  const initializers = Array.from({ length: count }, (_, i) => {
    const tensor = head(i);
    return concat([tag(5, 2), varint(BigInt(tensor.length + size)), tensor]);
  });
  const graphLength = initializers.reduce((sum, bytes) => sum + bytes.length + size, 0);
  const fd = openSync(file, 'w');
  const start = concat([Uint8Array.of(8, 10), lengthDelimited(8, Uint8Array.of(16, 21)), tag(7, 2), varint(BigInt(graphLength))]);
  let at = writeSync(fd, start, 0, start.length, 0);
  for (const bytes of initializers) at += writeSync(fd, bytes, 0, bytes.length, at) + size;
  ftruncateSync(fd, at);
  closeSync(fd);
  return file;
}
