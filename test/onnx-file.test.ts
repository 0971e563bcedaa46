import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { externalRange, floatTensor, type Model, readModel, type Tensor, tensorBytes, writeModel } from '../src/onnx/index.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'attentionpack-onnx-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const values = Array.from({ length: 2048 }, (_, i) => i / 7);

async function modelOnDisk(): Promise<string> {
  const file = path.join(folder, 'model.onnx');
  const model: Model = {
    irVersion: 10,
    opsetImport: [{ domain: '', version: 21 }],
    graph: { name: 'g', initializer: [floatTensor('big', [2048], values), floatTensor('small', [2], [1, 2])] },
  };
  await writeModel({ model, path: file }, file);
  return file;
}

const tensorOf = (model: Model, name: string): Tensor => model.graph?.initializer?.find((tensor) => tensor.name === name) ?? {};

describe('writeModel', () => {
  it('streams the weights of the source file into a copy that needs no other file', async () => {
    const file = await modelOnDisk();
    const copy = path.join(folder, 'copy.onnx');
    const source = readModel(file);
    expect(externalRange(tensorOf(source.model, 'big'))?.location).toBe('model.onnx');
    await writeModel(source, copy);
    rmSync(file);
    const { model } = readModel(copy);
    const bytes = tensorBytes(tensorOf(model, 'big'), copy).slice();
    expect([...new Float32Array(bytes.buffer)]).toEqual([...Float32Array.from(values)]);
    expect(externalRange(tensorOf(model, 'small'))).toBeUndefined();
  });

  it('leaves the weights where they are when asked to refer to them', async () => {
    const file = await modelOnDisk();
    const copy = path.join(folder, 'copy.onnx');
    await writeModel(readModel(file), copy, 'refer');
    expect(externalRange(tensorOf(readModel(copy).model, 'big'))?.location).toBe('model.onnx');
  });
});
