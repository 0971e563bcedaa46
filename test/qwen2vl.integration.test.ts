/** Qwen2-VL through transformers.js: pictures of any shape, clips, turns and batches, packed at full rank as the dense model reads them. */
import path from 'node:path';
import { AutoModelForImageTextToText, cat, env, Tensor } from '@huggingface/transformers';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { convertCheckpoint } from '../src/convert/index.ts';
import { type Message, PackedCache, type Prompt, packed, question } from '../src/index.ts';
import { conversationPositions } from '../src/positions.ts';
import { int64, removeFolder, temporaryFolder } from './support/models.ts';
import { QWEN2VL_FIXTURES, QWEN2VL_KINDS, readCases, visionFeeds } from './support/qwen2vl.ts';
import { ask, expectClose, floats, generate, greedy, logitsOf, type Packed, type Tiny } from './support/tiny.ts';
import { IMAGE_PAD, openTinyQwen2Vl, shown, slowGreedy } from './support/tiny-qwen2vl.ts';

// Pictures this small are cheaper to score by keys rebuilt. Here every step scores them by axes, whatever it costs.
vi.mock('../src/cache/by-axes.ts', () => ({
  mostNewByAxes: (_: unknown, tables: { order: unknown[] }) => (tables.order.length ? 1e6 : 0),
}));

let tiny: Tiny;
/** Scores packed keys by their places in time, height and width. */
let model: Packed;
/** Turns them late, by the same places. */
let late: Packed;
let postRope: Packed;

beforeAll(async () => {
  env.allowRemoteModels = false; // or the fixtures' missing generation_config.json would be asked for there
  tiny = await openTinyQwen2Vl();
  model = await tiny.load({ rank: tiny.width });
  late = await tiny.load({ rank: tiny.width, rotary: 'rotate-late' });
  postRope = await tiny.load({ rank: tiny.width, rotary: 'post-rope' });
}, 60_000);
afterAll(() => tiny[Symbol.asyncDispose]());

type Sizes = readonly (readonly [number, number])[];
const PROMPTS: readonly [string, readonly Message[], Sizes, number][] = [
  ['one picture', [ask('What?', 1)], [[3, 2]], 1],
  ['two pictures of different shapes', [ask('Which?', 2)], [[2, 4], [5, 1]], 2], // biome-ignore format: sizes side by side
  ['a clip', [question('Then?', 3, { clip: true })], [[2, 2], [2, 2], [2, 2]], 1], // biome-ignore format: as above
  ['a clip longer than it is wide', [question('And?', 5, { clip: true })], [[2, 1], [2, 1], [2, 1], [2, 1], [2, 1]], 1], // biome-ignore format: as above
  [
    'a clip between pictures',
    [
      ask('Look', 1),
      { role: 'assistant', content: 'yes' },
      { role: 'user', content: [{ type: 'clip', frames: 2 }, { type: 'text', text: 'and' }, { type: 'image' }] },
    ],
    [[2, 2], [3, 1], [3, 1], [1, 4]], // biome-ignore format: as above
    3,
  ],
  ['no picture', [ask('Just words')], [], 0],
];

describe.each(PROMPTS)('%s', (_, messages, sizes, numImages) => {
  let inputs: Prompt;
  beforeAll(async () => {
    inputs = await shown(tiny, messages, sizes);
  });

  test.each([
    ['m-rope', 'context', false],
    ['m-rope', 'span', false],
    ['m-rope', 'context', true],
    ['m-rope', 'span', true],
    ['rotate-late', 'context', false],
    ['rotate-late', 'span', false],
    ['rotate-late', 'span', true],
    ['post-rope', 'span', false],
  ] as const)('gives the dense logits in %s, packed at the end of each %s, text too: %s', async (rotary, compactAt, withText) => {
    const packed = { 'm-rope': model, 'rotate-late': late, 'post-rope': postRope }[rotary];
    await using cache = new PackedCache(packed, { compactAt, chunk: 7, sink: 1, ...(withText && { text: { every: 3, recent: 1 } }) });
    const logits = await logitsOf(packed, { ...inputs, past_key_values: cache });
    if (withText) expect(cache.report().packedTextTokens).toBeGreaterThan(3);
    expectClose(floats(logits), floats(await logitsOf(tiny.stock, inputs)));
    expect(cache.report()).toMatchObject({ packedImages: numImages, rotary });
    expect(cache.bytes).toBe(cache.report().bytes.total);
  });

  test('generates the dense tokens', async () => {
    await using cache = new PackedCache(model);
    const wanted = await slowGreedy(tiny.stock, inputs, 20);
    expect(await greedy(model, { ...inputs, past_key_values: cache }, 20)).toEqual(wanted);
    expect(await greedy(postRope, inputs, 20)).toEqual(wanted);
  });
});

