/** Qwen2-VL configs that cannot be converted, and what its processor files become. */
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { convertCheckpoint } from '../src/convert/index.ts';
import { AttentionPackError } from '../src/errors.ts';
import { QWEN2VL_FIXTURES } from './support/qwen2vl.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'attentionpack-qwen2vl-'));
  cpSync(path.join(QWEN2VL_FIXTURES, 'tied-v5'), path.join(folder, 'from'), { recursive: true });
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

type Fields = Record<string, unknown>;
interface Config extends Fields {
  text_config: Fields & { rope_parameters: Fields };
  vision_config: Fields;
}

const convert = (): Promise<unknown> => convertCheckpoint({ from: path.join(folder, 'from'), out: path.join(folder, 'out'), dtype: 'q8' });
const file = (...names: string[]): string => path.join(folder, ...names);

describe('a config that cannot be converted is refused with the value seen and what is supported', () => {
  it.each<[string, (config: Config) => void, string[]]>([
    ['Qwen2.5-VL', (config) => (config.model_type = 'qwen2_5_vl'), ['"qwen2_5_vl"', 'attends in windows', '"qwen2_vl"']],
    ['a tower with windows', ({ vision_config }) => (vision_config.window_size = 112), ['window_size is 112', 'windows (Qwen2.5-VL)']],
    ['another tower', ({ vision_config }) => (vision_config.model_type = 'siglip'), ['model_type is "siglip"', 'qwen2_vl_vision']],
    [
      'another rotary embedding of the tower',
      ({ vision_config }) => (vision_config.rope_parameters = { rope_type: 'yarn' }),
      ['"yarn"', 'axial'],
    ],
    [
      'another rope type',
      ({ text_config }) => (text_config.rope_parameters.rope_type = 'yarn'),
      ['rope_type is "yarn"', 'mrope, linear, llama3'],
    ],
    [
      'sections of another head',
      ({ text_config }) => (text_config.rope_parameters.mrope_section = [16, 24, 24]),
      ['mrope_section is [16,24,24]', '16 rotary pairs'],
    ],
    [
      'sections that are no numbers',
      ({ text_config }) => (text_config.rope_parameters.mrope_section = ['4', 6, 6]),
      ['mrope_section is ["4",6,6]'],
    ],
    [
      'a sliding layer',
      ({ text_config }) => (text_config.layer_types = ['full_attention', 'sliding_attention']),
      ['"sliding_attention"', 'only full_attention'],
    ],
    [
      'heads that do not fill the width',
      ({ text_config }) => Object.assign(text_config, { head_dim: 16, rope_parameters: { mrope_section: [2, 3, 3] } }),
      ['3 heads of 16 do not make hidden_size 96'],
    ],
    ['features of another width', ({ vision_config }) => (vision_config.hidden_size = 64), ['hidden_size is 64', "the decoder's is 96"]],
    [
      'tower heads that cannot be turned',
      ({ vision_config }) => (vision_config.num_heads = 16),
      ['embed_dim 32 over 16 heads is 2', 'multiple of 4'],
    ],
    [
      'a patch size for each direction',
      ({ vision_config }) => (vision_config.patch_size = [4, 4]),
      ['patch_size is [4,4]', 'whole number'],
    ],
    [
      'a patch that the weights are not for',
      ({ vision_config }) => (vision_config.patch_size = 8),
      ['patch_embed.proj.weight', '[32,3,2,4,4]', '[32,3,2,8,8]'],
    ],
  ])('%s', async (_, edit, words) => {
    const config = JSON.parse(readFileSync(file('from', 'config.json'), 'utf8')) as Config;
    edit(config);
    writeFileSync(file('from', 'config.json'), JSON.stringify(config));
    const error = await convert().catch((cause: unknown) => cause);
    expect(error).toBeInstanceOf(AttentionPackError);
    const { message } = error as AttentionPackError;
    for (const word of words) expect(message).toContain(word);
    expect(message).not.toContain('\n');
    expect(readdirSync(folder)).toEqual(['from']);
  });
});

describe('processor files', () => {
  const written = (name: string): Fields => JSON.parse(readFileSync(file('out', name), 'utf8'));

  it('say what Python takes for granted, since transformers.js skips a step that is not asked for', async () => {
    writeFileSync(
      file('from', 'preprocessor_config.json'),
      JSON.stringify({ min_pixels: 3136, max_pixels: 12845056, image_processor_type: 'Qwen2VLImageProcessorFast' }),
    );
    await convert();
    expect(written('preprocessor_config.json')).toMatchObject({
      ...{ do_resize: true, do_rescale: true, do_normalize: true, min_pixels: 3136, max_pixels: 12845056 },
      ...{
        patch_size: 4,
        temporal_patch_size: 2,
        merge_size: 2,
        image_processor_type: 'Qwen2VLImageProcessor',
        processor_class: 'Qwen2VLProcessor',
      },
    });
    expect(written('preprocessor_config.json')).not.toHaveProperty('size');
  });

  it('come out of the one file in which transformers 5 saves them, without the video processor', async () => {
    const image_processor = { size: { shortest_edge: 1024, longest_edge: 4096 }, image_mean: [0.5, 0.5, 0.5] };
    writeFileSync(
      file('from', 'processor_config.json'),
      JSON.stringify({ image_processor, video_processor: { fps: 2 }, processor_class: 'Qwen2VLProcessor' }),
    );
    await convert();
    expect(written('preprocessor_config.json')).toMatchObject({ ...image_processor, rescale_factor: 1 / 255 });
    expect(written('processor_config.json')).toEqual({ processor_class: 'Qwen2VLProcessor' });
  });
});
