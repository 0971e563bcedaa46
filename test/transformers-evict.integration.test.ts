/** Eviction through the real transformers.js: what users can ask for, in batches and over turns, and what the evaluation makes of it. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { cat, type Tensor } from '@huggingface/transformers';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { HeldBytes } from '../src/compare/held.ts';
import { JOURNAL_FILE } from '../src/eval/journal.ts';
import type { ContextRecord } from '../src/eval/records.ts';
import { evaluate } from '../src/eval/run.ts';
import { type EvictOptions, PackedCache, type Prompt } from '../src/index.ts';
import { POLICY_NAMES } from '../src/policies/index.ts';
import { noiseTask } from './support/eval.ts';
import { int64, removeFolder, TOKENS_PER_IMAGE, temporaryFolder } from './support/models.ts';
import {
  ask,
  conversation,
  expectClose,
  floats,
  generate,
  greedy,
  largestDifference,
  leftPadded,
  logitsOf,
  openTiny,
  type Packed,
  type Tiny,
} from './support/tiny.ts';

let tiny: Tiny;
let model: Packed;
let inputs: Prompt;

beforeAll(async () => {
  tiny = await openTiny();
  model = await tiny.load({ rank: tiny.width, mass: true });
  inputs = await conversation(tiny, [ask('What are these?', 2)], [1, 2]);
});
afterAll(() => tiny[Symbol.asyncDispose]());

/** A conversation so far, and what is asked next. */
async function followed(before: Tensor): Promise<Prompt> {
  const input_ids = cat([before, (await conversation(tiny, [ask('And why?')])).input_ids], 1);
  return { input_ids, attention_mask: int64([new Array<number>(input_ids.dims[1] ?? 0).fill(1)]) };
}

describe.each(POLICY_NAMES)('%s', (policy) => {
  const rule = (keep: number, more: Partial<EvictOptions> = {}) => ({ sink: 0, evict: { policy, keep, sink: 0, ...more } as const });

  test('that keeps everything gives the tokens of the stock model', async () => {
    await using cache = new PackedCache(model, rule(10_000, { when: 'always', of: 'all' }));
    expect(await greedy(model, { ...inputs, past_key_values: cache })).toEqual(await greedy(tiny.stock, inputs));
    expect(cache.report()).toMatchObject({ evictedTokens: 0, evictedImageTokens: 0 });
  });

  test('keeps a share of the images, tells it, gives their memory back, and goes on in a second turn', async () => {
    await using whole = new PackedCache(model);
    await using cache = new PackedCache(model, rule(0.25));
    const start = { ...inputs, max_new_tokens: 3, do_sample: false };
    await generate(model, { ...start, past_key_values: whole });
    const second = await followed(await generate(model, { ...start, past_key_values: cache }));
    expect(cache.report()).toMatchObject({
      packedTokens: TOKENS_PER_IMAGE / 2,
      evictedTokens: 1.5 * TOKENS_PER_IMAGE,
      evictedImageTokens: 1.5 * TOKENS_PER_IMAGE,
    });
    expect(cache.report().bytes.codes).toBeLessThan(whole.report().bytes.codes);
    for (const one of [whole, cache]) expect(one.bytes).toBe(one.report().bytes.total);
    await generate(model, { ...second, past_key_values: cache, max_new_tokens: 4, do_sample: false });
    expect(cache.report().evictedTokens).toBe(1.5 * TOKENS_PER_IMAGE);
    expect(cache.bytes).toBe(cache.report().bytes.total);
    cache.crop();
    expect(await generate(model, { ...second, past_key_values: cache, max_new_tokens: 4, do_sample: false })).toBeDefined();
  });

  test('evicts in each sequence of a left-padded batch what it evicts alone', async () => {
    const pair = [await conversation(tiny, [ask('A longer question about one', 1)], [1]), await conversation(tiny, [ask('?', 1)], [2])];
    const options = rule(5, { when: 'packing' });
    const next = await conversation(tiny, [ask('on')]);
    const steps = async (prompt: { input_ids: Tensor; attention_mask: Tensor }): Promise<Tensor> => {
      await using cache = new PackedCache(model, options);
      await logitsOf(model, { ...prompt, past_key_values: cache });
      const [batch = 0] = prompt.input_ids.dims;
      expect(cache.report().packedTokens).toBe(5 * batch);
      const rows = Array.from({ length: batch }, () => [...(next.input_ids.data as BigInt64Array)]);
      const mask = cat([prompt.attention_mask, int64(rows.map((row) => row.map(() => 1n)))], 1);
      return await logitsOf(model, { input_ids: int64(rows), attention_mask: mask, past_key_values: cache });
    };
    const together = floats(await steps(leftPadded(pair)));
    for (const [b, prompt] of pair.entries()) {
      const alone = floats(await steps(prompt));
      expectClose(together.subarray(b * alone.length, (b + 1) * alone.length), alone);
    }
  });
});

