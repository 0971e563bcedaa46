import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ConvertProgress, convertCheckpoint, type Dtype } from '../src/convert/index.ts';
import { ConvertedModel, difference, FIXTURES, float32, KINDS, readGolden } from './support/converted.ts';
import { dequantisedTwin } from './support/dequantised-twin.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'attentionpack-convert-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function converted(kind: string, dtype: Dtype): Promise<string> {
  const out = path.join(folder, `${kind}-${dtype}`);
  if (!existsSync(out)) await convertCheckpoint({ from: path.join(FIXTURES, kind), out, dtype });
  return out;
}

// Logits are within ±6 and both sides compute in float32: 1e-4 is some hundred roundings, a wrong operand is 1e-1 and more.
const TOLERANCE = 1e-4;

describe.each(KINDS)('%s in fp32', (kind) => {
  const golden = readGolden(kind);
  let model: ConvertedModel;
  beforeAll(async () => {
    model = await ConvertedModel.open(await converted(kind, 'fp32'), 'fp32');
  });
  afterAll(() => model.release());

  it('gives the image features PyTorch gives', async () => {
    const found = difference(await model.imageFeatures(golden.pixels), golden.imageFeatures);
    expect(found.max, JSON.stringify(found)).toBeLessThan(TOLERANCE);
  });

  it('gives the logits PyTorch gives for text and two images', async () => {
    const found = difference(await model.promptLogits(golden), golden.logits);
    expect(found.max, JSON.stringify(found)).toBeLessThan(TOLERANCE);
  });

  it('gives the same logits token by token over its own cache', async () => {
    const embeds = await model.embeddings([golden.inputIds], golden.imageFeatures);
    const [, numTokens = 0, hidden = 0] = embeds.dims;
    const data = embeds.data as Float32Array;
    const vocab = golden.logits.length / numTokens;
    const prefill = numTokens - 3;
    let past = await model.step(float32(data.subarray(0, prefill * hidden), [1, prefill, hidden]), Array(prefill).fill(1), undefined, 1);
    expect(past.logits?.dims).toEqual([1, 1, vocab]);
    for (let token = prefill; token < numTokens; token++) {
      const row = data.subarray(token * hidden, (token + 1) * hidden);
      past = await model.step(float32(row, [1, 1, hidden]), Array(token + 1).fill(1), past, 1);
      const found = difference(past.logits?.data as Float32Array, golden.logits.subarray(token * vocab, (token + 1) * vocab));
      expect(found.max, JSON.stringify(found)).toBeLessThan(TOLERANCE);
    }
  });

  it('ignores left padding in a batch', async () => {
    const { paddedIds, paddedLogits } = golden;
    const embeds = await model.embeddings(paddedIds);
    const { logits } = await model.step(
      embeds,
      paddedIds.flat().map((id) => Number(id !== 0)),
    );
    const all = logits?.data as Float32Array;
    const vocab = paddedLogits.length / paddedIds.flat().length;
    for (const [i, id] of paddedIds.flat().entries()) {
      if (id === 0) continue; // what a padding token predicts is nobody's business
      const at = [i * vocab, (i + 1) * vocab] as const;
      const found = difference(all.slice(...at), paddedLogits.slice(...at));
      expect(found.max, `token ${i}: ${JSON.stringify(found)}`).toBeLessThan(TOLERANCE);
    }
  });
});

describe.each(['q8', 'q4'] as const)('%s', (dtype) => {
  it.each(KINDS)('%s computes what the dequantised weights would', async (kind) => {
    const golden = readGolden(kind);
    const out = await converted(kind, dtype);
    const twin = path.join(folder, `${kind}-${dtype}-twin`);
    await dequantisedTwin(out, twin, dtype);
    const [quantised, plain] = await Promise.all([out, twin].map((from) => ConvertedModel.open(from, dtype)));
    const logits = (await quantised?.promptLogits(golden)) as Float32Array;
    const found = difference(logits, (await plain?.promptLogits(golden)) as Float32Array);
    // accuracy level 0 computes in float32, only sums are ordered otherwise
    expect(found.max, JSON.stringify(found)).toBeLessThan(TOLERANCE);
    await Promise.all([quantised?.release(), plain?.release()]);
    // Rounded to 1/254 of a block's range, logits within ±6 stay near PyTorch's. In 4 bits, random weights of width 48 do not.
    const rounding = difference(logits, golden.logits);
    if (dtype === 'q8') expect(rounding.mean, JSON.stringify(rounding)).toBeLessThan(0.05);
  });
});