test('a prompt with pictures gives stock transformers.js’s tokens', async () => {
  for (const [, messages, sizes] of PROMPTS.filter(([, , , numImages]) => numImages)) {
    const inputs = await shown(tiny, messages, sizes);
    expect(await greedy(model, inputs, 8)).toEqual(await greedy(tiny.stock, inputs, 8));
  }
});

describe.each(QWEN2VL_KINDS)('%s, packed', (kind) => {
  let packedKind: Packed;
  let folder: string;
  beforeAll(async () => {
    folder = temporaryFolder();
    const out = path.join(folder, 'model');
    await convertCheckpoint({ from: path.join(QWEN2VL_FIXTURES, kind), out, dtype: 'fp32' });
    packedKind = await packed(AutoModelForImageTextToText, out, { dtype: 'fp32', rank: 32 });
  }, 60_000);
  afterAll(async () => {
    await packedKind.dispose();
    removeFolder(folder);
  });

  test.each([...readCases(kind)].filter(([, { greedy }]) => greedy))('generates the tokens PyTorch generates for %s', async (_, golden) => {
    const { inputIds, mask, grids } = golden;
    const pictures = grids.length > 0 && {
      pixel_values: new Tensor('float32', golden.pixels, visionFeeds(golden).pixel_values?.dims as number[]),
      image_grid_thw: int64(grids),
    };
    const sequences = await generate(packedKind, {
      input_ids: int64(inputIds),
      attention_mask: int64(mask),
      ...pictures,
      max_new_tokens: golden.greedy?.[0]?.length,
      do_sample: false,
    });
    const tokens = (sequences.tolist() as bigint[][]).map((row) => row.slice(inputIds[0]?.length).map(Number));
    golden.greedy?.forEach((wanted, b) => {
      const end = wanted.indexOf(2); // PyTorch pads a sequence behind its end token
      const upTo = end < 0 ? wanted.length : end + 1;
      expect(tokens[b]?.slice(0, upTo)).toEqual(wanted.slice(0, upTo));
    });
  });
});

