/** `inspect --spectrum`: the rows it looks at are the dense model's own, and the command tells them as table, JSON and SVG. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { AutoModelForImageTextToText, AutoProcessor, type PreTrainedModel, type Processor, type Tensor } from '@huggingface/transformers';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { EMBEDDED_MODEL } from '../src/cli/embedded.ts';
import { packed } from '../src/load.ts';
import type { PackedOptions } from '../src/options.ts';
import { prompt, question } from '../src/prompt.ts';
import { measureSpectra, type SpectrumReport } from '../src/spectrum/measure.ts';
import { groupNames } from '../src/spectrum/plot.ts';
import { collectRows, type PromptRows, SIDES } from '../src/spectrum/rows.ts';
import type { LostAt } from '../src/spectrum/spectrum.ts';
import { attentionpack, complaint, lastJson, type Result } from './support/cli.ts';
import { HEAD_DIM, NUM_LAYERS, picture, removeFolder, TOKENS_PER_IMAGE, temporaryFolder, writeTinyModel } from './support/models.ts';
import { openTinyQwen2Vl, shown } from './support/tiny-qwen2vl.ts';

const KV_HEADS = 2;
const WIDTH = KV_HEADS * HEAD_DIM;
let root: string;
let model: string;
let processor: Processor;
let inputs: Awaited<ReturnType<typeof prompt>>;

beforeAll(async () => {
  root = temporaryFolder();
  model = await writeTinyModel(root, { numKvHeads: KV_HEADS });
  processor = await AutoProcessor.from_pretrained(model);
  inputs = await prompt(processor, [question('What are these?', 3)], [picture(1), picture(2), picture(3)]);
});
afterAll(() => removeFolder(root));

async function rowsOf(options: PackedOptions, only?: readonly number[]): Promise<PromptRows> {
  await using loaded = await packed(AutoModelForImageTextToText, model, { dtype: 'fp32', rank: 8, ...options });
  return await collectRows(loaded, inputs, only);
}

/** Keys after rotary and values of the stock model, [T, W] for each layer. */
async function stockRows(): Promise<{ key: Float32Array; value: Float32Array }[]> {
  const stock: PreTrainedModel = await AutoModelForImageTextToText.from_pretrained(model, { dtype: 'fp32' });
  try {
    const outputs = (await stock(inputs)) as Record<string, Tensor>;
    return Array.from({ length: NUM_LAYERS }, (_, l) => {
      const [key, value] = (['key', 'value'] as const).map((side) => flat(outputs[`present.${l}.${side}`] as Tensor));
      return { key: key as Float32Array, value: value as Float32Array };
    });
  } finally {
    await stock.dispose();
  }
}

/** [1, Hkv, T, D] -> [T, W] */
function flat(tensor: Tensor): Float32Array {
  const [, heads = 0, tokens = 0, dim = 0] = tensor.dims;
  const data = tensor.data as Float32Array;
  return Float32Array.from({ length: heads * tokens * dim }, (_, i) => {
    const [t, h, d] = [Math.floor(i / (heads * dim)), Math.floor((i % (heads * dim)) / dim), i % dim];
    return data[(h * tokens + t) * dim + d] as number;
  });
}

/** The largest difference, as a share of the largest magnitude. */
function difference(own: Float32Array | undefined, other: Float32Array): number {
  expect(own?.length).toBe(other.length);
  const largest = other.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  return other.reduce((most, value, i) => Math.max(most, Math.abs(value - (own?.[i] ?? Number.NaN))), 0) / largest;
}

function energyOf(rows: Float32Array): number {
  return rows.reduce((total, value) => total + value * value, 0);
}

