/** `calibrate`: moments gathered of a model's own questions, the file they lie in, and caches whose keys they weigh. */
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { AutoModelForImageTextToText, AutoProcessor, type Processor, type Tensor } from '@huggingface/transformers';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { PackedCache } from '../src/cache.ts';
import { calibrate } from '../src/calibrate.ts';
import { SafetensorsFile } from '../src/convert/safetensors.ts';
import { packed } from '../src/load.ts';
import type { CacheOptions, PackedOptions } from '../src/options.ts';
import { prompt, question } from '../src/prompt.ts';
import { MOMENTS_FILE, writeMoments } from '../src/query-moments.ts';
import { STATE } from '../src/state.ts';
import { attentionpack, complaint, lastJson } from './support/cli.ts';
import { HEAD_DIM, NUM_LAYERS, picture, removeFolder, temporaryFolder, writeTinyModel } from './support/models.ts';
import { openTinyQwen2Vl, shown, tokensLarge } from './support/tiny-qwen2vl.ts';

const KV_HEADS = 2;
let root: string;
let model: string;
let file: string;
let contexts: string;
let processor: Processor;

beforeAll(async () => {
  root = temporaryFolder();
  model = await writeTinyModel(root, { numKvHeads: KV_HEADS });
  file = path.join(model, MOMENTS_FILE);
  processor = await AutoProcessor.from_pretrained(model);
  const pictures = [1, 2].map((seed) => path.join(root, `${seed}.png`));
  for (const [i, name] of pictures.entries()) await picture(i + 1).save(name);
  contexts = path.join(root, 'contexts.json');
  writeFileSync(contexts, JSON.stringify([{ images: ['1.png', '2.png'], questions: ['What is it?', 'And where?'] }]));
});
afterEach(() => rmSync(file, { force: true }));
afterAll(() => removeFolder(root));

const open = (options: PackedOptions = {}) => packed(AutoModelForImageTextToText, model, { dtype: 'fp32', ...options });

/** Logits of a question's last token behind two packed pictures, and what the cache reports. */
async function askPacked(options: PackedOptions, cacheOptions: CacheOptions = {}) {
  await using loaded = await open(options);
  await using cache = new PackedCache(loaded, cacheOptions);
  const inputs = await prompt(processor, [question('What are these?', 2)], [picture(1), picture(2)]);
  const { logits } = (await loaded({ ...inputs, past_key_values: cache })) as { logits: Tensor };
  return { logits: (logits.data as Float32Array).slice(-(logits.dims[2] as number)), report: cache.report() };
}

const write = () => attentionpack('calibrate', model, '--contexts', contexts, '--max-new-tokens', '3', '--dtype', 'fp32', '--json');
const largest = (a: Float32Array, b: Float32Array) => Math.max(...a.map((value, i) => Math.abs(value - (b[i] as number))));

test('moments are of all tokens behind the pictures, symmetric, and as large before rotary embedding as after it', async () => {
  await using loaded = await open({ queryMoments: true });
  const samples = [{ images: [picture(1), picture(2)], questions: ['What is it?', 'And where?'] }];
  const { moments, questions, tokens } = await calibrate(loaded, processor, samples, { maxNewTokens: 3 });
  expect(questions).toBe(2);
  expect(tokens).toBeGreaterThan(10);
  const trace = (of: Float32Array, h: number): number =>
    Array.from({ length: HEAD_DIM }, (_, i) => of[(h * HEAD_DIM + i) * HEAD_DIM + i] as number).reduce((sum, value) => sum + value, 0);
  for (let l = 0; l < NUM_LAYERS; l++) {
    const [before, after] = [moments.before_rotary?.get(l), moments.after_rotary?.get(l)] as [Float32Array, Float32Array];
    for (let h = 0; h < KV_HEADS; h++) {
      expect(trace(before, h) / trace(after, h)).toBeCloseTo(1, 4);
      for (const of of [before, after])
        for (let i = 0; i < HEAD_DIM; i++)
          for (let j = 0; j < i; j++) {
            const [upper, lower] = [of[(h * HEAD_DIM + j) * HEAD_DIM + i], of[(h * HEAD_DIM + i) * HEAD_DIM + j]] as [number, number];
            expect(Math.abs(upper - lower) / trace(of, h)).toBeLessThan(1e-5);
          }
    }
    expect(largest(before, after)).toBeGreaterThan(1e-3);
  }
  // Questions are asked one by one behind the same context, and leave nothing behind.
  const again = await calibrate(loaded, processor, samples, { maxNewTokens: 3 });
  expect(again.moments).toEqual(moments);
});

