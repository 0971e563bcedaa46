import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, unlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { convertCheckpoint, writeRandomModel } from '../src/convert/index.ts';
import { AttentionPackError } from '../src/errors.ts';
import { FIXTURES } from './support/converted.ts';

let folder: string;
let from: string;
let out: string;
beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'attentionpack-refusals-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));
beforeEach(() => {
  from = path.join(folder, 'checkpoint');
  out = path.join(folder, 'out');
  rmSync(from, { recursive: true, force: true });
  rmSync(out, { recursive: true, force: true });
  cpSync(path.join(FIXTURES, 'clip-qwen2-gqa-sharded'), from, { recursive: true });
});

type Config = Record<string, unknown> & { text_config: Record<string, unknown>; vision_config: Record<string, unknown> };

function editConfig(edit: (config: Config) => void): void {
  const file = path.join(from, 'config.json');
  const config = JSON.parse(readFileSync(file, 'utf8')) as Config;
  edit(config);
  writeFileSync(file, JSON.stringify(config));
}

/** The conversion fails with one line that has all these words, and leaves nothing beside the checkpoint. */
async function expectRefusal(...words: string[]): Promise<void> {
  const error = await convertCheckpoint({ from, out, dtype: 'q8' }).catch((cause: unknown) => cause);
  expect(error).toBeInstanceOf(AttentionPackError);
  const { message } = error as AttentionPackError;
  for (const word of words) expect(message).toContain(word);
  expect(message).not.toContain('\n');
  expect(readdirSync(folder)).toEqual(['checkpoint']);
}

describe('a config that cannot be converted is refused with the value seen and what is supported', () => {
  it.each<[string, (config: Config) => void, string[]]>([
    ['another architecture', (config) => (config.model_type = 'blip-2'), ['model_type is "blip-2"', 'supported: llava']],
    ['no model type', (config) => delete config.model_type, ['model_type is missing']],
    ['another decoder', (config) => (config.text_config.model_type = 'mamba'), ['"mamba"', 'llama, qwen2']],
    ['another tower', (config) => (config.vision_config.model_type = 'dinov2'), ['"dinov2"', 'siglip_vision_model']],
    ['no text_config', (config) => Reflect.deleteProperty(config, 'text_config'), ['text_config', 'must be an object']],
    ['another activation', (config) => (config.text_config.hidden_act = 'relu2'), ['hidden_act is "relu2"', 'silu']],
    ['another tower activation', (config) => (config.vision_config.hidden_act = 'mish'), ['"mish"', 'quick_gelu']],
    [
      'another rope scaling',
      (config) => (config.text_config.rope_parameters = { rope_type: 'yarn', factor: 4, rope_theta: 1e4 }),
      ['rope_type is "yarn"', 'default, linear, llama3'],
    ],
    [
      'the older field of rope scaling',
      (config) => {
        delete config.text_config.rope_parameters;
        config.text_config.rope_scaling = { type: 'dynamic', factor: 2 };
      },
      ['type is "dynamic"', 'default, linear, llama3'],
    ],
    ['sliding windows', (config) => (config.text_config.use_sliding_window = true), ['use_sliding_window', 'only full attention']],
    ['a head dimension ONNX Runtime refuses', (config) => (config.text_config.head_dim = 24), ['head_dim is 24', 'multiple of 16']],
    ['heads that do not divide', (config) => (config.text_config.num_key_value_heads = 2), ['3 attention heads', '2 key/value heads']],
    ['a feature layer the tower lacks', (config) => (config.vision_feature_layer = -9), ['vision_feature_layer is -9', '3 layers']],
    ['a width that is text', (config) => (config.text_config.hidden_size = '48'), ['hidden_size is "48"', 'whole number']],
    ['weights of another width', (config) => (config.text_config.intermediate_size = 96), ['[80,48]', '[96,48]']],
    ['more layers than weights', (config) => (config.text_config.num_hidden_layers = 3), ['layers.2', 'missing']],
  ])('%s', async (_, edit, words) => {
    editConfig((config) => void edit(config));
    await expectRefusal(...words);
  });
});

describe('a checkpoint that is not whole is refused', () => {
  const shard = 'model-00002-of-00003.safetensors';

  it('without one of its shards', async () => {
    unlinkSync(path.join(from, shard));
    await expectRefusal(shard, 'missing', '3');
  });

  it('with a truncated shard', async () => {
    truncateSync(path.join(from, shard), 30000);
    await expectRefusal(shard, 'truncated', '30000');
  });

  it('with an index that leaves the folder', async () => {
    writeFileSync(path.join(from, 'model.safetensors.index.json'), JSON.stringify({ weight_map: { a: '../a.safetensors' } }));
    await expectRefusal("'../a.safetensors'", 'outside');
  });

  it('without safetensors', async () => {
    for (const name of readdirSync(from)) if (name.startsWith('model')) unlinkSync(path.join(from, name));
    await expectRefusal('model.safetensors', 'pickled');
  });

  it('without a config', async () => {
    unlinkSync(path.join(from, 'config.json'));
    await expectRefusal('config.json', 'no such file');
  });

  it('without a head that the embedding could stand for', async () => {
    const file = path.join(from, 'model-00001-of-00003.safetensors');
    writeFileSync(file, readFileSync(file, 'latin1').replace('language_model.lm_head.weight', 'language_model.xx_head.weight'), 'latin1');
    await expectRefusal('lm_head.weight', 'tie_word_embeddings');
  });
});

describe('the output folder', () => {
  it('is never one that holds something else', async () => {
    mkdirSync(out);
    writeFileSync(path.join(out, 'notes.txt'), 'mine');
    await expect(convertCheckpoint({ from, out })).rejects.toThrow('is not empty');
    expect(readdirSync(out)).toEqual(['notes.txt']);
  });

  it('is never one that holds another model', async () => {
    await convertCheckpoint({ from: path.join(FIXTURES, 'clip-llama-mha'), out, dtype: 'q8' });
    const before = readdirSync(path.join(out, 'onnx'));
    await expect(convertCheckpoint({ from, out, dtype: 'q4' })).rejects.toThrow('holds another model');
    expect(readdirSync(path.join(out, 'onnx'))).toEqual(before);
  });

  it('loses data files the new weights no longer need', async () => {
    await convertCheckpoint({ from, out, dtype: 'q8', inlineMaxBytes: 0 });
    expect(readdirSync(path.join(out, 'onnx'))).toContain('embed_tokens_quantized.onnx_data');
    await convertCheckpoint({ from, out, dtype: 'q8' });
    expect(readdirSync(path.join(out, 'onnx')).filter((name) => name.includes('_data'))).toEqual([]);
  });
});

describe('writeRandomModel', () => {
  it.each([
    [{ shape: 'huge' }, "'huge' is not known; use one of smol-135m"],
    [{ shape: 'smol-135m', layers: 31 }, 'layers is 31; smol-135m has 30'],
    [{ shape: 'smol-135m', dtype: 'int3' as never }, "dtype 'int3'"],
  ])('refuses %o', async (options, message) => {
    await expect(writeRandomModel({ out, ...options })).rejects.toThrow(message);
  });
});
