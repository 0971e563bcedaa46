/** Second moments of queries against plain loops over the queries that attention gets. */
import * as ort from 'onnxruntime-node';
import { expect, test } from 'vitest';
import { queryMomentName } from '../../src/contract.ts';
import { DataType, GraphEditor } from '../../src/onnx/index.ts';
import { rewrite } from '../../src/rewrite.ts';
import { type DecoderOptions, EMBED, randomNumbers, tinyDecoder } from '../support/decoders.ts';
import { PlainCache } from '../support/plain-cache.ts';
import { floats, numbers, openSession } from '../support/run.ts';

/** New tokens of each sequence that are no padding; padding is on the left. */
const LENGTHS = [6, 4];
const NUM_NEW = 6;

/** Moments [B, Hkv, D, D] of both layers as the graph gives them, and as loops over the turned queries do. */
async function moments(decoder: DecoderOptions): Promise<{ given: Float32Array; plain: Float32Array }[]> {
  const original = tinyDecoder({ ...decoder, rotary: 'outside' });
  const type = decoder.type ?? DataType.FLOAT;
  const editor = new GraphEditor(original.graph ?? {});
  for (const l of [0, 1]) editor.addOutput(`layers.${l}.query.turned`, type, ['b', 'n', 'w']);
  const { model, shape, report } = rewrite({ model: original, path: 'original.onnx' }, { rotary: 'rotate-late', queryMoments: true });
  expect(report.refused).toEqual([]);
  const session = await openSession(model.model);
  const cache = new PlainCache(shape, LENGTHS.length, { rotary: 'rotate-late', deal: 'dense' }, randomNumbers(3));
  const outputs = await session.run({
    ...cache.feeds(),
    attention_mask: new ort.Tensor(
      'int64',
      BigInt64Array.from(LENGTHS.flatMap((length) => Array.from({ length: NUM_NEW }, (_, n) => (n >= NUM_NEW - length ? 1n : 0n)))),
      [LENGTHS.length, NUM_NEW],
    ),
    position_ids: new ort.Tensor(
      'int64',
      BigInt64Array.from(LENGTHS.flatMap(() => Array.from({ length: NUM_NEW }, (_, n) => BigInt(n + 5)))),
      [LENGTHS.length, NUM_NEW],
    ),
    inputs_embeds: floats(type, Float32Array.from({ length: LENGTHS.length * NUM_NEW * EMBED }, randomNumbers(7)), [2, NUM_NEW, EMBED]),
  });
  await session.release();
  return shape.layers.map(({ index, numHeads, numKvHeads, headDim }) => {
    const given = outputs[queryMomentName(index)];
    expect(given?.type).toBe('float32');
    expect(given?.dims).toEqual([LENGTHS.length, numKvHeads, headDim, headDim]);
    const queries = numbers(outputs[`layers.${index}.query.turned`]);
    const plain = new Float32Array(LENGTHS.length * numKvHeads * headDim * headDim);
    LENGTHS.forEach((length, b) => {
      for (let n = NUM_NEW - length; n < NUM_NEW; n++) {
        for (let h = 0; h < numHeads; h++) {
          const at = ((b * NUM_NEW + n) * numHeads + h) * headDim;
          const of = b * numKvHeads + Math.floor((h * numKvHeads) / numHeads);
          for (let i = 0; i < headDim; i++) {
            for (let j = 0; j < headDim; j++) {
              const to = (of * headDim + i) * headDim + j;
              plain[to] = (plain[to] as number) + (queries[at + i] as number) * (queries[at + j] as number);
            }
          }
        }
      }
    });
    return { given: numbers(given), plain };
  });
}

test.each([
  ['grouped heads', {}, 1e-5],
  ['a key head for each query head', { numKvHeads: 4 }, 1e-5],
  // The twin's queries of layer 1 went through another layer's rounding to half precision.
  ['half precision', { type: DataType.FLOAT16 }, 2e-2],
] as const)('moments of %s are the sum over tokens that are no padding', async (_, decoder, tolerance) => {
  for (const { given, plain } of await moments(decoder)) {
    const largest = Math.max(...plain.map(Math.abs));
    expect(largest).toBeGreaterThan(1);
    expect(Math.max(...given.map((value, i) => Math.abs(value - (plain[i] as number)))) / largest).toBeLessThan(tolerance);
  }
});

test('moments are not handed out unasked', () => {
  const { model } = rewrite({ model: tinyDecoder(), path: 'original.onnx' });
  expect(model.model.graph?.output?.some(({ name }) => name?.includes('moment'))).toBe(false);
});
