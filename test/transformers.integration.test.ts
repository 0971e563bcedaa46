/** Packed models through the real transformers.js against stock ones: at full rank the same logits and tokens, whatever way they are run. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type CacheOptions, PackedCache, type Prompt } from '../src/index.ts';
import type { RotaryMode } from '../src/shape.ts';
import { TOKENS_PER_IMAGE } from './support/models.ts';
import {
  ask,
  conversation,
  expectClose,
  floats,
  greedy,
  largestDifference,
  leftPadded,
  logitsOf,
  openTiny,
  type Packed,
  type Tiny,
  TOLERANCE,
} from './support/tiny.ts';

const ROTARY: readonly RotaryMode[] = ['rotate-late', 'post-rope'];
const RUNS: readonly CacheOptions[] = [
  { chunk: 1 },
  { chunk: 7, compactAt: 'span' },
  { chunk: 16, compactAt: 'span', sink: 0 },
  { chunk: 100_000 },
  { chunk: 20, basisPer: 'context', sink: 1 },
  { chunk: 18, basisPer: 'context', compactAt: 'span', tolerance: 0 },
  { chunk: 9, recent: 10 },
  { sink: 40 },
];

describe.each([
  { kind: 'multi-head', numKvHeads: 4 },
  { kind: 'grouped-query', numKvHeads: 2 },
])('a $kind model', ({ numKvHeads }) => {
  let tiny: Tiny;
  const models = new Map<RotaryMode, Packed>();
  let inputs: Prompt;
  let stockTokens: number[][];
  let alone: Prompt[];
  let stockAlone: number[][];
  let stockLogits: Float32Array;

  beforeAll(async () => {
    tiny = await openTiny({ numKvHeads });
    for (const rotary of ROTARY) models.set(rotary, await tiny.load({ rotary, rank: tiny.width }));
    inputs = await conversation(tiny, [ask('What is in these?', 3)], [1, 2, 3]);
    stockTokens = await greedy(tiny.stock, inputs);
    alone = [
      await conversation(tiny, [ask('Three of them, and quite some text behind.', 3)], [1, 2, 3]),
      await conversation(tiny, [ask('None')]),
      await conversation(tiny, [ask('One', 1)], [4]),
    ];
    stockAlone = [];
    for (const prompt of alone) stockAlone.push(...(await greedy(tiny.stock, prompt, 8)));
    stockLogits = floats(await logitsOf(tiny.stock, inputs));
  });
  afterAll(() => tiny[Symbol.asyncDispose]());

  describe.each(ROTARY)('%s', (rotary) => {
    const model = (): Packed => models.get(rotary) as Packed;

    test.each(RUNS)('at full rank gives the tokens and logits of the stock model with %o', async (options) => {
      await using cache = new PackedCache(model(), options);
      expect(await greedy(model(), { ...inputs, past_key_values: cache })).toEqual(stockTokens);
      expect(cache.report().packedTokens).toBeGreaterThan(options.sink === 40 ? 0 : 2 * TOKENS_PER_IMAGE);
      expect(cache.bytes).toBe(cache.report().bytes.total);
      await using other = new PackedCache(model(), options);
      expectClose(floats(await logitsOf(model(), { ...inputs, past_key_values: other })), stockLogits);
    });

    test.each([
      { rows: 2, options: {} },
      { rows: 3, options: { chunk: 11, compactAt: 'span' } },
      { rows: 3, options: { chunk: 50, basisPer: 'context' } },
      { rows: 3, options: { chunk: 30, basisPer: 'context', compactAt: 'span', tolerance: 0 } },
    ] as const)(
      '$rows left-padded sequences with different numbers of images each give what they give alone',
      async ({ rows, options }) => {
        const batch = alone.slice(0, rows);
        await using cache = new PackedCache(model(), options);
        const tokens = await greedy(model(), { ...leftPadded(batch), past_key_values: cache }, 8);
        expect(cache.report().packedImages).toBe(rows === 3 ? 4 : 3);
        expect(cache.bytes).toBe(cache.report().bytes.total);
        batch.forEach((_, b) => {
          const wanted = stockAlone[b] as number[];
          expect(tokens[b]?.slice(0, wanted.length)).toEqual(wanted);
        });
      },
    );

    test('a low rank packs each sequence of a padded batch as it packs it alone, sink included', async () => {
      const pair = [await conversation(tiny, [ask('A longer question about one', 1)], [1]), await conversation(tiny, [ask('?', 1)], [2])];
      const options = { rank: 3, sink: 5 };
      await using cache = new PackedCache(model(), options);
      const batch = leftPadded(pair);
      const together = await logitsOf(model(), { ...batch, past_key_values: cache });
      const [, length = 0, vocab = 0] = together.dims;
      for (const [b, prompt] of pair.entries()) {
        await using own = new PackedCache(model(), options);
        const logits = floats(await logitsOf(model(), { ...prompt, past_key_values: own }));
        expectClose(floats(together).subarray((b + 1) * length * vocab - logits.length, (b + 1) * length * vocab), logits);
      }
    });
  });

  test('logits move away from the stock model as rank falls, and never at full rank', async () => {
    const model = models.get('rotate-late') as Packed;
    const errors: number[] = [];
    for (const rank of [1, 2, 4, 8, TOKENS_PER_IMAGE]) {
      await using cache = new PackedCache(model, { rank, sink: 0 });
      // Only what stands behind the images reads them packed.
      const tail = stockLogits.length / 8;
      const logits = floats(await logitsOf(model, { ...inputs, past_key_values: cache }));
      errors.push(largestDifference(logits.subarray(-tail), stockLogits.subarray(-tail)));
    }
    expect(errors[0]).toBeGreaterThan(0.1);
    expect(errors.at(-1)).toBeLessThan(TOLERANCE);
    // A single token's logits may cross by chance from one rank to the next; over a factor of four in rank they do not.
    expect(errors[2]).toBeLessThan(errors[0] as number);
    expect(errors[3]).toBeLessThan(errors[1] as number);
  });

  test.each([
    { codes: 'float32', tolerance: TOLERANCE },
    // Half precision rounds to 2^-11, int8 to 1/254 of a column's largest code; logits are of order five.
    { codes: 'float16', basis: 'float16', tolerance: 0.02 },
    { codes: 'int8', tolerance: 0.2 },
    { window: 'float16', tolerance: 0.02 },
  ] as const)('%o keeps logits as near as its precision', async ({ tolerance, ...types }) => {
    const model = await tiny.load({ ...types, rank: tiny.width });
    await using cache = new PackedCache(model);
    expectClose(floats(await logitsOf(model, { ...inputs, past_key_values: cache })), stockLogits, tolerance);
    expect(cache.bytes).toBe(cache.report().bytes.total);
  });
});
