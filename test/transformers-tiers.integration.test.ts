/** Tiers through the real transformers.js: no tiers at the ends of the scale, less error the more tokens are read whole, and all a cache is asked for meanwhile. */
import { cat, type PreTrainedModel, type Tensor } from '@huggingface/transformers';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { PackedCache, type PackedModel, type Prompt, type TierOptions } from '../src/index.ts';
import { int64, TOKENS_PER_IMAGE } from './support/models.ts';
import {
  ask,
  conversation,
  expectClose,
  floats,
  generate,
  greedy,
  leftPadded,
  logitsOf,
  openTiny,
  type Packed,
  type Tiny,
} from './support/tiny.ts';

let tiny: Tiny;
let inputs: Prompt;
const models: Partial<Record<'post-rope' | 'rotate-late', Packed>> = {};
const ROTARY = ['post-rope', 'rotate-late'] as const;
const RANK = 12;

beforeAll(async () => {
  tiny = await openTiny();
  for (const rotary of ROTARY) models[rotary] = await tiny.load({ rank: RANK, sink: 0, rotary, tiered: true });
  inputs = await conversation(tiny, [ask('What are these?', 2)], [1, 2]);
});
afterAll(() => tiny[Symbol.asyncDispose]());

/** Logits of single tokens behind the images, one run each. */
async function steps(
  model: PreTrainedModel & PackedModel,
  prompted: Prompt,
  tiers: TierOptions | false,
  count = 6,
): Promise<{ logits: Float32Array; cache: PackedCache }> {
  const cache = new PackedCache(model, { tiers });
  const all: number[] = [...floats(await logitsOf(model, { ...prompted, past_key_values: cache }))];
  for (let i = 0; i < count; i++) {
    const length = cache.get_seq_length() + 1;
    const next = { input_ids: int64([[7 + i]]), attention_mask: int64([new Array<number>(length).fill(1)]), past_key_values: cache };
    all.push(...floats(await logitsOf(model, next)));
  }
  return { logits: Float32Array.from(all), cache };
}

