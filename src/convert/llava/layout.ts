/** LLaVA: fixed picture size, a tower of its own, features straight into the prompt. */
import type { Fields } from '../fields.ts';
import type { Json, Layout } from '../layout.ts';
import { explicitText } from '../text-config.ts';
import { readLlava } from './config.ts';
import { writeLlavaProcessor } from './processor.ts';
import { usedVisionLayers, writeVisionEncoder } from './vision.ts';

/** Linear layers of a tower layer: query, key, value, output and two of the MLP. */
const LINEARS_PER_LAYER = 6;

export function llavaLayout(root: Fields): Layout {
  const shape = readLlava(root);
  const { text } = shape;
  return {
    text,
    visionLinears: LINEARS_PER_LAYER * usedVisionLayers(shape.projector) + 2,
    writeVisionEncoder: (options) => writeVisionEncoder(shape, options),
    explicitConfig: (config) => ({
      ...config,
      text_config: { ...(config.text_config as Json), model_type: text.modelType, ...explicitText(text) },
    }),
    writeProcessor: (from, to) => writeLlavaProcessor(from, to, shape),
  };
}