describe('a later turn', () => {
  let first: Prompt;
  let second: Prompt;
  let wanted: number[][];
  let answered: Tensor;

  beforeAll(async () => {
    first = await shown(tiny, [ask('What are these?', 2)], [[3, 2], [1, 2]]); // biome-ignore format: sizes side by side
    answered = await generate(model, { ...first, max_new_tokens: 5, do_sample: false });
    const next = await shown(tiny, [ask('And this?', 1)], [[2, 3]]);
    const input_ids = cat([answered, next.input_ids], 1);
    second = {
      input_ids,
      attention_mask: int64([new Array<number>(input_ids.dims[1] ?? 0).fill(1)]),
      pixel_values: cat([first.pixel_values as Tensor, next.pixel_values as Tensor], 0),
      image_grid_thw: cat([first.image_grid_thw as Tensor, next.image_grid_thw as Tensor], 0),
    };
    wanted = await slowGreedy(tiny.stock, second);
  });

  test.each(['all pictures', 'only the new one'])('that adds a picture goes on as one long prompt with %s', async (which) => {
    await using cache = new PackedCache(model, { compactAt: 'span' });
    await generate(model, { ...first, past_key_values: cache, max_new_tokens: 5, do_sample: false });
    const { pixel_values, image_grid_thw, ...text } = second;
    const rows = (first.pixel_values as Tensor).dims[0] as number;
    const pictures =
      which === 'all pictures'
        ? { pixel_values, image_grid_thw }
        : { pixel_values: pixel_values?.slice([rows, null as never]), image_grid_thw: image_grid_thw?.slice([2, 3]) };
    expect(await greedy(model, { ...text, ...pictures, past_key_values: cache })).toEqual(wanted);
    expect(cache.report().packedImages).toBe(3);
  });

  test('without pictures goes on, whether the old ones come along or not', async () => {
    const next = await shown(tiny, [ask('Why?')], []);
    const input_ids = cat([answered, next.input_ids], 1);
    const text = { input_ids, attention_mask: int64([new Array<number>(input_ids.dims[1] ?? 0).fill(1)]) };
    const pictures = { pixel_values: first.pixel_values, image_grid_thw: first.image_grid_thw };
    const truth = await slowGreedy(tiny.stock, { ...text, ...pictures });
    for (const given of [text, { ...text, ...pictures }]) {
      await using cache = new PackedCache(model);
      await generate(model, { ...first, past_key_values: cache, max_new_tokens: 5, do_sample: false });
      expect(await greedy(model, { ...given, past_key_values: cache })).toEqual(truth);
    }
  });

  test('crop goes back to before a picture, and positions with it', async () => {
    await using cache = new PackedCache(model, { compactAt: 'span' });
    await model({ ...first, past_key_values: cache });
    await greedy(model, { ...second, past_key_values: cache }, 3);
    cache.crop(first.input_ids.dims[1] as number);
    expect(await greedy(model, { ...second, past_key_values: cache })).toEqual(wanted);
  });

  test('a forward pass over new tokens alone goes on behind the pictures', async () => {
    const cut = (first.input_ids.dims[1] as number) - 6;
    const stock = floats(await logitsOf(tiny.stock, first));
    await using cache = new PackedCache(model);
    const position_ids = conversationPositions(tiny.stock, first)?.slice(null, null, [0, cut]); // may be said, if they are right
    await model({
      ...first,
      position_ids,
      input_ids: first.input_ids.slice(null, [0, cut]),
      attention_mask: undefined,
      past_key_values: cache,
    });
    const logits = floats(await logitsOf(model, { input_ids: first.input_ids.slice(null, [cut, cut + 6]), past_key_values: cache }));
    expectClose(logits, stock.subarray(-logits.length));
  });
});

test('a left-padded batch gives each sequence what it gets alone, pictures of a later turn included', async () => {
  const rows = [
    await shown(tiny, [ask('A longer question than the other one', 1)], [[2, 2]]),
    await shown(tiny, [ask('Short', 2)], [[1, 3], [2, 1]]), // biome-ignore format: sizes side by side
  ];
  const alone = [(await slowGreedy(tiny.stock, rows[0] as Prompt))[0], (await slowGreedy(tiny.stock, rows[1] as Prompt))[0]];
  await using cache = new PackedCache(model);
  const batch = padded(rows);
  expect(await greedy(model, { ...batch, past_key_values: cache })).toEqual(alone);
  cache.crop(batch.input_ids.dims[1] as number);

  const more = [await shown(tiny, [ask('n', 1)], [[3, 1]]), await shown(tiny, [ask('m', 1)], [[1, 1]])];
  const longer = rows.map((row, b) => joined(row, more[b] as Prompt));
  const truth = [(await slowGreedy(tiny.stock, longer[0] as Prompt))[0], (await slowGreedy(tiny.stock, longer[1] as Prompt))[0]];
  // The cache keeps the padding it was begun with; the new turns are padded among themselves.
  const turns = padded(more);
  const { pixel_values, image_grid_thw } = padded(longer);
  const input_ids = cat([batch.input_ids, turns.input_ids], 1);
  const attention_mask = cat([batch.attention_mask, turns.attention_mask], 1);
  expect(await greedy(model, { input_ids, attention_mask, pixel_values, image_grid_thw, past_key_values: cache })).toEqual(truth);
});