describe('rows of a prompt', () => {
  test('are the keys and values of the stock model, whatever the chunks', async () => {
    const stock = await stockRows();
    for (const chunk of [7, 256]) {
      const { numTokens, images, layers } = await rowsOf({ chunk });
      expect(numTokens).toBe(inputs.input_ids.dims[1]);
      expect(images.map(({ start, end }) => end - start)).toEqual([TOKENS_PER_IMAGE, TOKENS_PER_IMAGE, TOKENS_PER_IMAGE]);
      expect(layers).toHaveLength(NUM_LAYERS);
      for (const [l, { rows }] of layers.entries()) {
        // Float32 through two layers of products in another order.
        expect(difference(rows.keysAfterRotary, stock[l]?.key as Float32Array)).toBeLessThan(1e-5);
        expect(difference(rows.values, stock[l]?.value as Float32Array)).toBeLessThan(1e-5);
      }
    }
  });

  test('before and after rotary embedding have equal lengths, token by token, and differ but for the first', async () => {
    const { numTokens, layers } = await rowsOf({});
    for (const { rows } of layers) {
      const [before, after] = [rows.keysBeforeRotary as Float32Array, rows.keysAfterRotary as Float32Array];
      for (let t = 0; t < numTokens; t++) {
        const [one, other] = [before, after].map((keys) => keys.subarray(t * WIDTH, (t + 1) * WIDTH)) as [Float32Array, Float32Array];
        expect(energyOf(one) / energyOf(other)).toBeCloseTo(1, 4);
        if (t === 0) expect(difference(one, other)).toBeLessThan(1e-6);
        else expect(difference(one, other)).toBeGreaterThan(1e-3);
      }
    }
  });

  test('hold keys before rotary embedding only where the graph gives them, and only the layers asked for', async () => {
    const { layers } = await rowsOf({ rotary: 'post-rope' }, [1]);
    expect(layers.map(({ shape }) => shape.index)).toEqual([1]);
    expect(Object.keys(layers[0]?.rows ?? {})).toEqual(['keysAfterRotary', 'values']);
    const asked = (await rowsOf({ rotary: 'post-rope', rawKeys: true })).layers;
    for (const [l, { rows }] of (await rowsOf({})).layers.entries()) {
      expect(difference(asked[l]?.rows.keysBeforeRotary, rows.keysBeforeRotary as Float32Array)).toBeLessThan(1e-5);
    }
  });

  test('are not taken of a prompt without images or of layers there are not', async () => {
    await using loaded = await packed(AutoModelForImageTextToText, model, { dtype: 'fp32', rank: 8 });
    await expect(collectRows(loaded, inputs, [0, 2])).rejects.toThrow('there is no layer 2; the decoder has layers 0 to 1');
    await expect(collectRows(loaded, await prompt(processor, [question('What?', 0)], []))).rejects.toThrow(/no image tokens/);
  });
});

describe('rows of a Qwen2-VL prompt', () => {
  test('hold keys before rotary embedding on three axes: every rotary pair as long as after it', async () => {
    await using tiny = await openTinyQwen2Vl();
    await using loaded = await tiny.load({ rawKeys: true });
    const shownInputs = await shown(
      tiny,
      [{ role: 'user', content: [{ type: 'clip', frames: 2 }, { type: 'text', text: 'and' }, { type: 'image' }] }],
      [
        [3, 2],
        [3, 2],
        [1, 4],
      ],
    );
    const { numTokens, images, layers } = await collectRows(loaded, shownInputs);
    // Both frames of the clip are one visual input.
    expect(images.map(({ start, end }) => end - start)).toEqual([12, 4]);
    for (const { shape, rows } of layers) {
      const [before, after] = [rows.keysBeforeRotary as Float32Array, rows.keysAfterRotary as Float32Array];
      expect(before.length).toBe(numTokens * shape.numKvHeads * shape.headDim);
      const half = shape.headDim / 2;
      const pairs = (keys: Float32Array): Float32Array =>
        Float32Array.from({ length: keys.length / 2 }, (_, i) => {
          const at = Math.floor(i / half) * shape.headDim + (i % half);
          return Math.hypot(keys[at] as number, keys[at + half] as number);
        });
      expect(difference(pairs(before), pairs(after))).toBeLessThan(1e-5);
      expect(difference(before, after)).toBeGreaterThan(0.1);
    }
    const report = await measureSpectra({ numTokens, images, layers });
    expect(report.layers.map(({ sides }) => Object.keys(sides))).toEqual(layers.map(() => [...SIDES]));
    expect(report.layers[0]?.sides.values?.eachImage).toMatchObject({ matrices: 2, tokens: 8 });
  });
});

