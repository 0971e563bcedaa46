/** Reading and then writing a model loses nothing, whatever is in it. */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { decodeModel, eachTensor, encodeModel, externalRange, readModel, tensorBytes, writeModel } from '../../src/onnx/index.ts';
import { canonical } from './canonical.ts';
import { anyModel } from './generate.ts';
import { MODEL } from './schema.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'attentionpack-round-trip-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Published decoder graphs, beside the checkout where it has them. */
const SHARED = fileURLToPath(new URL('../../../shared/graphs', import.meta.url));
const FIXTURES = fileURLToPath(new URL('../fixtures/onnx', import.meta.url));

async function expectUnchanged(bytes: Uint8Array): Promise<void> {
  const [source, copy] = [path.join(folder, 'model.onnx'), path.join(folder, 'copy.onnx')];
  writeFileSync(source, bytes);
  await writeModel(readModel(source), copy);
  expect(canonical(readFileSync(copy), MODEL)).toEqual(canonical(bytes, MODEL));
}

describe('any model', () => {
  it('means the same after it was read and written, unknown fields and weights included', async () => {
    let numLeftInFile = 0;
    await fc.assert(
      fc.asyncProperty(anyModel, async (bytes) => {
        await expectUnchanged(bytes);
        eachTensor(readModel(path.join(folder, 'model.onnx')).model, (tensor) => {
          if (externalRange(tensor)?.location === 'model.onnx') numLeftInFile++;
          expect(tensor.rawData?.length ?? 0).toBeLessThan(1024);
        });
      }),
      { numRuns: 60, seed: 5 },
    );
    // Or the generator has stopped making weights worth leaving, and the test shows less than it says.
    expect(numLeftInFile).toBeGreaterThan(20);
  });

  it('means the same after it was decoded and encoded in memory', () => {
    fc.assert(
      fc.property(anyModel, (bytes) => {
        expect(canonical(encodeModel(decodeModel(bytes)), MODEL)).toEqual(canonical(bytes, MODEL));
      }),
      { numRuns: 100, seed: 6 },
    );
  });

  it('has the same bytes in every tensor when it refers to its weights', async () => {
    const [source, copy] = [path.join(folder, 'model.onnx'), path.join(folder, 'reference.onnx')];
    await fc.assert(
      fc.asyncProperty(anyModel, async (bytes) => {
        writeFileSync(source, bytes);
        const before = readModel(source);
        await writeModel(before, copy, 'refer');
        expect(weightsOf(readModel(copy))).toEqual(weightsOf(before));
      }),
      { numRuns: 20, seed: 7 },
    );
  });
});

/** Data of the tensors that lie in model.onnx, in order. Generated shapes say nothing about it, so they are left out. */
function weightsOf(file: ReturnType<typeof readModel>): string[] {
  const found: string[] = [];
  eachTensor(file.model, (tensor) => {
    if (externalRange(tensor)?.location !== 'model.onnx') return;
    found.push(Buffer.from(tensorBytes({ ...tensor, dataType: 0, dims: [] }, file.path)).toString('hex'));
  });
  return found;
}

describe('a published decoder', () => {
  it.each(['fp32', 'q4f16'])('(Gemma 3 in %s, first six layers) means the same after it was read and written', (precision) =>
    expectUnchanged(gunzipSync(readFileSync(path.join(FIXTURES, `gemma-3-4b-it.${precision}.6-layers.onnx.gz`)))),
  );

  // Where the whole graphs are not at hand, the cut ones above stand for them.
  const whole = existsSync(SHARED) ? readdirSync(SHARED).filter((name) => name.endsWith('.onnx')) : [];
  for (const name of whole) {
    it(`(${name}) means the same after it was read and written`, () => expectUnchanged(readFileSync(path.join(SHARED, name))));
  }
});
