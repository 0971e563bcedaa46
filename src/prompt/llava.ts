/** Inputs of a LLaVA model: all pictures have one size and as many tokens. */
import type { Processor, RawImage } from '@huggingface/transformers';
import type { Prompt } from '../prompt.ts';
import { checkPlaceholders, readPictures, tokenize } from './placeholders.ts';

interface LlavaConfig {
  readonly processor_class?: string;
  readonly image_token?: string;
  readonly patch_size?: number;
  readonly num_additional_image_tokens?: number;
  readonly vision_feature_select_strategy?: string;
}

export function isLlava(processor: Processor): boolean {
  return (processor.config as LlavaConfig).processor_class === 'LlavaProcessor';
}

/** The LLaVA processor of transformers.js expands only the first placeholder of a text; here each image gets its own. */
export async function llavaInputs(processor: Processor, text: string, images: readonly RawImage[]): Promise<Prompt> {
  const config = processor.config as LlavaConfig;
  const imageToken = config.image_token ?? '<image>';
  checkPlaceholders(text, imageToken, images.length);
  if (!images.length) return tokenize(processor, text);
  const { pixel_values } = await readPictures(processor, images);
  const [height = 0, width = 0] = pixel_values.dims.slice(-2);
  const patch = config.patch_size ?? 14;
  const classToken = config.vision_feature_select_strategy === 'full' ? 0 : 1;
  // HF's processor counts the class token among the additional ones, and drops one where the strategy drops it.
  const additional = config.num_additional_image_tokens ?? 0;
  const perImage = Math.floor(height / patch) * Math.floor(width / patch) + Math.max(0, additional - classToken);
  return { ...tokenize(processor, text.replaceAll(imageToken, imageToken.repeat(perImage))), pixel_values };
}