describe('spectra of a prompt', () => {
  test('keep images, text and sample apart', async () => {
    const rows = await rowsOf({});
    const calls: number[] = [];
    const report = await measureSpectra(rows, (done, of) => calls.push(done / of));
    expect(calls).toEqual(Array.from({ length: 6 }, (_, i) => i / 6));
    expect(report).toMatchObject({ images: 3, imageTokens: 3 * TOKENS_PER_IMAGE, tokens: rows.numTokens });
    for (const { sides } of report.layers) {
      for (const side of SIDES) {
        const { eachImage, allImages, text, sampledImages } = sides[side] ?? {};
        expect([eachImage?.matrices, eachImage?.tokens, allImages?.tokens]).toEqual([3, TOKENS_PER_IMAGE, 3 * TOKENS_PER_IMAGE]);
        expect(text?.tokens).toBe(rows.numTokens - 3 * TOKENS_PER_IMAGE);
        expect(sampledImages?.tokens).toBe(text?.tokens);
        // The energy of all images is that of each, added up.
        expect(((eachImage?.energy ?? 0) * 3) / (allImages?.energy ?? 0)).toBeCloseTo(1, 9);
      }
      // Rotation leaves every token as long as it was.
      expect((sides.keysBeforeRotary?.allImages.energy ?? 0) / (sides.keysAfterRotary?.allImages.energy ?? 0)).toBeCloseTo(1, 5);
    }
  });
});

