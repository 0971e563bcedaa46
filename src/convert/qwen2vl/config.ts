/**
 * config.json of a Qwen2-VL checkpoint: vision tower with a grid for each picture, Qwen2 decoder with positions on three axes.
 *
 * transformers 4 writes the decoder's fields flat, transformers 5 under `text_config`.
 */
import { AttentionPackError } from '../../errors.ts';
import { ACTIVATIONS, type Activation } from '../activation.ts';
import type { Fields } from '../fields.ts';
import { readText, type TextDefaults, type TextShape } from '../text-config.ts';

export interface Qwen2VlVisionShape {
  readonly numLayers: number;
  readonly hidden: number;
  readonly numHeads: number;
  readonly intermediate: number;
  readonly channels: number;
  readonly patchSize: number;
  /** Pictures in a patch, one behind the other in time. */
  readonly temporalPatchSize: number;
  /** Patches side by side, in each direction, that become one token. */
  readonly mergeSize: number;
  readonly activation: Activation;
  /** Rotary base of the tower. */
  readonly theta: number;
}

export interface Qwen2VlTokens {
  readonly image_token_id: number;
  readonly video_token_id: number;
  readonly vision_start_token_id: number;
  readonly vision_end_token_id: number;
}

export interface Qwen2VlShape {
  readonly text: TextShape;
  readonly vision: Qwen2VlVisionShape;
  readonly tokens: Qwen2VlTokens;
}

const TEXT: TextDefaults = {
  hidden: 8192,
  numHeads: 64,
  numKvHeads: 8,
  intermediate: 29568,
  numLayers: 80,
  vocab: 152064,
  epsilon: 1e-5,
  maxPositions: 32768,
  theta: 1e6,
  qkvBias: true,
  sections: [16, 24, 24],
};

const TOKENS: Qwen2VlTokens = {
  image_token_id: 151655,
  video_token_id: 151656,
  vision_start_token_id: 151652,
  vision_end_token_id: 151653,
};

/** @throws {AttentionPackError} for what we cannot convert, with what we can. */
export function readQwen2Vl(root: Fields): Qwen2VlShape {
  const fields = root.has('text_config') ? root.object('text_config') : root;
  fields.oneOf('model_type', ['qwen2_vl_text', 'qwen2_vl'], 'qwen2_vl_text');
  const text = readText(fields, 'qwen2_vl_text', TEXT, root.boolean('tie_word_embeddings', false));
  if (text.headDim * text.numHeads !== text.hidden) {
    throw new AttentionPackError(
      `${fields.where}: ${text.numHeads} heads of ${text.headDim} do not make hidden_size ${text.hidden}, as Qwen2-VL needs`,
    );
  }
  const vision = readVision(root.object('vision_config'), text.hidden);
  const tokens = Object.fromEntries(
    Object.entries(TOKENS).map(([name, usual]) => [name, root.number(name, usual)]),
  ) as unknown as Qwen2VlTokens;
  return { text, vision, tokens };
}

function readVision(fields: Fields, textHidden: number): Qwen2VlVisionShape {
  fields.oneOf('model_type', ['qwen2_vl_vision', 'qwen2_vl'], 'qwen2_vl_vision');
  for (const name of ['window_size', 'fullatt_block_indexes']) {
    if (fields.has(name)) {
      throw new AttentionPackError(
        `${fields.where}: ${name} is ${JSON.stringify(fields.raw(name).value)}; towers that attend in windows (Qwen2.5-VL) are not converted`,
      );
    }
  }
  const hidden = fields.count('embed_dim', 1280);
  const numHeads = fields.count('num_heads', 16);
  if (hidden % (4 * numHeads) !== 0) {
    throw new AttentionPackError(
      `${fields.where}: embed_dim ${hidden} over ${numHeads} heads is ${hidden / numHeads}; rotary embedding by height and width needs a multiple of 4`,
    );
  }
  const out = fields.count('hidden_size', 3584);
  if (out !== textHidden) {
    throw new AttentionPackError(
      `${fields.where}: hidden_size is ${out}, the decoder's is ${textHidden}; features must be as wide as tokens`,
    );
  }
  return {
    numLayers: fields.count('depth', 32),
    hidden,
    numHeads,
    intermediate: hidden * fields.count('mlp_ratio', 4),
    channels: fields.count('in_channels', 3),
    patchSize: fields.count('patch_size', 14),
    temporalPatchSize: fields.count('temporal_patch_size', 2),
    mergeSize: fields.count('spatial_merge_size', 2),
    activation: fields.oneOf('hidden_act', ACTIVATIONS, 'quick_gelu'),
    theta: readTheta(fields),
  };
}

function readTheta(fields: Fields): number {
  if (!fields.has('rope_parameters')) return 10000;
  const rope = fields.object('rope_parameters');
  rope.oneOf('rope_type', ['axial', 'default'], 'axial');
  return rope.number('rope_theta', 10000);
}