describe.each(['fp16', 'q4f16'] as const)('%s', (dtype) => {
  it('runs on the CPU, holds its cache in float16 and its border in float32', async () => {
    const kind = 'siglip-llama-gqa-tied';
    const golden = readGolden(kind);
    const model = await ConvertedModel.open(await converted(kind, dtype), dtype);
    const embeds = await model.embeddings([golden.inputIds], await model.imageFeatures(golden.pixels));
    const outputs = await model.step(
      embeds,
      golden.inputIds.map(() => 1),
    );
    expect(embeds.type).toBe('float32');
    expect(outputs['present.0.key']?.type).toBe('float16');
    expect(outputs.logits?.type).toBe('float32');
    const found = difference(outputs.logits?.data as Float32Array, golden.logits);
    // float16 has 11 bits: 5e-4 of values up to 6, grown through the layers
    expect(found.mean, JSON.stringify(found)).toBeLessThan(dtype === 'fp16' ? 0.01 : 0.6);
    await model.release();
  });
});

describe('convertCheckpoint', () => {
  it('writes the decoder fields transformers.js reads and the processor that agrees with the vision encoder', async () => {
    const out = await converted('clip-llama-mha', 'fp32');
    const config = JSON.parse(readFileSync(path.join(out, 'config.json'), 'utf8'));
    expect(config.model_type).toBe('llava');
    expect(config.text_config).toMatchObject({ num_hidden_layers: 2, num_key_value_heads: 3, head_dim: 16 });
    expect(config['transformers.js_config']).toEqual({ dtype: 'fp32' });
    const processor = JSON.parse(readFileSync(path.join(out, 'processor_config.json'), 'utf8'));
    // nine patches and the class token, which 'default' drops
    expect(processor).toMatchObject({ patch_size: 8, num_additional_image_tokens: 0, vision_feature_select_strategy: 'full' });
  });

  it('adds a second precision to a folder and keeps the first', async () => {
    const out = path.join(folder, 'two');
    const from = path.join(FIXTURES, 'clip-llama-mha');
    await convertCheckpoint({ from, out, dtype: 'q8' });
    await convertCheckpoint({ from, out, dtype: 'fp32', inlineMaxBytes: 0 });
    const config = JSON.parse(readFileSync(path.join(out, 'config.json'), 'utf8'));
    expect(config['transformers.js_config'].dtype).toBe('q8');
    expect(config['transformers.js_config'].use_external_data_format).toEqual({
      'vision_encoder.onnx': 1,
      'embed_tokens.onnx': 1,
      'decoder_model_merged.onnx': 1,
    });
    expect(readdirSync(path.join(out, 'onnx'))).toContain('decoder_model_merged.onnx_data');
    const golden = readGolden('clip-llama-mha');
    for (const dtype of ['q8', 'fp32'] as const) {
      const model = await ConvertedModel.open(out, dtype);
      expect(difference(await model.promptLogits(golden), golden.logits).mean).toBeLessThan(0.05);
      await model.release();
    }
  });

  it('reports every weight once', async () => {
    const seen: ConvertProgress[] = [];
    const out = path.join(folder, 'progress');
    await convertCheckpoint({ from: path.join(FIXTURES, 'clip-llama-mha'), out, dtype: 'q4', onProgress: (step) => seen.push(step) });
    expect(seen.map(({ done }) => done)).toEqual(seen.map((_, i) => i + 1));
    expect(seen.at(-1)?.done).toBe(seen.at(-1)?.total);
    expect(new Set(seen.map(({ part }) => part)).size).toBe(seen.length);
  });

  it('leaves nothing behind when it is stopped', async () => {
    const stop = new AbortController();
    const out = path.join(folder, 'stopped');
    const running = convertCheckpoint({
      from: path.join(FIXTURES, 'clip-llama-mha'),
      out,
      onProgress: ({ done }) => done === 9 && stop.abort(),
      signal: stop.signal,
    });
    await expect(running).rejects.toThrow('aborted');
    expect(readdirSync(folder).filter((name) => name.startsWith('stopped'))).toEqual([]);
  });
});
