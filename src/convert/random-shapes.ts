/** Shapes of `--random` models, as Hugging Face configs: what a benchmark can name instead of downloading. */
import { AttentionPackError } from '../errors.ts';

export const RANDOM_SHAPES = ['smol-135m', 'mha-1.7b', 'llava-1.5-7b'] as const;

/**
 * One of:
 *
 * - *smol-135m*: the decoder of SmolVLM-256M: 30 layers, hidden 576, grouped-query 9/3 heads of 64, tied head. A toy vision tower.
 * - *mha-1.7b*: the decoder of SmolLM2-1.7B: 24 layers, hidden 2048, 32/32 heads of 64, tied head. A toy vision tower.
 * - *llava-1.5-7b*: 32 layers, hidden 4096, 32/32 heads of 128, untied head, CLIP ViT-L/14 at 336 pixels: 576 tokens an image.
 *
 * All take 32768 positions, whatever their originals take, so that long contexts can be timed.
 */
export type RandomShape = (typeof RANDOM_SHAPES)[number];

type Config = Record<string, unknown>;

const POSITIONS = 32768;

const CLIP_LARGE_336 = {
  model_type: 'clip_vision_model',
  hidden_size: 1024,
  image_size: 336,
  intermediate_size: 4096,
  num_attention_heads: 16,
  num_hidden_layers: 24,
  patch_size: 14,
};

/** The smallest tower that lets stock transformers.js load the folder: 64 tokens an image. */
const TOY_TOWER = {
  model_type: 'siglip_vision_model',
  hidden_size: 64,
  image_size: 64,
  intermediate_size: 128,
  num_attention_heads: 2,
  num_hidden_layers: 1,
  patch_size: 8,
};

const SHAPES: Readonly<Record<RandomShape, { text: Config; vision: Config }>> = {
  'smol-135m': {
    text: {
      hidden_size: 576,
      intermediate_size: 1536,
      num_hidden_layers: 30,
      num_attention_heads: 9,
      num_key_value_heads: 3,
      head_dim: 64,
      vocab_size: 49152,
      rope_theta: 100000,
      tie_word_embeddings: true,
    },
    vision: TOY_TOWER,
  },
  'mha-1.7b': {
    text: {
      hidden_size: 2048,
      intermediate_size: 8192,
      num_hidden_layers: 24,
      num_attention_heads: 32,
      num_key_value_heads: 32,
      head_dim: 64,
      vocab_size: 49152,
      rope_theta: 130000,
      tie_word_embeddings: true,
    },
    vision: TOY_TOWER,
  },
  'llava-1.5-7b': {
    text: {
      hidden_size: 4096,
      intermediate_size: 11008,
      num_hidden_layers: 32,
      num_attention_heads: 32,
      num_key_value_heads: 32,
      head_dim: 128,
      vocab_size: 32064,
      rope_theta: 10000,
    },
    vision: CLIP_LARGE_336,
  },
};

/**
 * config.json of a random model; `layers` cuts the decoder.
 *
 * @throws {AttentionPackError} if the shape is not one of {@link RANDOM_SHAPES} or it has fewer layers.
 */
export function randomConfig(name: string, layers?: number): Config {
  const shape = RANDOM_SHAPES.find((known) => known === name);
  if (!shape) throw new AttentionPackError(`random shape '${name}' is not known; use one of ${RANDOM_SHAPES.join(', ')}`);
  const { text, vision } = SHAPES[shape];
  const most = text.num_hidden_layers as number;
  if (layers !== undefined && !(Number.isInteger(layers) && layers >= 1 && layers <= most)) {
    throw new AttentionPackError(`layers is ${layers}; ${shape} has ${most}: use a whole number from 1 to ${most}`);
  }
  return {
    architectures: ['LlavaForConditionalGeneration'],
    model_type: 'llava',
    image_token_index: 3,
    pad_token_id: 0,
    bos_token_id: 1,
    eos_token_id: 2,
    text_config: {
      model_type: 'llama',
      hidden_act: 'silu',
      rms_norm_eps: 1e-5,
      max_position_embeddings: POSITIONS,
      ...text,
      num_hidden_layers: layers ?? most,
    },
    vision_config: vision,
    projector_hidden_act: 'gelu',
    vision_feature_layer: vision === TOY_TOWER ? -1 : -2,
    vision_feature_select_strategy: vision === TOY_TOWER ? 'full' : 'default',
  };
}
