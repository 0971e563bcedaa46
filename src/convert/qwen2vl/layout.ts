/** Qwen2-VL: pictures of any shape and clips, as patches beside a grid; the decoder turns by time, height and width. */
import { AttentionPackError } from '../../errors.ts';
import type { Fields } from '../fields.ts';
import type { Json, Layout } from '../layout.ts';
import { explicitText } from '../text-config.ts';
import { readQwen2Vl } from './config.ts';
import { writeQwen2VlProcessor } from './processor.ts';
import { writeVisionEncoder } from './vision.ts';

/** Linear layers of a tower layer (query, key and value in one, output, two of the MLP) and of the merger. */
const LINEARS_PER_LAYER = 4;
const MERGER_LINEARS = 2;

export function qwen2VlLayout(root: Fields): Layout {
  const shape = readQwen2Vl(root);
  const { text, vision, tokens } = shape;
  return {
    text,
    visionLinears: LINEARS_PER_LAYER * vision.numLayers + MERGER_LINEARS,
    writeVisionEncoder: (options) => writeVisionEncoder(shape, options),
    // transformers.js reads the decoder's fields of this model type at the root.
    explicitConfig: (config) => {
      const fields = { ...explicitText(text), max_position_embeddings: text.maxPositions };
      return {
        ...config,
        ...tokens,
        ...fields,
        text_config: { ...(config.text_config as Json | undefined), model_type: text.modelType, ...fields },
        vision_config: { ...(config.vision_config as Json), spatial_merge_size: vision.mergeSize },
      };
    },
    writeProcessor: (from, to) => writeQwen2VlProcessor(from, to, vision),
  };
}

/** Qwen2.5-VL differs where a conversion would go wrong in silence. */
export function refuseQwen25Vl(root: Fields): never {
  throw new AttentionPackError(
    `${root.where}: model_type is "qwen2_5_vl", whose vision tower attends in windows; of this family only "qwen2_vl" is converted`,
  );
}
