/** config.json of a LLaVA checkpoint: CLIP or SigLIP tower, MLP projector, Llama or Qwen2 decoder. */
import { AttentionPackError } from '../../errors.ts';
import { ACTIVATIONS, type Activation } from '../activation.ts';
import type { Fields } from '../fields.ts';
import { readText, type TextDefaults, type TextShape } from '../text-config.ts';

export interface VisionShape {
  readonly modelType: 'clip_vision_model' | 'siglip_vision_model';
  readonly numLayers: number;
  readonly hidden: number;
  readonly numHeads: number;
  readonly intermediate: number;
  readonly channels: number;
  readonly imageSize: number;
  readonly patchSize: number;
  readonly epsilon: number;
  readonly activation: Activation;
  /** CLIP has a class token before the patches; SigLIP has none. */
  readonly hasClassToken: boolean;
}

export interface ProjectorShape {
  readonly activation: Activation;
  readonly bias: boolean;
  /** Indices into the tower's hidden states: 0 is its input, i the output of layer i. Several are concatenated. */
  readonly featureLayers: readonly number[];
  /** Drops the first token: the class token of CLIP ('default'); 'full' keeps all. */
  readonly dropsFirst: boolean;
}

export interface LlavaShape {
  readonly text: TextShape;
  readonly vision: VisionShape;
  readonly projector: ProjectorShape;
}

const LLAMA: TextDefaults = {
  hidden: 4096,
  numHeads: 32,
  intermediate: 11008,
  numLayers: 32,
  vocab: 32000,
  epsilon: 1e-6,
  maxPositions: 2048,
  theta: 10000,
};
const QWEN2: TextDefaults = {
  ...LLAMA,
  numKvHeads: 32,
  intermediate: 22016,
  vocab: 151936,
  maxPositions: 32768,
  qkvBias: true,
};

/** @throws {AttentionPackError} for what we cannot convert, with what we can. */
export function readLlava(root: Fields): LlavaShape {
  const textFields = root.object('text_config');
  const visionFields = root.object('vision_config');
  const modelType = textFields.oneOf('model_type', ['llama', 'qwen2'], 'llama');
  const text = readText(textFields, modelType, modelType === 'qwen2' ? QWEN2 : LLAMA, root.boolean('tie_word_embeddings', false));
  const vision = readVision(visionFields);
  return { text, vision, projector: readProjector(root, vision) };
}

/** Feature tokens of one image: what the vision encoder gives and what a prompt must leave room for. */
export function imageTokens(vision: VisionShape, projector: ProjectorShape): number {
  return gridTokens(vision) + (vision.hasClassToken ? 1 : 0) - (projector.dropsFirst ? 1 : 0);
}

export function gridTokens({ imageSize, patchSize }: VisionShape): number {
  return Math.floor(imageSize / patchSize) ** 2;
}

function readVision(fields: Fields): VisionShape {
  const modelType = fields.oneOf('model_type', ['clip_vision_model', 'siglip_vision_model'], 'clip_vision_model');
  const isClip = modelType === 'clip_vision_model';
  return {
    modelType,
    numLayers: fields.count('num_hidden_layers', 12),
    hidden: fields.count('hidden_size', 768),
    numHeads: fields.count('num_attention_heads', 12),
    intermediate: fields.count('intermediate_size', 3072),
    channels: fields.count('num_channels', 3),
    imageSize: fields.count('image_size', 224),
    patchSize: fields.count('patch_size', isClip ? 32 : 16),
    epsilon: fields.number('layer_norm_eps', isClip ? 1e-5 : 1e-6),
    activation: fields.oneOf('hidden_act', ACTIVATIONS, isClip ? 'quick_gelu' : 'gelu_pytorch_tanh'),
    hasClassToken: isClip,
  };
}

function readProjector(root: Fields, vision: VisionShape): ProjectorShape {
  const { value, where } = root.raw('vision_feature_layer', -2);
  const featureLayers = (Array.isArray(value) ? value : [value]).map((layer) => {
    const index = typeof layer === 'number' && layer < 0 ? vision.numLayers + 1 + layer : layer;
    if (!Number.isInteger(index) || index < 0 || index > vision.numLayers) {
      throw new AttentionPackError(
        `${where} is ${JSON.stringify(value)}; it must name hidden states of a tower with ${vision.numLayers} layers`,
      );
    }
    return index as number;
  });
  return {
    activation: root.oneOf('projector_hidden_act', ACTIVATIONS, 'gelu'),
    bias: root.boolean('multimodal_projector_bias', true),
    featureLayers,
    dropsFirst: root.oneOf('vision_feature_select_strategy', ['default', 'full'], 'default') === 'default',
  };
}