describe('the command', () => {
  test('leaves moments beside the model, where packed() finds them, in every rotary mode', async () => {
    expect((await askPacked({})).report.bases).toBe('plain');
    const result = await write();
    expect(result).toMatchObject({ code: 0, stderr: '' });
    const json = lastJson(result);
    expect(json).toMatchObject({ contexts: 1, questions: 2, frames: ['before_rotary', 'after_rotary'], bytes: readFileSync(file).length });
    const stored = new SafetensorsFile(file);
    expect(stored.tensors.size).toBe(2 * NUM_LAYERS);
    stored.close();
    for (const rotary of ['rotate-late', 'post-rope'] as const) {
      const weighted = await askPacked({ rotary }, { rank: 4 });
      const plain = await askPacked({ rotary, moments: false }, { rank: 4 });
      expect(weighted.report.bases).toBe('weighted');
      expect(weighted.report.weightedLostEnergy).toBeGreaterThan(0);
      expect(plain.report.bases).toBe('plain');
      expect(plain.report.weightedLostEnergy).toBeUndefined();
      // No other factors of this rank leave out less plain energy than plain ones, and the bytes are the same.
      expect(weighted.report.lostEnergy.keys).toBeGreaterThanOrEqual(plain.report.lostEnergy.keys - 1e-6);
      expect(weighted.report.lostEnergy.values).toBe(plain.report.lostEnergy.values);
      expect(weighted.report.bytes).toEqual(plain.report.bytes);
      expect(largest(weighted.logits, plain.logits)).toBeGreaterThan(1e-6);
    }
  });

  test('makes caches that are exact at full rank all the same', async () => {
    await write();
    const rank = KV_HEADS * HEAD_DIM;
    const weighted = await askPacked({ rank });
    const plain = await askPacked({ rank }, { bases: 'plain' });
    expect([weighted.report.bases, plain.report.bases]).toEqual(['weighted', 'plain']);
    expect(largest(weighted.logits, plain.logits)).toBeLessThan(2e-4);
    expect(weighted.report.lostEnergy.keys).toBeLessThan(1e-6);
  });

  test('refuses what it cannot do before the model is loaded', async () => {
    expect(await complaint('calibrate', model)).toMatch(/has no demo to calibrate with; give --contexts or --image/);
    expect(await complaint('calibrate', model, '--image', 'a.png', '--contexts', contexts)).toMatch(/not both/);
    expect(await complaint('calibrate', model, '--image', 'a.png', '--out', 'moments.bin')).toMatch(
      /ends in .safetensors; got 'moments.bin'/,
    );
    expect(await complaint('calibrate', model, '--image', 'a.png', '--out', '/nowhere/at/all.safetensors')).toMatch(/does not exist/);
    const broken = path.join(root, 'broken.json');
    writeFileSync(broken, '[{"images": []}]');
    expect(await complaint('calibrate', model, '--contexts', broken)).toMatch(/context 1 needs images and questions/);
    writeFileSync(broken, '{}');
    expect(await complaint('calibrate', model, '--contexts', broken)).toMatch(/must hold a list of contexts/);
    expect(existsSync(file)).toBe(false);
  });
});

