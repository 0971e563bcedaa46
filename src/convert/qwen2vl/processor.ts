/** Processor files of a Qwen2-VL model: what the tower fixes is written from its config, what is left out has Python's defaults. */
import path from 'node:path';
import { writeJson } from '../output-config.ts';
import { readProcessor } from '../processor-files.ts';
import type { Qwen2VlVisionShape } from './config.ts';

/** Defaults of transformers' Qwen2VLImageProcessor; transformers.js skips a step that is not asked for. */
const DEFAULTS = {
  do_resize: true,
  resample: 3,
  do_rescale: true,
  rescale_factor: 1 / 255,
  do_normalize: true,
  image_mean: [0.48145466, 0.4578275, 0.40821073],
  image_std: [0.26862954, 0.26130258, 0.27577711],
  do_convert_rgb: true,
};
const SIZE = { shortest_edge: 56 * 56, longest_edge: 28 * 28 * 1280 };

export function writeQwen2VlProcessor(from: string, to: string, vision: Qwen2VlVisionShape): void {
  const { preprocessor, processor } = readProcessor(from, to);
  const { video_processor: _, ...rest } = processor;
  if (preprocessor) {
    writeJson(path.join(to, 'preprocessor_config.json'), {
      ...DEFAULTS,
      ...(preprocessor.min_pixels === undefined ? { size: SIZE } : {}),
      ...preprocessor,
      processor_class: 'Qwen2VLProcessor',
      image_processor_type: 'Qwen2VLImageProcessor',
      patch_size: vision.patchSize,
      temporal_patch_size: vision.temporalPatchSize,
      merge_size: vision.mergeSize,
    });
  }
  writeJson(path.join(to, 'processor_config.json'), { ...rest, processor_class: 'Qwen2VLProcessor' });
}
