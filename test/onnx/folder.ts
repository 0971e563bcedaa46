/** A folder of its own for every test of a file, and the smallest models worth putting there. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach } from 'vitest';
import { DataType, encodeModel, floatTensor, type Model, setExternal, type Tensor, valueInfo } from '../../src/onnx/index.ts';

export interface Folder {
  /** Absolute path of a name in the folder. */
  at(name: string): string;
  /** Writes a file, and the folders on the way to it. */
  put(name: string, content: Uint8Array | string): string;
}

export function testFolder(): Folder {
  let root: string;
  beforeEach(() => {
    root = mkdtempSync(path.join(tmpdir(), 'attentionpack-onnx-'));
  });
  afterEach(() => rmSync(root, { recursive: true, force: true }));
  const at = (name: string): string => path.join(root, name);
  return {
    at,
    put(name, content) {
      mkdirSync(path.dirname(at(name)), { recursive: true });
      writeFileSync(at(name), content);
      return at(name);
    },
  };
}

/** y [2, 24] = x [2, 16] · w [16, 24] + b [24]: w has 1.5 KiB and is left in the file, b has 96 bytes and is not. */
export const WEIGHTS = Float32Array.from({ length: 16 * 24 }, (_, i) => Math.sin(i));

export function smallModel(): Model {
  return {
    irVersion: 10,
    producerName: 'attentionpack tests',
    opsetImport: [{ domain: '', version: 21 }],
    metadataProps: [{ key: 'made', value: 'here' }],
    graph: {
      name: 'linear',
      node: [
        { opType: 'MatMul', name: 'multiply', input: ['x', 'w'], output: ['product'] },
        { opType: 'Add', name: 'add', input: ['product', 'b'], output: ['y'] },
      ],
      initializer: [floatTensor('w', [16, 24], WEIGHTS), floatTensor('b', [24], new Float32Array(24).fill(0.5))],
      input: [valueInfo('x', DataType.FLOAT, [2, 16])],
      output: [valueInfo('y', DataType.FLOAT, [2, 24])],
    },
  };
}

/** The small model whose w lies in another file; the bytes of both. */
export function smallModelWithExternalData(
  location: string,
  offset = 0,
  length = WEIGHTS.byteLength,
): { model: Uint8Array; weights: Uint8Array } {
  const model = smallModel();
  setExternal(model.graph?.initializer?.[0] as Tensor, { location, offset, length });
  return { model: encodeModel(model), weights: new Uint8Array(WEIGHTS.buffer) };
}