describe('moments that are not as they should be', () => {
  test('are asked for in vain', async () => {
    await expect(open({ bases: 'weighted' })).rejects.toThrow(/needs the model's query moments; make them with 'attentionpack calibrate/);
    await expect(open({ moments: path.join(root, 'none.safetensors') })).rejects.toThrow(/none.safetensors does not exist/);
    await using loaded = await open();
    expect(() => new PackedCache(loaded, { bases: 'weighted' })).toThrow(/needs the model's query moments/);
    await expect(calibrate(loaded, processor, [{ images: [picture(1)], questions: ['?'] }])).rejects.toThrow(/queryMoments: true/);
  });

  test('are refused with the file and what to do', async () => {
    await write();
    const other = await writeTinyModel(path.join(root, 'other'), { numKvHeads: 4 });
    const foreign = packed(AutoModelForImageTextToText, other, { dtype: 'fp32', moments: file });
    await expect(foreign).rejects.toThrow(/query_moments.safetensors.* is \[2,\d+,\d+\], this model's is \[4, \d+, \d+\]; make it again/);
    const bytes = readFileSync(file);
    writeFileSync(file, bytes.subarray(0, bytes.length - 4));
    await expect(open()).rejects.toThrow(/query_moments.safetensors/);
    writeFileSync(
      file,
      Buffer.concat([
        bytes.subarray(0, 8 + Number(bytes.readBigUInt64LE(0))),
        Buffer.alloc(bytes.length - 8 - Number(bytes.readBigUInt64LE(0))),
      ]),
    );
    await expect(open()).rejects.toThrow(/has trace 0 in head 0/);
  });
});

test('of a model whose positions have three axes, moments weigh keys in both modes that pack them before rotary embedding', async () => {
  const tiny = await openTinyQwen2Vl();
  try {
    const asking = await tiny.load({ queryMoments: true });
    const images = [await tokensLarge(1, 4, 3), await tokensLarge(2, 3, 5)];
    const { moments } = await calibrate(asking, tiny.processor, [{ images, questions: ['What?', 'And where?'] }], { maxNewTokens: 2 });
    const file = path.join(root, 'axes.safetensors');
    writeMoments(file, moments, asking[STATE].graph.shape);
    const inputs = await shown(
      tiny,
      [{ role: 'user', content: [{ type: 'image' }, { type: 'image' }, { type: 'text', text: 'Which?' }] }],
      [
        [4, 3],
        [3, 5],
      ],
    );
    const results: Record<string, { logits: Float32Array; bases: string }> = {};
    for (const rotary of ['m-rope', 'rotate-late'] as const) {
      for (const rank of [4, tiny.width]) {
        for (const named of [file, false] as const) {
          const loaded = await tiny.load({ rotary, rank, moments: named });
          await using cache = new PackedCache(loaded);
          const { logits } = (await loaded({ ...inputs, past_key_values: cache })) as { logits: Tensor };
          results[`${rotary} ${rank} ${named !== false}`] = { logits: logits.data as Float32Array, bases: cache.report().bases };
        }
      }
    }
    const at = (rotary: string, rank: number, isWeighted: boolean) => results[`${rotary} ${rank} ${isWeighted}`]?.logits as Float32Array;
    expect(Object.values(results).map(({ bases }) => bases)).toEqual(Array.from({ length: 8 }, (_, i) => (i % 2 ? 'plain' : 'weighted')));
    for (const rotary of ['m-rope', 'rotate-late']) {
      expect(largest(at(rotary, tiny.width, true), at(rotary, tiny.width, false))).toBeLessThan(2e-4);
      expect(largest(at(rotary, 4, true), at(rotary, 4, false))).toBeGreaterThan(1e-5);
    }
    // The same factors, read in two ways.
    expect(largest(at('m-rope', 4, true), at('rotate-late', 4, true))).toBeLessThan(1e-3);
  } finally {
    await tiny[Symbol.asyncDispose]();
  }
});
