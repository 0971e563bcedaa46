/** Processor files of a LLaVA model, so that Python and transformers.js count the same number of image tokens. */
import path from 'node:path';
import { writeJson } from '../output-config.ts';
import { imageProcessorType, readProcessor } from '../processor-files.ts';
import { gridTokens, imageTokens, type LlavaShape } from './config.ts';

/**
 * The number of image tokens must be what the vision encoder gives. Python counts patches + num_additional_image_tokens, less one for the
 * strategy 'default'; transformers.js 4 leaves out the last. Written as the strategy 'full' with the right sum, both agree.
 */
export function writeLlavaProcessor(from: string, to: string, { vision, projector }: LlavaShape): void {
  const { preprocessor, processor } = readProcessor(from, to);
  if (preprocessor) {
    writeJson(path.join(to, 'preprocessor_config.json'), {
      ...preprocessor,
      processor_class: 'LlavaProcessor',
      image_processor_type: imageProcessorType(preprocessor) ?? (vision.hasClassToken ? 'CLIPImageProcessor' : 'SiglipImageProcessor'),
    });
  }
  writeJson(path.join(to, 'processor_config.json'), {
    image_token: '<image>',
    ...processor,
    processor_class: 'LlavaProcessor',
    patch_size: vision.patchSize,
    num_additional_image_tokens: imageTokens(vision, projector) - gridTokens(vision),
    vision_feature_select_strategy: 'full',
  });
}