describe.each(ROTARY)('%s', (rotary) => {
  test.each([
    { share: 1, rank: 1 },
    { share: 0.25, rank: RANK },
  ])('%o is no tiers', async (tiers) => {
    const model = models[rotary] as Packed;
    const [none, some] = [await steps(model, inputs, false), await steps(model, inputs, tiers)];
    expectClose(some.logits, none.logits);
    await Promise.all([none.cache.dispose(), some.cache.dispose()]);
  });

  test('a model without tiers gives the same as one that reads them, of caches that want none', async () => {
    const plain = await tiny.load({ rank: RANK, sink: 0, rotary });
    const [a, b] = [await steps(plain, inputs, false), await steps(models[rotary] as Packed, inputs, false)];
    expectClose(b.logits, a.logits);
    expect(b.cache.report().tiers).toBeUndefined();
    expect(b.cache.bytes).toBe(b.cache.report().bytes.total);
  });

  test.each(['keys', 'values', 'both'] as const)('of %s, the error falls as the share grows', async (of) => {
    const model = models[rotary] as Packed;
    const { logits: exact } = await steps(model, inputs, false);
    const errors: number[] = [];
    for (const share of [0.1, 0.5, 0.9, 1]) {
      const { logits, cache } = await steps(model, inputs, { share, rank: 2, of, every: 1 });
      errors.push(Math.sqrt(logits.reduce((sum, x, i) => sum + (x - (exact[i] as number)) ** 2, 0) / logits.length));
      expect(cache.bytes).toBe(cache.report().bytes.total);
      expect(cache.report().tiers).toMatchObject({ share, of, firstTokens: 2 * Math.ceil(share * TOKENS_PER_IMAGE) });
      await cache.dispose();
    }
    expect(errors[3]).toBeLessThan(1e-5);
    for (const i of [1, 2, 3]) expect(errors[i], `${errors}`).toBeLessThan(errors[i - 1] as number);
  });

  test('sequences of a left-padded batch have tiers of their own', async () => {
    const model = models[rotary] as Packed;
    const long = await conversation(tiny, [ask('A longer question about one', 1)], [1]);
    const [short, other] = [await conversation(tiny, [ask('?', 1)], [2]), await conversation(tiny, [ask('!', 1)], [3])];
    const tiers = { share: 0.3, rank: 2, every: 2 };
    const run = async (given: { input_ids: Tensor; attention_mask: Tensor }): Promise<Float32Array> => {
      await using cache = new PackedCache(model, { tiers });
      await logitsOf(model, { ...given, past_key_values: cache });
      const [batch = 0] = given.input_ids.dims;
      let mask = given.attention_mask;
      let last: Tensor | undefined;
      for (let i = 0; i < 5; i++) {
        mask = cat([mask, int64(Array.from({ length: batch }, () => [1]))], 1);
        last = await logitsOf(model, {
          input_ids: int64(Array.from({ length: batch }, () => [9 + i])),
          attention_mask: mask,
          past_key_values: cache,
        });
      }
      expect(cache.bytes).toBe(cache.report().bytes.total);
      return floats(last as Tensor);
    };
    const both = await run(leftPadded([long, short]));
    const half = both.length / 2;
    const swapped = await run(leftPadded([short, long]));
    expectClose(swapped, [...both.subarray(half), ...both.subarray(0, half)]);
    // Alone, a prompt is cut elsewhere, and attention is averaged over chunks; what else is in the batch changes nothing.
    expectClose((await run(leftPadded([long, other]))).subarray(0, half), both.subarray(0, half));
  });

  test('a second turn with another image, crop, eviction and a failed call leave bytes and answers right', async () => {
    const model = models[rotary] as Packed;
    await using cache = new PackedCache(model, {
      tiers: { share: 0.25, rank: 3, every: 1 },
      evict: { policy: 'h2o', keep: 24, sink: 0, when: 'asked' },
    });
    const sequences = await generate(model, { ...inputs, past_key_values: cache, max_new_tokens: 5, do_sample: false });
    const { input_ids, pixel_values } = await conversation(tiny, [ask('And this?', 1)], [3]);
    const ids = cat([sequences, input_ids], 1);
    const second = { input_ids: ids, attention_mask: int64([new Array<number>(ids.dims[1] ?? 0).fill(1)]), pixel_values };
    await generate(model, { ...second, past_key_values: cache, max_new_tokens: 5, do_sample: false });
    const { tiers } = cache.report();
    expect(tiers).toMatchObject({ firstTokens: (3 * TOKENS_PER_IMAGE) / 4 });
    expect(tiers?.movedBytes).toBeGreaterThan(0);
    expect(cache.bytes).toBe(cache.report().bytes.total);
    cache.crop();
    expect(cache.evict()).toBe(3 * TOKENS_PER_IMAGE - 24);
    expect(cache.bytes).toBe(cache.report().bytes.total);
    const before = cache.get_seq_length();
    const wrong = { input_ids: int64([[7, 8]]), attention_mask: int64([[1, 1]]), past_key_values: cache };
    await expect(logitsOf(model, wrong)).resolves.toBeDefined();
    cache.crop(before);
    expect(cache.get_seq_length()).toBe(before);
    await expect(logitsOf(model, { inputs_embeds: undefined, input_ids: int64([[1e6, 1e6]]), past_key_values: cache })).rejects.toThrow();
    expect(cache.get_seq_length()).toBe(before);
    expect(cache.bytes).toBe(cache.report().bytes.total);
  });
});

test('a model given the option reads tiers by itself; what cannot be is refused', async () => {
  const own = await tiny.load({ rank: RANK, tiers: { share: 0.5, rank: 4 } });
  await using cache = new PackedCache(own);
  expect((await greedy(own, { ...inputs, past_key_values: cache }, 3))[0]).toHaveLength(3);
  expect(cache.report()).toMatchObject({ rotary: 'rotate-late', tiers: { share: 0.5, of: 'both', every: 8 } });
  await using none = new PackedCache(own, { tiers: false });
  await logitsOf(own, { ...inputs, past_key_values: none });
  expect(none.report().tiers).toBeUndefined();
  const blind = await tiny.load();
  expect(() => new PackedCache(blind, { tiers: { share: 0.5, rank: 4 } })).toThrow('load it with packed(.., { tiered: true })');
  await expect(tiny.load({ tiers: { share: 0.5, rank: 4 }, mass: false })).rejects.toThrow(
    'tiers go by attention, which this model does not tell',
  );
  await expect(tiny.load({ tiers: { share: 0.5, rank: 4 }, codes: 'mixed', rank: 8 })).rejects.toThrow('use float32, float16 or int8');
});
