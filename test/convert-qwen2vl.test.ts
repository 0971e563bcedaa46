/** Qwen2-VL checkpoints of both generations of config, converted, against PyTorch. */
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ConvertProgress, convertCheckpoint, type Dtype } from '../src/convert/index.ts';
import { ConvertedModel, difference, float32, type Values } from './support/converted.ts';
import { dequantisedTwin } from './support/dequantised-twin.ts';
import { type GoldenCase, positionsBetween, QWEN2VL_FIXTURES, QWEN2VL_KINDS, readCases, visionFeeds } from './support/qwen2vl.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'attentionpack-qwen2vl-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function converted(kind: string, dtype: Dtype): Promise<string> {
  const out = path.join(folder, `${kind}-${dtype}`);
  if (!existsSync(out)) await convertCheckpoint({ from: path.join(QWEN2VL_FIXTURES, kind), out, dtype });
  return out;
}

// As in convert.test.ts: logits within ±6, float32 on both sides.
const TOLERANCE = 1e-4;

async function promptLogits(model: ConvertedModel, golden: GoldenCase): Promise<Float32Array> {
  const features = golden.grids.length ? await model.imageFeatures(visionFeeds(golden)) : undefined;
  const embeds = await model.embeddings(golden.inputIds, features);
  const numTokens = golden.inputIds[0]?.length ?? 0;
  const { logits } = await model.step(embeds, golden.mask.flat(), undefined, 0, positionsBetween(golden, 0, numTokens));
  return logits?.data as Float32Array;
}

/** The largest difference over tokens that are no padding. */
function differenceOfReal(actual: Float32Array, { logits, mask }: GoldenCase): { max: number; mean: number; at: number } {
  const vocab = logits.length / mask.flat().length;
  const real = (values: Float32Array): Float32Array => values.filter((_, i) => mask.flat()[Math.floor(i / vocab)]);
  return difference(real(actual), real(logits));
}

describe.each(QWEN2VL_KINDS)('%s in fp32', (kind) => {
  const cases = readCases(kind);
  let model: ConvertedModel;
  beforeAll(async () => {
    model = await ConvertedModel.open(await converted(kind, 'fp32'), 'fp32');
  });
  afterAll(() => model.release());

  it.each([...cases].filter(([, { grids }]) => grids.length))('gives the image features PyTorch gives for %s', async (_, golden) => {
    const found = difference(await model.imageFeatures(visionFeeds(golden)), golden.imageFeatures);
    expect(found.max, JSON.stringify(found)).toBeLessThan(TOLERANCE);
  });

  it.each([...cases])('gives the logits PyTorch gives for %s', async (_, golden) => {
    const found = differenceOfReal(await promptLogits(model, golden), golden);
    expect(found.max, JSON.stringify(found)).toBeLessThan(TOLERANCE);
  });

  it('gives the same logits token by token over its own cache', async () => {
    const golden = cases.get('a clip and an image') as GoldenCase;
    const embeds = await model.embeddings(golden.inputIds, golden.imageFeatures);
    const [, numTokens = 0, hidden = 0] = embeds.dims;
    const vocab = golden.logits.length / numTokens;
    let past: Values | undefined;
    for (const [from, to] of [[0, 9], ...Array.from({ length: numTokens - 9 }, (_, i) => [9 + i, 10 + i])] as [number, number][]) {
      const rows = float32((embeds.data as Float32Array).slice(from * hidden, to * hidden), [1, to - from, hidden]);
      past = await model.step(rows, Array(to).fill(1), past, 0, positionsBetween(golden, from, to));
      const found = difference(past.logits?.data as Float32Array, golden.logits.slice(from * vocab, to * vocab));
      expect(found.max, JSON.stringify(found)).toBeLessThan(TOLERANCE);
    }
  });
});

it('encodes pictures together as it does each alone', async () => {
  const golden = readCases('tied-v5').get('two images of different sizes') as GoldenCase;
  const model = await ConvertedModel.open(await converted('tied-v5', 'fp32'), 'fp32');
  const width = golden.pixels.length / golden.grids.reduce((sum, [t = 0, h = 0, w = 0]) => sum + t * h * w, 0);
  const alone: number[] = [];
  let at = 0;
  for (const grid of golden.grids) {
    const [t = 0, h = 0, w = 0] = grid;
    const pixels = golden.pixels.slice(at, (at += t * h * w * width));
    alone.push(...(await model.imageFeatures(visionFeeds({ grids: [grid], pixels }))));
  }
  const found = difference(Float32Array.from(alone), golden.imageFeatures);
  expect(found.max, JSON.stringify(found)).toBeLessThan(TOLERANCE);
  await model.release();
});

describe.each(['q8', 'q4'] as const)('%s', (dtype) => {
  it.each(QWEN2VL_KINDS)('%s computes what the dequantised weights would', async (kind) => {
    const golden = readCases(kind).get('two images of different sizes') as GoldenCase;
    const out = await converted(kind, dtype);
    const twin = path.join(folder, `${kind}-${dtype}-twin`);
    await dequantisedTwin(out, twin, dtype);
    const [quantised, plain] = await Promise.all([ConvertedModel.open(out, dtype), ConvertedModel.open(twin, dtype)]);
    const logits = await promptLogits(quantised, golden);
    const found = difference(logits, await promptLogits(plain, golden));
    expect(found.max, JSON.stringify(found)).toBeLessThan(TOLERANCE);
    await Promise.all([quantised.release(), plain.release()]);
    const rounding = difference(logits, golden.logits);
    if (dtype === 'q8') expect(rounding.mean, JSON.stringify(rounding)).toBeLessThan(0.05);
  });
});

describe.each(['fp16', 'q4f16'] as const)('%s', (dtype) => {
  it('runs on the CPU, holds its cache in float16 and its border in float32', async () => {
    const golden = readCases('tied-v5').get('two images of different sizes') as GoldenCase;
    const model = await ConvertedModel.open(await converted('tied-v5', dtype), dtype);
    const found = difference(await promptLogits(model, golden), golden.logits);
    // float16 has 11 bits: 5e-4 of values up to 6, grown through the layers
    expect(found.mean, JSON.stringify(found)).toBeLessThan(dtype === 'fp16' ? 0.01 : 0.6);
    await model.release();
  });
});

it('writes the fields transformers.js reads of the decoder at the root, from a flat config as from a nested one', async () => {
  const config = (kind: string): Promise<Record<string, unknown>> =>
    converted(kind, 'fp32').then((out) => JSON.parse(readFileSync(path.join(out, 'config.json'), 'utf8')));
  const fields = {
    model_type: 'qwen2_vl',
    num_hidden_layers: 2,
    image_token_id: 3,
    vision_start_token_id: 4,
    max_position_embeddings: 256,
  };
  expect(await config('tied-v5')).toMatchObject({
    ...fields,
    num_key_value_heads: 1,
    head_dim: 32,
    vision_config: { spatial_merge_size: 2 },
  });
  expect(await config('untied-v4')).toMatchObject({ ...fields, num_key_value_heads: 2, head_dim: 16, text_config: { hidden_size: 64 } });
});

it('reports every weight once', async () => {
  const seen: ConvertProgress[] = [];
  const out = path.join(folder, 'progress');
  await convertCheckpoint({ from: path.join(QWEN2VL_FIXTURES, 'tied-v5'), out, dtype: 'q4', onProgress: (step) => seen.push(step) });
  expect(seen.map(({ done }) => done)).toEqual(seen.map((_, i) => i + 1));
  expect(seen.at(-1)?.done).toBe(seen.at(-1)?.total);
});
