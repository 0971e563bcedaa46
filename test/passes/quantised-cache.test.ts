/** ONNX Runtime's own quantised cache: what the pass makes of a decoder, held against the dense decoder's rows. */
import * as ort from 'onnxruntime-node';
import { expect, test } from 'vitest';
import type { Model } from '../../src/onnx/index.ts';
import { type QuantisedCacheOptions, quantiseCache, scaleName } from '../../src/passes/quantised-cache.ts';
import { EMBED, randomNumbers, tinyDecoder } from '../support/decoders.ts';
import { openSession } from '../support/run.ts';

const [NUM_KV_HEADS, HEAD_DIM, LAYERS, TOKENS] = [2, 16, 2, 14];
const CHUNKS = [9, 4, 1] as const;
const KINDS: readonly QuantisedCacheOptions[] = [8, 4].flatMap((bits) =>
  (['channel', 'tensor'] as const).map((scales) => ({ bits: bits as 8 | 4, scales })),
);
const names = Array.from({ length: LAYERS }, (_, layer) => (['key', 'value'] as const).map((side) => ({ layer, side }))).flat();

/** Runs all tokens chunk by chunk; resolves to the last outputs. */
async function run(session: ort.InferenceSession, past: Record<string, ort.Tensor>, fixed: Record<string, ort.Tensor> = {}) {
  const random = randomNumbers(3);
  const embeds = Float32Array.from({ length: TOKENS * EMBED }, random);
  let outputs: Record<string, ort.Tensor> = {};
  let [done, held] = [0, past];
  for (const chunk of CHUNKS) {
    const end = done + chunk;
    outputs = (await session.run({
      ...held,
      ...fixed,
      inputs_embeds: new ort.Tensor('float32', embeds.slice(done * EMBED, end * EMBED), [1, chunk, EMBED]),
      attention_mask: new ort.Tensor('int64', new BigInt64Array(end).fill(1n), [1, end]),
    })) as Record<string, ort.Tensor>;
    held = Object.fromEntries(Object.keys(past).map((name) => [name, outputs[name.replace('past_key_values', 'present')] as ort.Tensor]));
    done = end;
  }
  return outputs;
}

const emptyPast = (make: () => ort.Tensor): Record<string, ort.Tensor> =>
  Object.fromEntries(names.map(({ layer, side }) => [`past_key_values.${layer}.${side}`, make()]));

test.each(KINDS)('$bits bits, a scale for each $scales: rows are held to half a step', async ({ bits, scales }) => {
  const dense = await openSession(tinyDecoder());
  const truth = await run(
    dense,
    emptyPast(() => new ort.Tensor('float32', new Float32Array(0), [1, NUM_KV_HEADS, 0, HEAD_DIM])),
  );

  const model = tinyDecoder();
  expect(quantiseCache(model, { bits, scales })).toEqual([]);
  const session = await openSession(model);
  const most = 2 ** (bits - 1) - 1;
  const fixed: Record<string, ort.Tensor> = {};
  const scaleOf = new Map<string, Float32Array>();
  for (const { layer, side } of names) {
    const rows = (truth[`present.${layer}.${side}`] as ort.Tensor).data as Float32Array;
    // Wide enough for what differs once earlier layers read rounded rows.
    const scale = new Float32Array(NUM_KV_HEADS * HEAD_DIM);
    rows.forEach((value, i) => {
      const column = Math.floor(i / (TOKENS * HEAD_DIM)) * HEAD_DIM + (i % HEAD_DIM);
      scale[column] = Math.max(scale[column] as number, (1.3 * Math.abs(value)) / most);
    });
    if (scales === 'tensor') scale.fill(Math.max(...scale));
    scaleOf.set(`${layer}.${side}`, scale);
    fixed[scaleName(layer, side)] =
      scales === 'channel'
        ? new ort.Tensor('float32', scale, [1, NUM_KV_HEADS, 1, HEAD_DIM])
        : new ort.Tensor('float32', scale.slice(0, 1), [1]);
  }
  const begin = (): ort.Tensor =>
    bits === 8
      ? new ort.Tensor('int8', new Int8Array(0), [1, NUM_KV_HEADS, 0, HEAD_DIM])
      : new ort.Tensor('uint8', new Uint8Array(0), [1, NUM_KV_HEADS, 0, HEAD_DIM / 2]);
  const held = await run(session, emptyPast(begin), fixed);

  // Layer 0 sees the same embeddings in both decoders, so its rows differ by rounding alone.
  for (const side of ['key', 'value'] as const) {
    const codes = held[`present.0.${side}`] as ort.Tensor;
    expect(codes.dims).toEqual([1, NUM_KV_HEADS, TOKENS, bits === 8 ? HEAD_DIM : HEAD_DIM / 2]);
    const rows = (truth[`present.0.${side}`] as ort.Tensor).data as Float32Array;
    const scale = scaleOf.get(`0.${side}`) as Float32Array;
    let worst = 0;
    rows.forEach((value, i) => {
      const byte = (codes.data as Int8Array)[bits === 8 ? i : i >> 1] as number;
      const code = bits === 8 ? byte : ((byte >> (4 * (i & 1))) & 15) - 8;
      const column = Math.floor(i / (TOKENS * HEAD_DIM)) * HEAD_DIM + (i % HEAD_DIM);
      worst = Math.max(worst, Math.abs(code - value / (scale[column] as number)));
    });
    expect(worst, `${side}s, in steps`).toBeLessThan(0.5001);
  }
  const [logits, wanted] = [held.logits, truth.logits].map((tensor) => (tensor as ort.Tensor).data as Float32Array);
  const largest = (wanted as Float32Array).reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const difference = (logits as Float32Array).reduce(
    (most, value, i) => Math.max(most, Math.abs(value - ((wanted as Float32Array)[i] as number))),
    0,
  );
  expect(difference).toBeGreaterThan(0); // what is read is the rounded cache
  if (bits === 8) expect(difference).toBeLessThan(0.1 * largest); // 15 steps over the whole range leave little of random logits
});

test('heads of an odd number of columns are refused in 4 bits with the node, the graph untouched', () => {
  const model = tinyDecoder({ headDim: 15, rotary: 'none' });
  const before = JSON.stringify(model);
  expect(quantiseCache(model, { bits: 4, scales: 'channel' })).toEqual(
    [0, 1].map((layer) => ({
      node: `/layers.${layer}/attention`,
      reason: 'two 4-bit numbers share a byte, and its heads have 15 columns',
    })),
  );
  expect(JSON.stringify(model)).toBe(before);
});

test('a cache that is quantised already, and a graph without attention, are refused', () => {
  const model: Model = tinyDecoder();
  expect(quantiseCache(model, { bits: 8, scales: 'tensor' })).toEqual([]);
  expect(quantiseCache(model, { bits: 8, scales: 'tensor' })[0]?.reason).toMatch(/kv_cache_bit_width = 8 is not supported/);
  expect(quantiseCache({ graph: { name: 'empty' } }, { bits: 8, scales: 'tensor' })).toEqual([
    { node: 'empty', reason: 'no GroupQueryAttention node' },
  ]);
});
