/** Reads config.json of a LLaVA checkpoint into what the builders need; everything we cannot convert is refused here, before any work. */
import { AttentionPackError } from '../errors.ts';
import { ACTIVATIONS, type Activation } from './activation.ts';
import { Fields } from './fields.ts';
import { type Rope, readRope } from './rope.ts';

export interface TextShape {
  readonly modelType: 'llama' | 'qwen2';
  readonly numLayers: number;
  readonly hidden: number;
  readonly numHeads: number;
  readonly numKvHeads: number;
  readonly headDim: number;
  readonly intermediate: number;
  readonly vocab: number;
  readonly epsilon: number;
  readonly maxPositions: number;
  readonly rope: Rope;
  readonly qkvBias: boolean;
  readonly outputBias: boolean;
  readonly mlpBias: boolean;
  /** Whether config.json says that the head is the embedding. */
  readonly tied: boolean;
}

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

/**
 * The shape of a LLaVA checkpoint. Fields that config.json leaves out have the defaults of transformers' config classes: LLaVA 1.5's names
 * hardly any.
 *
 * @throws {AttentionPackError} for an architecture, activation, rope scaling or attention we cannot convert, with the ones we can.
 */
export function readShape(config: unknown, file = 'config.json'): LlavaShape {
  const root = new Fields(config, file);
  root.oneOf('model_type', ['llava']);
  const textFields = root.object('text_config');
  const visionFields = root.object('vision_config');
  const text = readText(textFields, root.boolean('tie_word_embeddings', false));
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

function readText(fields: Fields, rootTied: boolean): TextShape {
  const modelType = fields.oneOf('model_type', ['llama', 'qwen2'], 'llama');
  const isQwen = modelType === 'qwen2';
  fields.oneOf('hidden_act', ['silu', 'swish'], 'silu');
  if (fields.boolean('use_sliding_window', false)) {
    throw new AttentionPackError(`${fields.where}: use_sliding_window is true; only full attention is converted`);
  }
  const hidden = fields.count('hidden_size', 4096);
  const numHeads = fields.count('num_attention_heads', 32);
  const numKvHeads = fields.count('num_key_value_heads', isQwen ? 32 : numHeads);
  if (numHeads % numKvHeads !== 0) {
    throw new AttentionPackError(`${fields.where}: ${numHeads} attention heads are not a multiple of ${numKvHeads} key/value heads`);
  }
  const headDim = fields.count('head_dim', hidden / numHeads);
  if (headDim % 16 !== 0) {
    throw new AttentionPackError(`${fields.where}: head_dim is ${headDim}; GroupQueryAttention of ONNX Runtime needs a multiple of 16`);
  }
  const maxPositions = fields.count('max_position_embeddings', isQwen ? 32768 : 2048);
  const attentionBias = fields.boolean('attention_bias', false);
  return {
    modelType,
    numLayers: fields.count('num_hidden_layers', 32),
    hidden,
    numHeads,
    numKvHeads,
    headDim,
    intermediate: fields.count('intermediate_size', isQwen ? 22016 : 11008),
    vocab: fields.count('vocab_size', isQwen ? 151936 : 32000),
    epsilon: fields.number('rms_norm_eps', 1e-6),
    maxPositions,
    rope: readRope(fields, maxPositions),
    qkvBias: isQwen || attentionBias,
    outputBias: !isQwen && attentionBias,
    mlpBias: !isQwen && fields.boolean('mlp_bias', false),
    tied: fields.boolean('tie_word_embeddings', false) || rootTied,
  };
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