describe('inspect --spectrum', () => {
  const svg = (name: string): string => path.join(root, name);

  async function pictureFile(seed: number, name: string): Promise<string> {
    const { data, width, height } = picture(seed);
    const file = path.join(root, name);
    mkdirSync(path.dirname(file), { recursive: true });
    writeFileSync(
      file,
      await sharp(data, { raw: { width, height, channels: 3 } })
        .png()
        .toBuffer(),
    );
    return file;
  }

  test('of the embedded model tells every layer within twenty seconds', async () => {
    const file = svg('curves/embedded.svg');
    const start = process.cpuUsage();
    const result: Result = await attentionpack('inspect', 'embedded', '--spectrum', '--svg', file, '--json');
    // Of processor time, over all threads: whatever else the machine does.
    const { user, system } = process.cpuUsage(start);
    const seconds = (user + system) / 1e6;
    expect(result.code, result.stderr).toBe(0);
    expect(seconds).toBeLessThan(20);
    const report = lastJson(result) as unknown as SpectrumReport & { model: string; pictures: string[] };
    expect(report).toMatchObject({ model: path.basename(EMBEDDED_MODEL), images: report.pictures.length });
    expect(report.imageTokens + report.textTokens).toBe(report.tokens);
    const drawn = readFileSync(file, 'utf8');
    expect(drawn).toMatch(/^<svg /);
    for (const { layer, sides } of report.layers) {
      expect(Object.keys(sides)).toEqual([...SIDES]);
      expect(drawn).toContain(`>layer ${layer}<`);
      for (const groups of Object.values(sides)) {
        for (const { curve, needed, effectiveRank, width } of Object.values(groups)) {
          expect(curve[0]?.rank).toBe(1);
          expect(curve.at(-1)).toMatchObject({ combined: 0, rank: expect.any(Number) });
          for (const of of ['combined', 'heads', 'headsBest', 'centred'] as const) falls(curve, of);
          expect(needed.map(({ lost }) => lost)).toEqual([0.1, 0.05, 0.01]);
          expect(effectiveRank).toBeGreaterThanOrEqual(1);
          expect(effectiveRank).toBeLessThanOrEqual(width);
        }
      }
    }
    for (const name of [...Object.values(groupNames(report)), 'keys before rotary', 'keys after rotary', 'values']) {
      expect(drawn).toContain(`>${name}<`);
    }
    expect(result.stdout).toContain('keys before rotary');
    expect(result.stdout).toMatch(/\bmean\b/);
  });

  test('takes pictures one by one and by the folder, a text, and single layers', async () => {
    const single = await pictureFile(1, 'one.png');
    const folder = path.dirname(await pictureFile(2, 'more/b.png'));
    await pictureFile(3, 'more/a.png');
    writeFileSync(path.join(folder, 'notes.txt'), 'no picture');
    const args = ['--image', single, `--image=${folder}`, '--text', 'Why?', '--layers', '1', '--json'];
    const result = await attentionpack('inspect', model, '--spectrum', ...args);
    expect(result.code, result.stderr).toBe(0);
    const report = lastJson(result) as unknown as SpectrumReport;
    expect(report).toMatchObject({ pictures: ['one.png', 'a.png', 'b.png'], text: 'Why?', images: 3 });
    expect(report.layers.map(({ layer }) => layer)).toEqual([1]);
  });

  test.each([
    [['--spectrum'], /^error: no images given, and .* has no demo pictures; name pictures or a folder with --image/],
    [['--spectrum', '--image', 'not-there.png'], /'not-there.png' does not exist/],
    [['--spectrum', 'a.png'], /inspect takes one model; got 'a.png' too: name pictures with --image/],
    [['--spectrum', '--image'], /--image needs a value/],
    [['--spectrum', '--layers', '0-3'], /--layers takes layer numbers with commas between, such as 0,15,31; got '0-3'/],
    [['--spectrum', '--svg', 'curves.png'], /--svg takes a file name that ends in .svg; got 'curves.png'/],
    [['--spectrum', '--dtype', 'fp16'], /has no fp16 weights; it has fp32/],
    [['--layers', '0'], /--layers goes with --spectrum only/],
    [['--image', 'a.png'], /--image goes with --spectrum only/],
  ] as const)('refuses %j', async (flags, message) => {
    expect(await complaint('inspect', model, ...flags)).toMatch(message);
  });

  test('refuses folders without pictures, layers the model has not, decoder files, and an SVG that cannot be written', async () => {
    const empty = path.join(root, 'empty');
    mkdirSync(empty, { recursive: true });
    const image = await pictureFile(1, 'one.png');
    expect(await complaint('inspect', model, '--spectrum', '--image', empty)).toMatch(/has no PNG, JPEG/);
    // A slow machine says first that it is loading the model.
    expect(await attentionpack('inspect', model, '--spectrum', '--image', image, '--layers', '7')).toMatchObject({
      code: 2,
      stdout: '',
      stderr: expect.stringMatching(/(^|\n)error: there is no layer 7; the decoder has layers 0 to 1\n$/),
    });
    expect(await complaint('inspect', path.join(model, 'onnx', 'decoder_model_merged.onnx'), '--spectrum', '--image', image)).toMatch(
      /is a file; give the folder/,
    );
    expect(await complaint('inspect', model, '--spectrum', '--image', image, '--svg', path.join(image, 'x.svg'))).toMatch(
      /--svg .*cannot be made/,
    );
    expect(existsSync(path.join(image, 'x.svg'))).toBe(false);
  });
});

function falls(curve: readonly LostAt[], of: 'combined' | 'heads' | 'headsBest' | 'centred'): void {
  for (const [i, at] of curve.entries()) {
    expect(at[of]).toBeGreaterThanOrEqual(0);
    if (i > 0) expect(at[of]).toBeLessThanOrEqual(curve[i - 1]?.[of] ?? 1);
  }
}
