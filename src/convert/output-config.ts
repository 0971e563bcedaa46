/** config.json of a converted folder: the checkpoint's own, made explicit, with the settings transformers.js reads. */
import { writeFileSync } from 'node:fs';
import { AttentionPackError } from '../errors.ts';
import type { Json } from './layout.ts';
import type { Precision } from './precision.ts';
import type { WrittenModel } from './weights-writer.ts';

/** @throws {AttentionPackError} if the config of an earlier conversion is of another model. */
export function refuseOther(config: Json, before: Json | undefined, folder: string): void {
  if (before && JSON.stringify([before.text_config, before.vision_config]) !== JSON.stringify([config.text_config, config.vision_config])) {
    throw new AttentionPackError(`${folder} holds another model; use a new folder`);
  }
}

/**
 * The config with `transformers.js_config` added: the first precision written to a folder is its default, data file counts are kept for all.
 */
export function withLoadingSettings(config: Json, precision: Precision, models: readonly WrittenModel[], before: Json | undefined): Json {
  const { use_external_data_format: earlierCounts, ...earlier } = (before?.['transformers.js_config'] ?? {}) as Json;
  const counts = { ...(earlierCounts as Json | undefined) };
  for (const { file, dataFiles } of models) {
    delete counts[file];
    if (dataFiles) counts[file] = dataFiles;
  }
  const external = Object.keys(counts).length ? { use_external_data_format: counts } : {};
  return { ...config, 'transformers.js_config': { dtype: precision.dtype, ...earlier, ...external } };
}

export function writeJson(file: string, value: unknown): void {
  writeFileSync(file, `${JSON.stringify(value, null, 2)}\n`);
}