/** One conversation behind another, pictures of both. */
function joined(a: Prompt, b: Prompt): Prompt {
  const input_ids = cat([a.input_ids, b.input_ids], 1);
  return {
    input_ids,
    attention_mask: cat([a.attention_mask, b.attention_mask], 1),
    pixel_values: cat([a.pixel_values as Tensor, b.pixel_values as Tensor], 0),
    image_grid_thw: cat([a.image_grid_thw as Tensor, b.image_grid_thw as Tensor], 0),
  };
}

function padded(prompts: readonly Prompt[]): Prompt {
  const rows = prompts.map(({ input_ids }) => [...(input_ids.data as BigInt64Array)]);
  const longest = Math.max(...rows.map((row) => row.length));
  const fill = (row: readonly bigint[]): bigint[] => new Array<bigint>(longest - row.length).fill(0n);
  return {
    input_ids: int64(rows.map((row) => [...fill(row), ...row])),
    attention_mask: int64(rows.map((row) => [...fill(row), ...row.map(() => 1n)])),
    pixel_values: cat(
      prompts.map(({ pixel_values }) => pixel_values as Tensor),
      0,
    ),
    image_grid_thw: cat(
      prompts.map(({ image_grid_thw }) => image_grid_thw as Tensor),
      0,
    ),
  };
}

describe('mistakes', () => {
  test.each<[string, (inputs: Prompt) => object, RegExp]>([
    ['grids without patches', ({ pixel_values: _, ...rest }) => rest, /new image tokens but no pixel_values/],
    ['patches without grids', ({ image_grid_thw: _, ...rest }) => rest, /new image tokens but no image_grid_thw/],
    ['grids of other pictures', (inputs) => ({ ...inputs, image_grid_thw: int64([[1, 2, 2], [1, 2, 2]]) }), /12 new image tokens, but image_grid_thw makes 2/], // biome-ignore format: one case a line
    ['positions of their own', (inputs) => ({ ...inputs, position_ids: int64([[1]]) }), /position_ids \[1,1\] are not those of these/],
  ])('%s are refused', async (_, spoil, message) => {
    const inputs = await shown(tiny, [ask('?', 2)], [[2, 4], [4, 1]]); // biome-ignore format: sizes side by side
    await using cache = new PackedCache(model);
    await expect(model({ ...spoil(inputs), past_key_values: cache })).rejects.toThrow(message);
    expect(cache.get_seq_length()).toBe(0);
  });

  test('frames of a clip that differ in size are refused with both sizes', async () => {
    const clip = shown(tiny, [question('?', 2, { clip: true })], [[2, 2], [2, 3]]); // biome-ignore format: sizes side by side
    await expect(clip).rejects.toThrow('frame 2 of a clip is 6 x 4 patches, frame 1 4 x 4; give frames of one size');
  });

  test('pictures too few for the parts are refused', async () => {
    await expect(shown(tiny, [question('?', 3, { clip: true })], [[2, 2]])).rejects.toThrow(/for 3 images but 1 images were given/);
  });
});

test('a prompt has one placeholder for each token of a picture, and one run for a clip', async () => {
  const inputs = await shown(tiny, [ask('?', 1), question('?', 2, { clip: true })], [[3, 2], [2, 2], [2, 2]]); // biome-ignore format: sizes side by side
  const text = (inputs.input_ids.tolist() as bigint[][])[0]?.map(Number).join(' ') ?? '';
  expect([...text.matchAll(new RegExp(`(${IMAGE_PAD} )+`, 'g'))].map(([run]) => run.length / 2)).toEqual([6, 8]);
  expect(inputs.image_grid_thw?.tolist()).toEqual([[1n, 4n, 6n], [2n, 4n, 4n]]); // biome-ignore format: grids side by side
  expect(inputs.pixel_values?.dims).toEqual([24 + 32, 3 * 2 * 16]);
});
