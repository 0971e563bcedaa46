/** Text packed as well, through the real transformers.js: exact at full rank however it is run, and of measured error below it. */
import { cat, type Tensor } from '@huggingface/transformers';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type CacheOptions, PackedCache, type Prompt } from '../src/index.ts';
import type { RotaryMode } from '../src/shape.ts';
import { int64 } from './support/models.ts';
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

const RUNS: readonly CacheOptions[] = [
  { text: { every: 6, recent: 3 } },
  { text: { every: 1, recent: 0 }, chunk: 5, sink: 0 },
  { text: { every: 7, recent: 0 }, chunk: 9, compactAt: 'span' },
  { text: { every: 4, recent: 2 }, chunk: 11, basisPer: 'context' },
  { text: { every: 5, recent: 6 }, chunk: 13, basisPer: 'context', compactAt: 'span', tolerance: 0 },
  { text: 'packed', recent: 8, basisPer: 'context', compactAt: 'span', tolerance: 0 },
];
const STEPS = 20;

let tiny: Tiny;
const models = new Map<RotaryMode, Packed>();
let inputs: Prompt;
/** The prompt and what the stock model says to it. */
let whole: bigint[];
let stockLogits: Float32Array;
let vocab: number;

/** Logits of the prompt, then of one token after the other. */
async function stepwise(
  model: Packed,
  prompt: Prompt,
  answer: readonly (readonly bigint[])[],
  cache: PackedCache,
): Promise<Float32Array[]> {
  const parts = [await logitsOf(model, { ...prompt, past_key_values: cache })];
  for (let n = 0; n < (answer[0]?.length ?? 0); n++) {
    const input_ids = int64(answer.map((row) => [row[n] as bigint]));
    parts.push(await logitsOf(model, { input_ids, past_key_values: cache }));
    expect(cache.bytes).toBe(cache.report().bytes.total);
  }
  return parts.map(floats);
}

beforeAll(async () => {
  tiny = await openTiny();
  for (const rotary of ['rotate-late', 'post-rope'] as const) models.set(rotary, await tiny.load({ rotary, rank: tiny.width }));
  inputs = await conversation(tiny, [ask('What is in these, and in what order do they come?', 3)], [1, 2, 3]);
  const answer = await greedy(tiny.stock, inputs, STEPS);
  whole = [...(inputs.input_ids.data as BigInt64Array), ...(answer[0] as number[]).map(BigInt)];
  const all = { ...inputs, input_ids: int64([whole]), attention_mask: int64([whole.map(() => 1)]) };
  const logits = await logitsOf(tiny.stock, all);
  vocab = logits.dims[2] as number;
  stockLogits = floats(logits);
});
afterAll(() => tiny[Symbol.asyncDispose]());

const answerOf = (): bigint[] => whole.slice(inputs.input_ids.dims[1]);

describe.each(['rotate-late', 'post-rope'] as const)('%s', (rotary) => {
  const model = (): Packed => models.get(rotary) as Packed;

  test.each(RUNS)('at full rank packed text gives the logits of the stock model in prompt and twenty steps, with %o', async (options) => {
    await using cache = new PackedCache(model(), options);
    const parts = await stepwise(model(), inputs, [answerOf()], cache);
    expectClose(
      parts.flatMap((part) => [...part]),
      stockLogits,
    );
    const { packedTextTokens, packedImages } = cache.report();
    expect(packedImages).toBe(3);
    expect(packedTextTokens).toBeGreaterThan(20);
  });

  test.each([RUNS[2], RUNS[3], RUNS[4]])('left-padded sequences give what they give alone, with %o', async (options) => {
    const alone = [
      await conversation(tiny, [ask('Two of them, and quite some text behind to be packed.', 2)], [1, 2]),
      await conversation(tiny, [ask('None here')]),
    ];
    const batch = leftPadded(alone);
    const answers: bigint[][] = [];
    const wanted: Float32Array[] = [];
    for (const prompt of alone) {
      const answer = ((await greedy(tiny.stock, prompt, STEPS))[0] as number[]).map(BigInt);
      while (answer.length < STEPS) answer.push(5n);
      answers.push(answer);
      const ids = [...(prompt.input_ids.data as BigInt64Array), ...answer];
      const logits = await logitsOf(tiny.stock, { ...prompt, input_ids: int64([ids]), attention_mask: int64([ids.map(() => 1)]) });
      wanted.push(floats(logits).subarray(-(STEPS + 1) * vocab));
    }
    await using cache = new PackedCache(model(), options);
    const parts = await stepwise(model(), batch as Prompt, answers, cache);
    for (const [b, stock] of wanted.entries()) {
      const own = parts.flatMap((part) => [...part.subarray(((b + 1) * part.length) / 2 - vocab, ((b + 1) * part.length) / 2)]);
      expectClose(own, stock);
    }
    expect(cache.report().packedTextTokens).toBeGreaterThan(40);
  });

  test.each([RUNS[0], RUNS[3], RUNS[4]])('a second turn with another image goes on, and is forgotten again, with %o', async (options) => {
    const next = await conversation(tiny, [ask('And this?', 1)], [7]);
    const input_ids = cat([int64([whole]), next.input_ids], 1);
    const pixel_values = cat([inputs.pixel_values as Tensor, next.pixel_values as Tensor], 0);
    const second = { input_ids, attention_mask: int64([new Array<number>(input_ids.dims[1] as number).fill(1)]), pixel_values };
    const wanted = await greedy(tiny.stock, second, 8);
    await using cache = new PackedCache(model(), options);
    await stepwise(model(), inputs, [answerOf()], cache);
    const { tokens, packedTextTokens, packedTokens } = cache.report();
    for (let i = 0; i < 2; i++) {
      expect(await greedy(model(), { ...second, past_key_values: cache }, 8)).toEqual(wanted);
      expect(cache.report().packedImages).toBe(4);
      expect(cache.report().packedTextTokens).toBeGreaterThan(packedTextTokens);
      cache.crop(tokens);
      expect(cache.report()).toMatchObject({ tokens, packedTokens });
      expect(cache.bytes).toBe(cache.report().bytes.total);
    }
    // To before the answer, then to behind the last image: both cut packed text.
    const length = inputs.input_ids.dims[1] as number;
    cache.crop(length - 3);
    const behind = { ...inputs, pixel_values: undefined, past_key_values: cache };
    expect(await greedy(model(), behind, 8)).toEqual(await greedy(tiny.stock, inputs, 8));
    cache.crop();
    expect(await greedy(model(), behind, 8)).toEqual(await greedy(tiny.stock, inputs, 8));
    expect(cache.bytes).toBe(cache.report().bytes.total);
  });
});

