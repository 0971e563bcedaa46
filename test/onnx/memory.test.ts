/** Weights are never held: reading a large model takes the memory of its graph. */
import { expect, it } from 'vitest';
import { eachTensor, externalRange, readModel } from '../../src/onnx/index.ts';
import { testFolder } from './folder.ts';
import { MEBIBYTE, writeSparseModel } from './sparse-model.ts';

const folder = testFolder();
it('reading 300 MiB of inline weights takes less than 20 MiB', () => {
  const file = writeSparseModel(folder.at('large.onnx'), 30, 10 * MEBIBYTE);
  readModel(writeSparseModel(folder.at('small.onnx'), 1, 2048)); // whatever the first call allocates for good
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
  const { model } = readModel(writeSparseModel(folder.at('huge.onnx'), 5, 1024 * MEBIBYTE));
  const last = model.graph?.initializer?.[4];
  expect(externalRange(last ?? {})?.offset).toBeGreaterThan(4 * 1024 * MEBIBYTE);
});
