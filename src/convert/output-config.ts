/** config.json of a converted folder: the checkpoint's own, made explicit, with the settings transformers.js reads. */
import { writeFileSync } from 'node:fs';
import type { LlavaShape } from './config.ts';
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

export function writeJson(file: string, value: unknown): void {
  writeFileSync(file, `${JSON.stringify(value, null, 2)}\n`);
}
