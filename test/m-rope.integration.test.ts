/** `m-rope` beside `rotate-late` at ranks that lose something: the same codes and bases, the same logits, whichever way a step takes. */
import { env, type Tensor } from '@huggingface/transformers';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { type CacheReport, type Message, PackedCache, type Prompt, question } from '../src/index.ts';
import { int64 } from './support/models.ts';
import { ask, expectClose, floats, largestDifference, leftPadded, logitsOf, type Packed, type Tiny } from './support/tiny.ts';
import { openTinyQwen2Vl, shown } from './support/tiny-qwen2vl.ts';

/** What `mostNewByAxes` says here, where something is packed: pictures this small would never be scored by axes. */
const { choice } = vi.hoisted(() => ({ choice: { mostNew: 0 } }));
vi.mock('../src/cache/by-axes.ts', () => ({
  mostNewByAxes: (_: unknown, tables: { order: unknown[] }) => (tables.order.length ? choice.mostNew : 0),
}));

/** A step of one new token scores by axes, others by keys rebuilt, as it is with large pictures; or all by one of them. */
const CHOICES = [
  ['always by axes', 1e6],
  ['by axes in steps of one token', 1],
  ['never by axes', 0],
] as const;

const RANK = 5;
const NUM_STEPS = 20;
/** Both ways sum the same products in another order; 5e-6 is seen of logits up to 6. */
const SAME = 1e-5;

let tiny: Tiny;
let byAxes: Packed;
let late: Packed;

beforeAll(async () => {
  env.allowRemoteModels = false;
  tiny = await openTinyQwen2Vl();
  byAxes = await tiny.load({ rank: RANK });
  late = await tiny.load({ rank: RANK, rotary: 'rotate-late' });
}, 60_000);
afterAll(() => tiny[Symbol.asyncDispose]());

/** Logits of a prompt in chunks, and of as many single tokens behind it, of each sequence the same; then what the cache held. */
async function run(model: Packed, inputs: Prompt, options: object): Promise<{ logits: Float32Array[]; report: CacheReport }> {
  await using cache = new PackedCache(model, { chunk: 6, sink: 1, ...options });
  const logits = [floats(await logitsOf(model, { ...inputs, past_key_values: cache }))];
  const { attention_mask, input_ids } = inputs;
  const [batch = 1] = input_ids.dims;
  let mask = attention_mask.tolist() as bigint[][];
  for (let step = 0; step < NUM_STEPS; step++) {
    mask = mask.map((row) => [...row, 1n]);
    const next = { input_ids: int64(Array.from({ length: batch }, () => [30 + step])), attention_mask: int64(mask) };
    logits.push(floats(await logitsOf(model, { ...next, past_key_values: cache })));
  }
  const report = cache.report();
  expect(cache.bytes).toBe(report.bytes.total);
  return { logits, report };
}

async function expectSame(inputs: Prompt, options: object = {}, models: readonly [Packed, Packed] = [byAxes, late]): Promise<void> {
  const [a, b] = [await run(models[0], inputs, options), await run(models[1], inputs, options)];
  a.logits.forEach((logits, step) => {
    expectClose(logits, b.logits[step] as Float32Array, SAME);
  });
  expect(a.report).toMatchObject({ rotary: 'm-rope', byAxes: choice.mostNew, ranks: b.report.ranks, packedTokens: b.report.packedTokens });
  // A later picture's keys differ by the rounding of what its tokens saw.
  for (const side of ['keys', 'values'] as const) expect(a.report.lostEnergy[side]).toBeCloseTo(b.report.lostEnergy[side], 6);
  const { codes, bases, window } = b.report.bytes;
  expect(a.report.bytes).toMatchObject({ codes, bases, window });
  // What packing loses is far more than what both differ by, or nothing would be said.
  const dense = floats(await logitsOf(tiny.stock, inputs as never));
  expect(largestDifference((b.logits[0] as Float32Array).subarray(-dense.length), dense)).toBeGreaterThan(1e-3);
}

type Sizes = readonly (readonly [number, number])[];
const PROMPTS: readonly [string, readonly Message[], Sizes, object?][] = [
  ['a picture', [ask('What?', 1)], [[6, 5]]],
  ['two pictures of different sizes', [ask('Which?', 2)], [[3, 7], [8, 2]]], // biome-ignore format: sizes side by side
  ['two pictures that share a basis', [ask('Which?', 2)], [[3, 7], [8, 2]], { basisPer: 'context' }], // biome-ignore format: as above
  ['pictures packed one by one', [ask('Which?', 2)], [[3, 7], [4, 4]], { compactAt: 'span' }], // biome-ignore format: as above
  ['a clip', [question('Then?', 4, { clip: true })], [[4, 3], [4, 3], [4, 3], [4, 3]]], // biome-ignore format: as above
  ['a picture cut by the sink', [ask('What?', 1)], [[6, 5]], { sink: 9 }],
  ['a picture with evicted tokens', [ask('What?', 1)], [[6, 5]], { evict: { policy: 'random', keep: 0.6 } }],
];

describe.each(CHOICES)('%s', (_, mostNew) => {
  beforeAll(() => {
    choice.mostNew = mostNew;
  });

  test.each(PROMPTS)('%s', async (_, messages, sizes, options) => {
    await expectSame(await shown(tiny, messages, sizes), options);
  });

  test('a left-padded batch', async () => {
    const rows = [
      await shown(tiny, [ask('A longer question than the other one', 1)], [[5, 4]]),
      await shown(tiny, [ask('Short', 2)], [[2, 6], [3, 3]]), // biome-ignore format: sizes side by side
    ];
    const grids = rows.flatMap(({ image_grid_thw }) => (image_grid_thw as Tensor).tolist() as bigint[][]);
    await expectSame({ ...leftPadded(rows), image_grid_thw: int64(grids) } as Prompt);
  });
});

test.each([{ codes: 'float16', basis: 'float16' }, { codes: 'int8' }, { codes: 'mixed', basis: 'mixed' }] as const)('%o', async (types) => {
  choice.mostNew = 1e6;
  const rank = 12;
  const models = [await tiny.load({ ...types, rank }), await tiny.load({ ...types, rank, rotary: 'rotate-late' })] as const;
  await expectSame(await shown(tiny, [ask('Which?', 2)], [[3, 7], [8, 2]]), {}, models); // biome-ignore format: sizes side by side
});
