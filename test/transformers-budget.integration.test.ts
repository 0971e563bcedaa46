/** A budget of bytes through the real transformers.js: met to within the next useful step, never passed, and told. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type CacheOptions, PackedCache, type Prompt } from '../src/index.ts';
import { AUTO_ERROR } from '../src/options/preset.ts';
import {
  ask,
  conversation,
  floats,
  greedy,
  largestDifference,
  leftPadded,
  logitsOf,
  openTiny,
  type Packed,
  type Tiny,
} from './support/tiny.ts';

let tiny: Tiny;
let inputs: Prompt;
let stockLogits: Float32Array;
const models = new Map<string, Packed>();

const GRAPHS = {
  mixed: { compression: 1.1 },
  'mixed, post-rope': { compression: 1.1, rotary: 'post-rope' },
  'ranks only': { compression: 1.1, codes: 'float16', basis: 'float16' },
  'int8 codes': { compression: 1.1, codes: 'int8', basis: 'float16' },
  'in tiers': { compression: 1.1, rotary: 'post-rope', tiers: { share: 0.25, rank: 2 } },
} as const;

beforeAll(async () => {
  tiny = await openTiny({ numKvHeads: 2 });
  inputs = await conversation(tiny, [ask('What is in these?', 3)], [1, 2, 3]);
  stockLogits = floats(await logitsOf(tiny.stock, inputs));
  for (const [name, options] of Object.entries(GRAPHS)) models.set(name, await tiny.load(options));
});
afterAll(() => tiny[Symbol.asyncDispose]());

const model = (name: string): Packed => models.get(name) as Packed;

async function packedWith(name: string, options: CacheOptions, prompt: Prompt = inputs) {
  const cache = new PackedCache(model(name), options);
  const logits = floats(await logitsOf(model(name), { ...prompt, past_key_values: cache }));
  return { cache, logits, report: cache.report() };
}

describe.each(Object.keys(GRAPHS))('%s', (name) => {
  test.each([
    {},
    { basisPer: 'context' },
    { compactAt: 'span', chunk: 7 },
    { sink: 0, chunk: 5 },
    { recent: 12 },
    { text: { every: 4, recent: 3 } },
    { text: { every: 6, recent: 0 }, chunk: 5 },
    { text: { every: 2, recent: 5 }, basisPer: 'context' },
    { text: { every: 3, recent: 9 }, basisPer: 'context', chunk: 7 },
    { evict: { policy: 'key-norm', keep: 0.6, when: 'packing' }, chunk: 5 },
  ] as readonly CacheOptions[])('a compression is met as decided, to the byte, with %o', async (options) => {
    for (const compression of [1.05, 1.3]) {
      const { cache, report } = await packedWith(name, { ...options, compression });
      const { allocation } = report;
      expect(cache.bytes).toBe(report.bytes.total);
      expect(allocation?.bytes).toBe(report.bytes.total);
      expect(report.compression).toBeGreaterThanOrEqual(compression);
      expect(allocation?.budgetBytes).toBe(Math.floor(report.denseFp16Bytes / compression));
      expect(allocation?.overBytes).toBe(0);
      const sides = allocation?.layers.flatMap(({ keys, values }) => [keys, values]) ?? [];
      expect(sides.reduce((sum, { bytes }) => sum + bytes, 0)).toBeLessThan(report.bytes.total);
      expect(sides.reduce((sum, { errorShare }) => sum + errorShare, 0)).toBeCloseTo(1, 6);
      await cache.dispose();
    }
  });
});

test('more bytes bring logits nearer to the stock model', async () => {
  const differences: number[] = [];
  for (const compression of [1.5, 1.3, 1.1]) {
    const { cache, logits } = await packedWith('mixed', { compression, sink: 0 });
    differences.push(largestDifference(logits, stockLogits));
    await cache.dispose();
  }
  expect(differences[2]).toBeLessThan(differences[0] as number);
});

test('batches of ragged prompts meet it too', async () => {
  const pair = [await conversation(tiny, [ask('A longer question about one', 1)], [1]), await conversation(tiny, [ask('?', 2)], [2, 4])];
  const { cache, report } = await packedWith('mixed', { compression: 1.1 }, leftPadded(pair) as unknown as Prompt);
  expect(report.sequences).toBe(2);
  expect(report.allocation?.bytes).toBe(report.bytes.total);
  expect(report.compression).toBeGreaterThanOrEqual(1.1);
  await cache.dispose();
});

describe('a budget in bytes', () => {
  test('holds for the first images, tells what answers add, and refuses further ones that do not fit', async () => {
    const { cache, report } = await packedWith('mixed', { budget: '14kB', basisPer: 'image' });
    expect(report.allocation?.budgetBytes).toBe(14_000);
    expect(report.bytes.total).toBeLessThanOrEqual(14_000);
    await cache.dispose();

    await using chat = new PackedCache(model('mixed'), { budget: 14_000 });
    await greedy(model('mixed'), { ...inputs, past_key_values: chat }, 40);
    expect(chat.report().allocation?.overBytes).toBe(Math.max(0, chat.bytes - 14_000));
    const before = chat.report();
    const turns = [
      ask('What is in these?', 3),
      { role: 'assistant', content: [{ type: 'text', text: 'x' }] },
      ask('and these?', 3),
    ] as const;
    const next = await conversation(tiny, turns as never, [1, 2, 3, 4, 5, 6]);
    chat.crop();
    await expect(greedy(model('mixed'), { ...next, past_key_values: chat })).rejects.toThrow(/budget 14000 is exceeded by \d+ bytes/);
    expect(chat.report().packedImages).toBe(before.packedImages);
    expect(chat.bytes).toBe(chat.report().bytes.total);
  });

  test('too small for one column is an error with the numbers', async () => {
    await expect(packedWith('mixed', { budget: 500 })).rejects.toThrow(
      /budget 500 asks for 500 bytes at most, but text, .* use budget >= \d+/,
    );
    await expect(packedWith('mixed', { compression: 50 })).rejects.toThrow(/use compression <= [\d.]+, or preset 'auto'/);
  });
});

test("preset 'auto' shares out the images' bytes, whatever the text", async () => {
  const auto = await tiny.load({ preset: 'auto' });
  await using cache = new PackedCache(auto);
  await greedy(auto, { ...inputs, past_key_values: cache });
  const report = cache.report();
  expect(report.allocation?.asked).toBe("preset 'auto'");
  // Columns that were never factored count as left out: else few of them would be enough.
  expect(report.allocation?.outputError).toBeLessThanOrEqual(AUTO_ERROR);
  expect(report.allocation?.outputError).toBeGreaterThan(AUTO_ERROR / 4);
  expect(report.columnBits?.length).toBeGreaterThan(0);
});

test("preset 'paper' says where its rank does not fit", async () => {
  const paper = await tiny.load({ preset: 'paper' });
  await using cache = new PackedCache(paper);
  await greedy(paper, { ...inputs, past_key_values: cache });
  const report = cache.report();
  expect(report.ranks.keys).toBeLessThanOrEqual(tiny.width);
  expect(report.notes).toEqual([expect.stringContaining(`exceeds the ${tiny.width} columns`)]);
  expect(report.rotary).toBe('rotate-late');
  expect(report.tiers).toMatchObject({ share: 0.25, of: 'both' });
});

test('what excludes one another is refused', async () => {
  const refused = (options: CacheOptions) => (message: string) => expect(() => new PackedCache(model('mixed'), options)).toThrow(message);
  refused({ compression: 8, rank: 4 })('compression and rank both say how much is kept; give one of them');
  refused({ compression: 8, budget: 4 })('compression and budget both say how much is kept');
  refused({ preset: 'auto', bits: 4 })("preset 'auto' and bits both say how much is kept");
  refused({ compression: 0.5 })('compression must be a number >= 1');
  refused({ budget: '12 apples' })("budget must be a number of bytes, or text such as '256MB' or '1.5GiB', got '12 apples'");
  refused({ compression: 2, basisPer: 'context', compactAt: 'span' })('compression 2 cannot be had of a basis that grows');
  refused({ compression: 2, text: 'packed', compactAt: 'span' })("compression 2 cannot be had of packed text with compactAt 'span'");
  refused({ compression: 2, text: 'packed', recent: 3 })('compression 2 cannot be had of packed text with recent 3');
  refused({ rank: 4, spend: 'energy' })('spend says what bytes are shared out for');
});
