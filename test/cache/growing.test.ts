/** A basis that grows, in a cache: what is held of older images never changes by a bit, whatever newer ones bring. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { PackedGraph } from '../../src/cache/feeds.ts';
import { basisName, codesName, newRowsName, PACKED_SLOTS, PRESENT_POSITIONS, rawKeysName, type Side } from '../../src/contract.ts';
import { createEncoder, type Encoder } from '../../src/encode/index.ts';
import { type CacheOptions, resolveCacheOptions } from '../../src/options.ts';
import { Tensor } from '../../src/ort.ts';
import type { Span } from '../../src/prefill.ts';
import type { LayerShape } from '../../src/shape.ts';
import { CacheStore } from '../../src/store.ts';
import { gaussian, spectrumMatrix } from '../encode/matrices.ts';

let encoder: Encoder;
beforeAll(async () => {
  encoder = await createEncoder();
});
afterAll(() => encoder.dispose());

const LAYERS = [
  { index: 0, numHeads: 2, numKvHeads: 2, headDim: 6, rotary: 'inside' },
  { index: 1, numHeads: 4, numKvHeads: 1, headDim: 10, rotary: 'inside' },
] as const satisfies readonly LayerShape[];
const SIDES: readonly Side[] = ['key', 'value'];

const graph = (type: 'float32' | 'float16', rotary: PackedGraph['rotary'] = 'rotate-late'): PackedGraph => ({
  shape: { layers: LAYERS, windowType: 'float32' },
  rotary,
  codes: type,
  basis: type,
  emptyTensors: true,
});

const open = (options: CacheOptions, of: PackedGraph = graph('float32')): CacheStore =>
  new CacheStore(of, resolveCacheOptions({ basisPer: 'context', compactAt: 'span', sink: 0, ...options }, of.shape), () =>
    Promise.resolve(encoder),
  );

/** Rows of an image: four directions that all images have, and `numOwn` that are its own. */
function rowsOf(layer: LayerShape, b: number, image: number, numTokens: number, numOwn: number): Float32Array {
  const width = layer.numKvHeads * layer.headDim;
  const shared = spectrumMatrix(4, width, () => 1, 3 + layer.index);
  const own = spectrumMatrix(4, width, () => 1, 50 + 7 * image + b);
  const mix = gaussian(numTokens * 8, 11 * image + b + 1);
  return Float32Array.from({ length: numTokens * width }, (_, i) => {
    const [t, k] = [Math.floor(i / width), i % width];
    let sum = 0;
    for (let d = 0; d < 4; d++) sum += (mix[8 * t + d] as number) * (shared[d * width + k] as number);
    for (let d = 0; d < numOwn; d++) sum += (mix[8 * t + 4 + d] as number) * (own[d * width + k] as number);
    return sum;
  });
}

/** Runs an image of each sequence through the cache and packs it. */
async function pack(store: CacheStore, batch: number, image: number, numTokens: number, numOwn: number): Promise<void> {
  const at = store.numSlots;
  const mask = Array.from({ length: batch }, () => new Array<number>(numTokens).fill(1));
  const spans: Span[][] = Array.from({ length: batch }, () => [{ start: 0, end: numTokens }]);
  store.begin(batch, spans, mask);
  const outputs: Record<string, Tensor> = {};
  for (const layer of LAYERS) {
    const { index, numKvHeads, headDim } = layer;
    const data = new Float32Array(batch * numKvHeads * numTokens * headDim);
    for (let b = 0; b < batch; b++) {
      const rows = rowsOf(layer, b, image, numTokens, numOwn);
      for (let i = 0; i < rows.length; i++) {
        const [t, h, d] = [Math.floor(i / numKvHeads / headDim), Math.floor(i / headDim) % numKvHeads, i % headDim];
        data[((b * numKvHeads + h) * numTokens + t) * headDim + d] = rows[i] as number;
      }
    }
    for (const name of [newRowsName(index, 'key'), newRowsName(index, 'value'), rawKeysName(index)])
      outputs[name] = new Tensor('float32', data, [batch, numKvHeads, numTokens, headDim]);
  }
  const positions = Array.from({ length: batch * numTokens }, (_, i) => BigInt(at + (i % numTokens)));
  outputs[PRESENT_POSITIONS] = new Tensor('int64', BigInt64Array.from(positions), [batch, numTokens]);
  store.append(
    outputs,
    mask,
    mask.map((row) => row.map(() => 7)),
  );
  expect(await store.compact()).toBe(batch);
  store.endRun();
  expect(store.heldBytes()).toBe(store.footprint().total);
}

