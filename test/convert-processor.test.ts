import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type ConvertReport, convertCheckpoint } from '../src/convert/index.ts';
import { FIXTURES } from './support/converted.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'attentionpack-processor-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** Converts a checkpoint with these files added; objects are written as JSON. */
async function convertWith(kind: string, files: Readonly<Record<string, unknown>>): Promise<ConvertReport> {
  const from = path.join(folder, 'from');
  cpSync(path.join(FIXTURES, kind), from, { recursive: true });
  for (const [name, content] of Object.entries(files)) {
    writeFileSync(path.join(from, name), typeof content === 'string' ? content : JSON.stringify(content));
  }
  return convertCheckpoint({ from, out: path.join(folder, 'out'), dtype: 'q8' });
}

const written = (name: string): Record<string, unknown> => JSON.parse(readFileSync(path.join(folder, 'out', name), 'utf8'));

describe('processor files', () => {
  it('fill in what checkpoints of 2023 lack', async () => {
    await convertWith('clip-llama-mha', {
      'preprocessor_config.json': { feature_extractor_type: 'CLIPFeatureExtractor', crop_size: { height: 24, width: 24 } },
      'processor_config.json': { processor_class: 'LlavaProcessor', image_token: '<image>' },
    });
    expect(written('processor_config.json')).toEqual({
      processor_class: 'LlavaProcessor',
      image_token: '<image>',
      patch_size: 8,
      num_additional_image_tokens: 0,
      vision_feature_select_strategy: 'full',
    });
    expect(written('preprocessor_config.json')).toMatchObject({
      processor_class: 'LlavaProcessor',
      image_processor_type: 'CLIPImageProcessor',
      crop_size: { height: 24, width: 24 },
    });
  });

  it('count the class token where the vision encoder keeps it', async () => {
    await convertWith('clip-llama-full', { 'processor_config.json': { num_additional_image_tokens: 7, image_token: '<img>' } });
    expect(written('processor_config.json')).toMatchObject({ num_additional_image_tokens: 1, image_token: '<img>' });
  });

  it('come out of the one file in which transformers 5 saves them', async () => {
    await convertWith('siglip-llama-gqa-tied', {
      'processor_config.json': {
        image_processor: { image_processor_type: 'SiglipImageProcessorFast', size: { height: 24, width: 24 } },
        image_token: '<image>',
      },
    });
    expect(written('preprocessor_config.json')).toEqual({
      image_processor_type: 'SiglipImageProcessor',
      size: { height: 24, width: 24 },
      processor_class: 'LlavaProcessor',
    });
    expect(written('processor_config.json')).not.toHaveProperty('image_processor');
  });
});

describe('tokenizer files', () => {
  it.each([
    ['chat_template.jinja', 'a {{ template }}'],
    ['chat_template.json', { chat_template: 'a {{ template }}' }],
  ])('get the chat template out of %s, where transformers.js does not look', async (name, content) => {
    await convertWith('clip-llama-mha', { [name]: content, 'tokenizer_config.json': { bos_token: '<s>' }, 'tokenizer.json': '{}' });
    expect(written('tokenizer_config.json')).toEqual({ bos_token: '<s>', chat_template: 'a {{ template }}' });
    expect(existsSync(path.join(folder, 'out', 'tokenizer.json'))).toBe(true);
  });

  it('are named in the report when they are missing', async () => {
    const { notes } = await convertWith('clip-llama-mha', {});
    expect(notes.join('; ')).toContain('tokenizer.json is not in the checkpoint');
    expect(notes.join('; ')).toContain('preprocessor_config.json is not in the checkpoint');
  });
});