/** Mean over the answer of the largest logit's difference, text packed at a rank. */
async function errorAt(rank: number, options: CacheOptions): Promise<number> {
  const model = models.get('rotate-late') as Packed;
  await using cache = new PackedCache(model, { ...options, rank });
  const parts = await stepwise(model, inputs, [answerOf()], cache);
  const steps = parts.slice(1);
  const behind = stockLogits.subarray(-STEPS * vocab);
  return steps.reduce((sum, part, n) => sum + largestDifference(part, behind.subarray(n * vocab, (n + 1) * vocab)), 0) / STEPS;
}

test.each([
  { options: { text: { every: 10, recent: 2 } }, measured: [1.41, 0.067] },
  { options: { text: { every: 10, recent: 2 }, basisPer: 'context' }, measured: [2.12, 0.49, 0.081] },
  { options: { text: { every: 10, recent: 2 }, basisPer: 'context', compactAt: 'span', tolerance: 0 }, measured: [3.84, 3.42, 2.54] },
] as const)(
  'logits move away as the rank falls at which text is packed too, and by no more than was measured: $options',
  async ({ options, measured }) => {
    const errors: number[] = [];
    for (const rank of [8, 16, 32, tiny.width]) errors.push(await errorAt(rank, options));
    for (const [i, error] of measured.entries()) {
      expect(errors[i], errors.join(', ')).toBeLessThan(1.5 * error);
      expect(errors[i], errors.join(', ')).toBeGreaterThan(error / 1.5);
    }
    expect(errors.at(-1)).toBeLessThan(TOLERANCE);
    expect(errors).toEqual([...errors].sort((a, b) => b - a));
  },
);

test.each([
  { types: { codes: 'float16', basis: 'float16' }, options: {}, measured: { image: 0.0046, context: 0.007 } },
  { types: { codes: 'int8' }, options: {}, measured: { image: 0.048, context: 0.057 } },
  { types: { codes: 'mixed', basis: 'mixed' }, options: { bits: 8 }, measured: { image: 0.171, context: 0.093 } },
  { types: { codes: 'mixed', basis: 'mixed' }, options: { bits: 4 }, measured: { image: 0.171, context: 0.129 } },
] as const)('packed text is as exact as its element types: $types $options', async ({ types, options, measured }) => {
  const model = await tiny.load({ ...types, rank: tiny.width });
  for (const basisPer of ['image', 'context'] as const) {
    await using cache = new PackedCache(model, { ...options, basisPer, text: { every: 10, recent: 2 } });
    const parts = await stepwise(model, inputs, [answerOf()], cache);
    const error = largestDifference(
      parts.flatMap((part) => [...part]),
      stockLogits,
    );
    expect(cache.report().packedTextTokens).toBeGreaterThan(20);
    expect(error, basisPer).toBeLessThan(1.5 * measured[basisPer]);
    expect(error, basisPer).toBeGreaterThan(measured[basisPer] / 1.5);
  }
});
