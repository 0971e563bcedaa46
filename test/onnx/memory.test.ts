/** Weights are never held: reading a large model takes the memory of its graph. */
import { closeSync, ftruncateSync, openSync, writeSync } from 'node:fs';
import { expect, it } from 'vitest';
import { eachTensor, externalRange, readModel } from '../../src/onnx/index.ts';
import { testFolder } from './folder.ts';
import { concat, lengthDelimited, tag, varint } from './generate.ts';

const folder = testFolder();
const MEBIBYTE = 2 ** 20;

/** A model of `count` inline weights of `size` zeros each. The zeros are holes in the file: it takes neither time nor disk. */
function sparseModel(name: string, count: number, size: number): string {
  const file = folder.put(name, '');
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

it('reading 300 MiB of inline weights takes less than 20 MiB', () => {
  const file = sparseModel('large.onnx', 30, 10 * MEBIBYTE);
  readModel(sparseModel('small.onnx', 1, 2048)); // whatever the first call allocates for good
  const before = process.memoryUsage();
  const { model } = readModel(file);
  const after = process.memoryUsage();
  // Windows of 64 KiB onto the file, not yet collected, two for each weight.
  expect(after.arrayBuffers - before.arrayBuffers).toBeLessThan(8 * MEBIBYTE);
  expect(after.rss - before.rss).toBeLessThan(20 * MEBIBYTE);
  let leftInFile = 0;
  eachTensor(model, (tensor) => {
    leftInFile += externalRange(tensor)?.length ?? 0;
  });
  expect(leftInFile).toBe(300 * MEBIBYTE);
});

it('reads a model of more than 4 GiB', () => {
  const { model } = readModel(sparseModel('huge.onnx', 5, 1024 * MEBIBYTE));
  const last = model.graph?.initializer?.[4];
  expect(externalRange(last ?? {})?.offset).toBeGreaterThan(4 * 1024 * MEBIBYTE);
});
