/** Mixed codes and bases through the real transformers.js: as near stock logits as their bits allow, in batches, behind crops and in later turns. */
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
} from './support/tiny.ts';

const ROTARY: readonly RotaryMode[] = ['rotate-late', 'post-rope'];

let tiny: Tiny;
let inputs: Prompt;
let stockLogits: Float32Array;
const models = new Map<RotaryMode, Packed>();

beforeAll(async () => {
  tiny = await openTiny({ numKvHeads: 2 });
  inputs = await conversation(tiny, [ask('What is in these?', 3)], [1, 2, 3]);
  stockLogits = floats(await logitsOf(tiny.stock, inputs));
  for (const rotary of ROTARY) models.set(rotary, await tiny.load({ rotary, codes: 'mixed', basis: 'mixed', rank: TOKENS_PER_IMAGE }));
});
afterAll(() => tiny[Symbol.asyncDispose]());

describe.each(ROTARY)('%s', (rotary) => {
  const model = (): Packed => models.get(rotary) as Packed;
  const difference = async (options: CacheOptions): Promise<number> => {
    await using cache = new PackedCache(model(), options);
    const logits = floats(await logitsOf(model(), { ...inputs, past_key_values: cache }));
    const report = cache.report();
    expect(cache.bytes).toBe(report.bytes.total);
    expect(report.columnBits?.length).toBeGreaterThan(0);
    return largestDifference(logits, stockLogits);
  };

  test('logits move away from the stock model as bits fall', async () => {
    const differences = [await difference({ bits: 8 }), await difference({ bits: 4 }), await difference({ bits: 2 })];
    expect(differences[1]).toBeGreaterThan(differences[0] as number);
    expect(differences[2]).toBeGreaterThan(differences[1] as number);
    MEASURED[rotary]?.forEach((measured, i) => {
      expect(differences[i]).toBeLessThan(1.8 * measured);
    });
  });

  test.each([
    { compactAt: 'span', chunk: 7 },
    { basisPer: 'context', chunk: 20 },
  ] as const)('images packed with %o are as near', async (options) => {
    expect(await difference({ ...options, bits: 8, rank: tiny.width })).toBeLessThan(3 * (MEASURED[rotary]?.[0] ?? 0));
  });

  test('each sequence of a padded batch is packed as it is alone where all columns have the same bits', async () => {
    const pair = [await conversation(tiny, [ask('A longer question about one', 1)], [1]), await conversation(tiny, [ask('?', 2)], [2, 4])];
    const options = { bits: 4, spread: 'even', sink: 0 } as const;
    await using cache = new PackedCache(model(), options);
    const together = await logitsOf(model(), { ...leftPadded(pair), past_key_values: cache });
    const [, length = 0, vocab = 0] = together.dims;
    for (const [b, prompt] of pair.entries()) {
      await using own = new PackedCache(model(), options);
      const logits = floats(await logitsOf(model(), { ...prompt, past_key_values: own }));
      // Levels read up to 255 cancel against their zeros, and sums differ in order.
      expectClose(floats(together).subarray((b + 1) * length * vocab - logits.length, (b + 1) * length * vocab), logits, 1e-4);
    }
  });

  test('what is asked again after a crop is answered the same, and a later turn brings another image', async () => {
    await using cache = new PackedCache(model(), { bits: 8 });
    const first = await greedy(model(), { ...inputs, past_key_values: cache });
    const { bytes } = cache.report();
    cache.crop();
    expect(await greedy(model(), { ...inputs, past_key_values: cache })).toEqual(first);
    cache.crop();
    const turns = [
      ask('What is in these?', 3),
      { role: 'assistant', content: [{ type: 'text', text: 'x' }] },
      ask('and this?', 1),
    ] as const;
    await greedy(model(), { ...(await conversation(tiny, turns as never, [1, 2, 3, 4])), past_key_values: cache });
    expect(cache.report().packedImages).toBe(4);
    expect(cache.bytes).toBe(cache.report().bytes.total);
    expect(cache.report().bytes.codes).toBeGreaterThan(bytes.codes);
  });
});

/** Largest difference of logits at 8, 4 and 2 bits; logits are of order five. */
const MEASURED: Readonly<Partial<Record<RotaryMode, readonly number[]>>> = {
  'rotate-late': [0.0334, 0.213, 0.582],
  'post-rope': [0.038, 0.256, 0.991],
};

test('bits are refused where no column has them, and too few', async () => {
  const plain = await tiny.load({ codes: 'int8', rank: 8 });
  expect(() => new PackedCache(plain, { bits: 4 })).toThrow(
    "bits needs codes or basis 'mixed', and the model was loaded with codes 'int8' and basis 'float32'",
  );
  expect(() => new PackedCache(models.get('post-rope') as Packed, { rank: 1 })).toThrow('rank 1 with the default of 4 bits a column');
  await expect(tiny.load({ spread: 'even' })).rejects.toThrow("spread needs codes or basis 'mixed'");
});
