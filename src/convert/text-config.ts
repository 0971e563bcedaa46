/** The decoder's part of config.json: Llama and Qwen2 layers, with what transformers takes where a field is absent. */
import { AttentionPackError } from '../errors.ts';
import type { Fields } from './fields.ts';
import { type Rope, readRope } from './rope.ts';

export interface TextShape {
  readonly modelType: string;
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

/** What transformers' config class of a decoder takes where config.json says nothing. */
export interface TextDefaults {
  readonly hidden: number;
  readonly numHeads: number;
  /** Undefined: as many as heads. */
  readonly numKvHeads?: number;
  readonly intermediate: number;
  readonly numLayers: number;
  readonly vocab: number;
  readonly epsilon: number;
  readonly maxPositions: number;
  readonly theta: number;
  /** Biases that are not in config.json: of query, key and value in Qwen2. Undefined: `attention_bias` and `mlp_bias` say. */
  readonly qkvBias?: true;
  /** The decoder turns by three axes; this is its usual `mrope_section`. */
  readonly sections?: readonly number[];
}

/** @throws {AttentionPackError} for an activation, rope scaling or attention we cannot convert, with the ones we can. */
export function readText(fields: Fields, modelType: string, defaults: TextDefaults, rootTied: boolean): TextShape {
  fields.oneOf('hidden_act', ['silu', 'swish'], 'silu');
  if (fields.boolean('use_sliding_window', false)) {
    throw new AttentionPackError(`${fields.where}: use_sliding_window is true; only full attention is converted`);
  }
  const hidden = fields.count('hidden_size', defaults.hidden);
  const numHeads = fields.count('num_attention_heads', defaults.numHeads);
  const numKvHeads = fields.count('num_key_value_heads', defaults.numKvHeads ?? numHeads);
  if (numHeads % numKvHeads !== 0) {
    throw new AttentionPackError(`${fields.where}: ${numHeads} attention heads are not a multiple of ${numKvHeads} key/value heads`);
  }
  const headDim = fields.count('head_dim', hidden / numHeads);
  if (headDim % 16 !== 0) {
    throw new AttentionPackError(`${fields.where}: head_dim is ${headDim}; GroupQueryAttention of ONNX Runtime needs a multiple of 16`);
  }
  if (fields.has('layer_types')) {
    const { value, where } = fields.raw('layer_types');
    const other = Array.isArray(value) ? value.find((type) => type !== 'full_attention') : value;
    if (other !== undefined) throw new AttentionPackError(`${where} has ${JSON.stringify(other)}; only full_attention is converted`);
  }
  const maxPositions = fields.count('max_position_embeddings', defaults.maxPositions);
  const attentionBias = !defaults.qkvBias && fields.boolean('attention_bias', false);
  return {
    modelType,
    numLayers: fields.count('num_hidden_layers', defaults.numLayers),
    hidden,
    numHeads,
    numKvHeads,
    headDim,
    intermediate: fields.count('intermediate_size', defaults.intermediate),
    vocab: fields.count('vocab_size', defaults.vocab),
    epsilon: fields.number('rms_norm_eps', defaults.epsilon),
    maxPositions,
    rope: readRope(fields, { maxPositions, headDim, theta: defaults.theta, sections: defaults.sections }),
    qkvBias: attentionBias || defaults.qkvBias === true,
    outputBias: attentionBias,
    mlpBias: !defaults.qkvBias && fields.boolean('mlp_bias', false),
    tied: fields.boolean('tie_word_embeddings', false) || rootTied,
  };
}

/** The fields of a decoder that transformers.js reads, made explicit: checkpoints leave many to Python's defaults. */
export function explicitText(text: TextShape): Record<string, unknown> {
  return {
    num_hidden_layers: text.numLayers,
    hidden_size: text.hidden,
    num_attention_heads: text.numHeads,
    num_key_value_heads: text.numKvHeads,
    head_dim: text.headDim,
    vocab_size: text.vocab,
  };
}
