/** The JSON files of a converted folder: config.json with transformers.js's own settings, processor settings that agree with the graphs. */
import { copyFileSync, existsSync, readdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { readJson } from './checkpoint.ts';
import { gridTokens, imageTokens, type LlavaShape } from './config.ts';
import type { Precision } from './precision.ts';
import type { WrittenModel } from './weights-writer.ts';

type Json = Record<string, unknown>;

/**
 * config.json as it was, with every field transformers.js reads of the decoder made explicit (LLaVA 1.5 leaves them to Python's defaults) and
 * `transformers.js_config`: the first precision written is the default, data file counts are kept for all.
 */
export function outputConfig(config: Json, shape: LlavaShape, precision: Precision, models: readonly WrittenModel[], before?: Json): Json {
  const { text } = shape;
  const earlier = (before?.['transformers.js_config'] ?? {}) as Json;
  const counts = { ...(earlier.use_external_data_format as Json | undefined) };
  for (const { file, dataFiles } of models) {
    if (dataFiles) counts[file] = dataFiles;
    else delete counts[file];
  }
  return {
    ...config,
    text_config: {
      ...(config.text_config as Json),
      model_type: text.modelType,
      num_hidden_layers: text.numLayers,
      hidden_size: text.hidden,
      num_attention_heads: text.numHeads,
      num_key_value_heads: text.numKvHeads,
      head_dim: text.headDim,
      vocab_size: text.vocab,
    },
    'transformers.js_config': {
      ...earlier,
      dtype: earlier.dtype ?? precision.dtype,
      ...(Object.keys(counts).length ? { use_external_data_format: counts } : { use_external_data_format: undefined }),
    },
  };
}

/** Everything of a checkpoint that is not weights, config or code. */
const COPIED =
  /^(tokenizer.*\.json|tokenizer\.model|vocab\.(json|txt)|merges\.txt|special_tokens_map\.json|added_tokens\.json|generation_config\.json|chat_template.*|preprocessor_config\.json|LICENSE.*|NOTICE.*)$/;

export function copyTokenizer(from: string, to: string): void {
  for (const name of readdirSync(from)) if (COPIED.test(name)) copyFileSync(path.join(from, name), path.join(to, name));
}

/**
 * processor_config.json and, where a transformers 5 checkpoint keeps it inside that file, preprocessor_config.json.
 *
 * The number of image tokens must be what the vision encoder gives. Python counts patches + num_additional_image_tokens, less one for the
 * strategy 'default'; transformers.js 4 leaves out the last. Written as the strategy 'full' with the right sum, both agree.
 */
export function writeProcessor(from: string, to: string, shape: LlavaShape): void {
  const source = path.join(from, 'processor_config.json');
  const { image_processor: imageProcessor, ...processor }: Json = existsSync(source) ? readJson(source) : {};
  const preprocessor = path.join(to, 'preprocessor_config.json');
  if (!existsSync(preprocessor) && typeof imageProcessor === 'object' && imageProcessor !== null) {
    writeJson(preprocessor, { processor_class: 'LlavaProcessor', ...imageProcessor });
  }
  const { vision, projector } = shape;
  if (!vision || !projector) return;
  writeJson(path.join(to, 'processor_config.json'), {
    processor_class: 'LlavaProcessor',
    image_token: '<image>',
    ...processor,
    patch_size: vision.patchSize,
    num_additional_image_tokens: imageTokens(vision, projector) - gridTokens(vision),
    vision_feature_select_strategy: 'full',
  });
}

export function writeJson(file: string, value: unknown): void {
  writeFileSync(file, `${JSON.stringify(value, null, 2)}\n`);
}