/** Numbers as they are held, by what they belong to: codes by token and column, basis rows by head and column. */
function held(store: CacheStore, batch: number): Map<string, number> {
  const found = new Map<string, number>();
  const feeds = store.feeds();
  const slots = feeds[PACKED_SLOTS] as Tensor;
  const [, numTokens = 0] = slots.dims;
  for (const { index, numKvHeads, headDim } of LAYERS) {
    for (const side of SIDES) {
      const [codes, basis] = [feeds[codesName(index, side)], feeds[basisName(index, side)]] as [Tensor, Tensor];
      const rank = codes.dims[3] as number;
      const bits = (tensor: Tensor, i: number): number => (tensor.data as Float32Array)[i] as number;
      for (let b = 0; b < batch; b++) {
        for (let t = 0; t < numTokens; t++) {
          const slot = Number((slots.data as BigInt64Array)[b * numTokens + t]);
          if (slot < 0) continue;
          for (let c = 0; c < rank; c++)
            found.set(`${index} ${side} ${b} slot ${slot} column ${c}`, bits(codes, (b * numTokens + t) * rank + c));
        }
        for (let h = 0; h < numKvHeads; h++)
          for (let c = 0; c < rank; c++)
            for (let d = 0; d < headDim; d++)
              found.set(`${index} ${side} ${b} row ${c} of head ${h}, ${d}`, bits(basis, ((b * numKvHeads + h) * rank + c) * headDim + d));
      }
    }
  }
  return found;
}

/** Fails unless all that was held is there unchanged, and what older tokens and rows gained is zeros. */
function expectUntouched(before: ReadonlyMap<string, number>, after: ReadonlyMap<string, number>, newSlot: number): void {
  for (const [place, number] of before) if (after.get(place) !== number) expect(after.get(place), place).toBe(number);
  for (const [place, number] of after) {
    const slot = Number(/slot (\d+)/.exec(place)?.[1] ?? Number.POSITIVE_INFINITY);
    if (slot < newSlot && !before.has(place)) expect(number, place).toBe(0);
  }
}

const rankOf = (store: CacheStore): number => store.extents().sides[0]?.keys.rank ?? 0;

describe.each(['float32', 'float16'] as const)('a basis that grows, in %s', (type) => {
  test.each([1, 2])('keeps the codes and directions of older images bit for bit, in %i sequences', async (batch) => {
    const store = open({ rank: 10, tolerance: 1e-4 }, graph(type));
    const ranks: number[] = [];
    for (const [image, numOwn] of [0, 2, 0, 3].entries()) {
      const [before, newSlot] = [store.batch ? held(store, batch) : new Map<string, number>(), store.numSlots];
      await pack(store, batch, image, 8 + image, numOwn);
      expectUntouched(before, held(store, batch), newSlot);
      ranks.push(rankOf(store));
      if (numOwn < 3) expect(store.lostEnergy.keys).toBeLessThan(2e-4);
    }
    // The directions all images share, then those only the second has, and of the last one's as many as there is room for.
    expect(ranks).toEqual([4, 6, 6, 9]);
    expect(store.footprint().bases).toBe(batch * (12 + 10) * 2 * 9 * (type === 'float32' ? 4 : 2));
    expect(store.packedSpans).toBe(4 * batch);
  });
});

test('a sequence is cropped between the images that share a basis, and the next one goes on with it', async () => {
  const store = open({ rank: 10, tolerance: 1e-4 });
  for (const [image, numOwn] of [0, 2, 1].entries()) await pack(store, 1, image, 8, numOwn);
  const before = held(store, 1);
  expect(() => store.crop(20)).toThrow(/packed together; keep 16, or 24 and more/);
  store.crop(16);
  expect([store.packedTokens, store.packedSpans, store.numSlots]).toEqual([16, 2, 16]);
  expect(store.heldBytes()).toBe(store.footprint().total);
  const cropped = held(store, 1);
  for (const [place, number] of cropped) expect(before.get(place)).toBe(number);
  await pack(store, 1, 5, 8, 0);
  expectUntouched(cropped, held(store, 1), 16);
  expect(rankOf(store)).toBe(7); // directions of what was cropped stay
  store.crop(0);
  expect(store.heldBytes()).toBe(store.footprint().total);
  expect(rankOf(store)).toBe(0);
});

test('smaller tolerances lose less and grow further', async () => {
  const results: { lost: number; rank: number }[] = [];
  for (const tolerance of [0.4, 0.1, 0]) {
    const store = open({ rank: 10, tolerance });
    for (const image of [0, 1, 2]) await pack(store, 1, image, 9, 2);
    results.push({ lost: store.lostEnergy.keys, rank: rankOf(store) });
    expect(store.lostEnergy.keys).toBeLessThanOrEqual(Math.max(tolerance, 1e-9));
  }
  const [loose, middle, tight] = results as [
    { lost: number; rank: number },
    { lost: number; rank: number },
    { lost: number; rank: number },
  ];
  expect(loose.lost).toBeGreaterThan(middle.lost);
  expect(middle.lost).toBeGreaterThan(tight.lost);
  expect(loose.rank).toBeLessThan(middle.rank);
  expect(middle.rank).toBeLessThan(tight.rank);
});

test('bases of levels are refused', () => {
  expect(() => open({}, { ...graph('float32'), codes: 'int8' })).toThrow(
    /needs codes and basis float32 or float16, got 'int8' and 'float32'/,
  );
});