test('evicting changes what is answered, and a cache may evict when it is asked to', async () => {
  const behind = { input_ids: int64([[7, 8]]), attention_mask: int64([new Array<number>((inputs.input_ids.dims[1] ?? 0) + 2).fill(1)]) };
  const logits: Float32Array[] = [];
  for (const keep of [0.999, 3]) {
    await using cache = new PackedCache(model, { evict: { policy: 'snapkv', keep: 9, when: 'asked' } });
    await logitsOf(model, { ...inputs, past_key_values: cache });
    expect(cache.report().evictedTokens).toBe(0);
    expect(cache.evict({ keep })).toBe(keep === 3 ? 2 * TOKENS_PER_IMAGE - 3 : 0);
    logits.push(floats(await logitsOf(model, { ...behind, past_key_values: cache })));
  }
  expect(largestDifference(logits[1] as Float32Array, logits[0] as Float32Array)).toBeGreaterThan(0.1);
});

test('a model given the option tells attention by itself; a cache without a rule says so', async () => {
  const own = await tiny.load({ evict: { policy: 'h2o', keep: 6 } });
  await using cache = new PackedCache(own);
  await logitsOf(own, { ...inputs, past_key_values: cache });
  expect(cache.report().evictedTokens).toBe(2 * TOKENS_PER_IMAGE - 6);
  await using none = new PackedCache(own, { evict: false });
  await logitsOf(own, { ...inputs, past_key_values: none });
  expect(none.report().evictedTokens).toBe(0);
  expect(() => none.evict()).toThrow('this cache has no evict option of its own; give evict() a policy and how many tokens to keep');
  expect(() => none.evict({ policy: 'h2o', keep: 6 })).toThrow('what this cache did not watch');
  expect(none.evict({ policy: 'random', keep: 6 })).toBe(2 * TOKENS_PER_IMAGE - 6);
  const blind = await tiny.load();
  expect(() => new PackedCache(blind, { evict: { policy: 'fastv', keep: 6 } })).toThrow('load it with packed(.., { mass: true })');
});

test('the evaluation pairs policies with packing, and counts what is held of the pictures', async () => {
  const out = temporaryFolder();
  try {
    const load = { dtype: 'fp32', session_options: { intraOpNumThreads: 1, interOpNumThreads: 1 } };
    const names = ['dense-fp16', 'evict:h2o,keep=0.5', 'packed:8,basis-per=context', 'packed:8,basis-per=context,evict=h2o,keep=0.5'];
    const { refused } = await evaluate(tiny.folder, { tasks: [noiseTask({ size: 1 })], cache: names.join(','), out, load });
    expect(refused).toEqual([]);
    const entries = readFileSync(path.join(out, JOURNAL_FILE), 'utf8')
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as Partial<ContextRecord>);
    const [dense, evicted, packed, both] = names.map((name) => entries.find(({ setting }) => setting === name)?.bytes as HeldBytes);
    // Rows are given back in steps of 16, of some 50 tokens in all.
    expect(Math.abs((evicted?.visualHeld ?? 0) / (dense?.visualHeld ?? 0) - 0.5)).toBeLessThan(0.15);
    // Both have one basis of rank 8 for all; of the 32 tokens, 16 rows of codes, slots and positions are gone.
    const row = 2 * 2 * 8 * 4 + 16;
    expect((packed?.visualHeld ?? 0) - (both?.visualHeld ?? 0)).toBe(TOKENS_PER_IMAGE * row);
    expect(both?.visualDenseFp16).toBe(packed?.visualDenseFp16);
  } finally {
    removeFolder(out);
  }
});
