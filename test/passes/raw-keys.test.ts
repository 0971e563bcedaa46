/** Keys before rotary embedding, handed out on request: the same numbers however and wherever the graph turns them. */
import * as ort from 'onnxruntime-node';
import { describe, expect, test } from 'vitest';
import { newRowsName, rawKeysName } from '../../src/contract.ts';
import { DataType } from '../../src/onnx/index.ts';
import { type RewriteOptions, rewrite } from '../../src/rewrite.ts';
import { type DecoderOptions, EMBED, randomNumbers, tinyDecoder } from '../support/decoders.ts';
import { PlainCache } from '../support/plain-cache.ts';
import { factsOf, floats, openSession } from '../support/run.ts';

const BATCH = 2;
const NUM_NEW = 6;

/** The outputs of a first run over six tokens of two sequences, at positions 3, 4, ... */
async function run(decoder: DecoderOptions, options: RewriteOptions): Promise<ort.InferenceSession.ReturnType> {
  const original = tinyDecoder(decoder);
  const { model, report, shape } = rewrite({ model: original, path: 'original.onnx' }, options);
  expect(report.refused).toEqual([]);
  const session = await openSession(model.model);
  const random = randomNumbers(9);
  const cache = new PlainCache(shape, BATCH, { rotary: report.rotary, deal: 'dense' }, random);
  const embeds = Float32Array.from({ length: BATCH * NUM_NEW * EMBED }, randomNumbers(11));
  const positions = Array.from({ length: BATCH * NUM_NEW }, (_, i) => BigInt(3 + (i % NUM_NEW)));
  const feeds: Record<string, ort.Tensor> = {
    ...cache.feeds(),
    attention_mask: new ort.Tensor('int64', new BigInt64Array(BATCH * NUM_NEW).fill(1n), [BATCH, NUM_NEW]),
    inputs_embeds: floats(factsOf(original).embedType, embeds, [BATCH, NUM_NEW, EMBED]),
    ...(session.inputNames.includes('position_ids')
      ? { position_ids: new ort.Tensor('int64', BigInt64Array.from(positions), [BATCH, NUM_NEW]) }
      : {}),
  };
  const outputs = await session.run(feeds);
  await session.release();
  return outputs;
}

function difference(a: ort.Tensor | undefined, b: ort.Tensor | undefined): number {
  expect(a?.dims).toEqual(b?.dims);
  expect(a?.type).toBe('float32');
  const [one, other] = [a?.data as Float32Array, b?.data as Float32Array];
  return one.reduce((most, value, i) => Math.max(most, Math.abs(value - (other[i] as number))), 0);
}

const POST = { rotary: 'post-rope', rawKeys: true } as const;

describe('keys before rotary embedding', () => {
  test.each([
    ['RotaryEmbedding nodes', { rotary: 'outside' }, 1e-6],
    ['RotaryEmbedding nodes, partial and interleaved', { rotary: 'outside', headDim: 32, numTurned: 16, interleaved: true }, 1e-6],
    ['the attention node itself', {}, 1e-6],
    // Both round keys to half precision, and attend to them in float32: half a step of 5e-4 in layer 1, at keys of order one.
    ['RotaryEmbedding nodes in half precision', { rotary: 'outside', type: DataType.FLOAT16 }, 5e-3],
  ] as const)('of %s are those that rotate-late packs', async (_, decoder, tolerance) => {
    const late = await run({ ...decoder, rotary: 'inside', givenPositions: true }, { rotary: 'rotate-late' });
    const post = await run({ ...decoder, givenPositions: true }, POST);
    for (const layer of [0, 1]) {
      expect(difference(post[rawKeysName(layer)], late[rawKeysName(layer)])).toBeLessThan(tolerance);
      const turned = post[newRowsName(layer, 'key')];
      if (turned?.type === 'float32') expect(difference(turned, post[rawKeysName(layer)])).toBeGreaterThan(0.1);
    }
  });

  test('are not handed out unasked, nor where the graph has none', async () => {
    const names = async (...of: Parameters<typeof run>): Promise<string[]> =>
      Object.keys(await run(...of)).filter((name) => name.startsWith('present_raw'));
    expect(await names({ rotary: 'outside' }, { rotary: 'post-rope' })).toEqual([]);
    expect(await names({ rotary: 'none' }, POST)).toEqual([]);
    expect(await names({}, { rawKeys: true })).toEqual([rawKeysName(0), rawKeysName(1)]);
  });
});
