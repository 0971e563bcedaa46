/** Weights pass through memory in small pieces when a model is copied. */
import { statSync } from 'node:fs';
import { expect, it } from 'vitest';
import { readModel, writeModel } from '../../src/onnx/index.ts';
import { testFolder } from './folder.ts';
import { MEBIBYTE, writeSparseModel } from './sparse-model.ts';

const folder = testFolder();

it('copying 300 MiB of inline weights holds less than 64 MiB of them at any time', async () => {
  const source = readModel(writeSparseModel(folder.at('model.onnx'), 30, 10 * MEBIBYTE));
  const before = process.memoryUsage();
  let [mostBuffers, mostResident] = [0, 0];
  const watch = setInterval(() => {
    const now = process.memoryUsage();
    mostBuffers = Math.max(mostBuffers, now.arrayBuffers - before.arrayBuffers);
    mostResident = Math.max(mostResident, now.rss - before.rss);
  }, 2);
  await writeModel(source, folder.at('copy.onnx'));
  clearInterval(watch);
  expect(statSync(folder.at('copy.onnx')).size).toBeGreaterThan(300 * MEBIBYTE);
  expect(mostBuffers).toBeLessThan(64 * MEBIBYTE);
  expect(mostResident).toBeLessThan(64 * MEBIBYTE);
});
