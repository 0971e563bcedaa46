/** The text decoder: Llama or Qwen2 layers around GroupQueryAttention, in the form published exports for transformers.js have. */
import { DataType, type Dim, float } from '../onnx/index.ts';
import { activate } from './activation.ts';
import { type AxialRotary, axialRotary, axisFrequencies, turn } from './axial-rotary.ts';
import { type BuildOptions, ModelBuilder } from './builder.ts';
import { MASKED } from './masked.ts';
import { axesOfPairs, NUM_AXES, ropeFrequencies, ropeTables } from './rope.ts';
import type { TextShape } from './text-config.ts';
import type { WrittenModel } from './weights-writer.ts';

/**
 * Writes `decoder_model_merged`: inputs_embeds [B, N, hidden], attention_mask [B, S + N], past_key_values -> logits [B, kept, vocab], present.
 *
 * Positions are slots: the index of a token in attention_mask. Left padding shifts all positions of a row, which rotary attention does not see.
 * With M-RoPE they are an input, position_ids [3, B, N], and queries and keys are turned before the attention node, which knows one axis only.
 */
export async function writeDecoder(shape: TextShape, tied: boolean, options: BuildOptions): Promise<WrittenModel> {
  const builder = new ModelBuilder('decoder_model_merged', options);
  try {
    declareBorder(builder, shape);
    const attention = attentionInputs(builder, shape);
    const embeds = 'inputs_embeds';
    let hidden =
      builder.floatType === DataType.FLOAT ? embeds : builder.cast('/model/graph_inputs/inputs_embeds/Cast', embeds, builder.floatType);
    let delta: string | undefined; // what the last block adds to the residual stream; the next norm adds it
    for (let layer = 0; layer < shape.numLayers; layer++) {
      const path = `/model/layers.${layer}`;
      const from = `language_model.layers.${layer}`;
      const first = norm(builder, shape, `${path}/input_layernorm`, `${from}.input_layernorm.weight`, hidden, delta);
      const attended = await attend(builder, shape, layer, first.normed, attention);
      const second = norm(
        builder,
        shape,
        `${path}/post_attention_layernorm`,
        `${from}.post_attention_layernorm.weight`,
        first.sum,
        attended,
      );
      hidden = second.sum;
      delta = await feedForward(builder, shape, layer, second.normed);
    }
    const last = norm(builder, shape, `/model/layers.${shape.numLayers}/final_norm_layernorm`, 'language_model.norm.weight', hidden, delta);
    await head(builder, shape, tied, last.normed);
    return await builder.finish();
  } catch (cause) {
    builder.abandon();
    throw cause;
  }
}

function declareBorder(builder: ModelBuilder, shape: TextShape): void {
  const { floatType } = builder;
  const cache = (length: string): Dim[] => ['batch_size', shape.numKvHeads, length, shape.headDim];
  builder.input('inputs_embeds', DataType.FLOAT, ['batch_size', 'sequence_length', shape.hidden]);
  builder.input('attention_mask', DataType.INT64, ['batch_size', 'total_sequence_length']);
  if (shape.rope.sections) builder.input('position_ids', DataType.INT64, [NUM_AXES, 'batch_size', 'sequence_length']);
  builder.input('num_logits_to_keep', DataType.INT64, []);
  builder.output('logits', DataType.FLOAT, ['batch_size', 'num_logits_to_keep', shape.vocab]);
  for (let layer = 0; layer < shape.numLayers; layer++) {
    for (const side of ['key', 'value']) {
      builder.input(`past_key_values.${layer}.${side}`, floatType, cache('past_sequence_length'));
      builder.output(`present.${layer}.${side}`, floatType, cache('total_sequence_length'));
    }
  }
}

/** cos and sin of each position, [positions, D/2], for nodes that turn queries and keys themselves. */
interface RotaryTables {
  readonly cos: string;
  readonly sin: string;
}

/** What every attention node shares. */
interface AttentionInputs {
  /** [B] int32, the last slot of each row. */
  readonly lastSlots: string;
  /** Scalar int32, S + N. */
  readonly totalLength: string;
  readonly rotary: { readonly inside: RotaryTables } | { readonly before: AxialRotary };
  /** [B, 1, N, S + N], 0 or {@link MASKED}: padding, on the left or anywhere. */
  readonly bias: string;
}

function attentionInputs(builder: ModelBuilder, shape: TextShape): AttentionInputs {
  const { editor, floatType } = builder;
  const dims = '/model/shared_dims';
  const maskShape = builder.node('Shape', `${dims}/attention_mask/Shape`, ['attention_mask']);
  const total = builder.node('Gather', `${dims}/attention_mask/Gather_1`, [maskShape, editor.ints(1)], { axis: 0 });
  const inputShape = builder.node('Shape', `${dims}/root_input/Shape`, ['inputs_embeds']);
  const batch = builder.node('Slice', `${dims}/root_input/Slice_0`, [inputShape, editor.ints([0]), editor.ints([1])]);
  const length = builder.node('Slice', `${dims}/root_input/Slice_1`, [inputShape, editor.ints([1]), editor.ints([2])]);
  const total1 = builder.node('Slice', `${dims}/attention_mask/Slice_1`, [maskShape, editor.ints([1]), editor.ints([2])]);

  const at = '/model/attn_mask_reformat/attn_mask_subgraph';
  const last = builder.node('Sub', `${at}/Sub`, [total1, editor.ints(1)]);
  const lastRows = builder.node('Expand', `${at}/Expand`, [last, batch]);
  const lastSlots = builder.cast(`${at}/Expand/Cast`, lastRows, DataType.INT32);
  const totalLength = builder.cast(`${at}/Gather/Cast`, total, DataType.INT32);

  const biasAt = '/model/gqa_attention_bias';
  const mask = builder.cast(`${biasAt}/Cast`, 'attention_mask', floatType);
  const inverse = builder.node('Sub', `${biasAt}/Sub`, [editor.scalar(1, floatType), mask]);
  const scores = builder.node('Mul', `${biasAt}/Mul`, [inverse, editor.scalar(MASKED[builder.precision.floatType], floatType)]);
  const row = builder.node('Unsqueeze', `${biasAt}/Unsqueeze`, [scores, editor.ints([1, 2])]); // [B, 1, 1, S + N]
  const target = builder.node('Concat', `${biasAt}/Target4D`, [batch, editor.ints([1]), length, total1], { axis: 0 });
  const bias = builder.node('Expand', `${biasAt}/Expand`, [row, target]);

  const rotary = shape.rope.sections
    ? { before: axes(builder, shape, shape.rope.sections, batch, length) }
    : { inside: tables(builder, shape) };
  return { lastSlots, totalLength, bias, rotary };
}

function tables(builder: ModelBuilder, shape: TextShape): RotaryTables {
  const { cos, sin } = ropeTables(shape.rope, shape.maxPositions, shape.headDim);
  const dims = [shape.maxPositions, shape.headDim / 2];
  return { cos: builder.table('cos_cache', dims, cos), sin: builder.table('sin_cache', dims, sin) };
}

/** cos and sin of this run's tokens by time, height and width. */
function axes(builder: ModelBuilder, shape: TextShape, sections: readonly number[], batch: string, length: string): AxialRotary {
  const path = '/model/rotary_emb';
  const values = axisFrequencies(ropeFrequencies(shape.rope, shape.headDim), axesOfPairs(sections), NUM_AXES);
  const positions = builder.cast(`${path}/Cast`, 'position_ids', DataType.FLOAT);
  return axialRotary(builder, path, positions, { values, numAxes: NUM_AXES }, batch, length);
}

/** The residual stream x + delta and its RMS norm. */
function norm(
  builder: ModelBuilder,
  shape: TextShape,
  path: string,
  source: string,
  x: string,
  delta: string | undefined,
): { normed: string; sum: string } {
  const weight = builder.weight(`${path.slice(1).replaceAll('/', '.')}.weight`, source, [shape.hidden]);
  const epsilon = float(shape.epsilon);
  const normed = `${path}/output_0`;
  if (delta === undefined) {
    return {
      normed: builder.node('SimplifiedLayerNormalization', `${path}/LayerNorm`, [x, weight], { epsilon, axis: -1, stash_type: 1 }, normed),
      sum: x,
    };
  }
  const sum = `${path}/output_3`;
  builder.contrib('SkipSimplifiedLayerNormalization', `${path}/SkipLayerNorm`, [x, delta, weight], [normed, '', '', sum], { epsilon });
  return { normed, sum };
}

async function attend(builder: ModelBuilder, shape: TextShape, layer: number, x: string, attention: AttentionInputs): Promise<string> {
  const { hidden, numHeads, numKvHeads, headDim, qkvBias } = shape;
  const path = `/model/layers.${layer}/attn`;
  const from = `language_model.layers.${layer}.self_attn`;
  const project = (name: string, heads: number): Promise<string> =>
    builder.linear(`${path}/${name}`, x, { source: `${from}.${name}`, N: heads * headDim, K: hidden, bias: qkvBias });
  let query = await project('q_proj', numHeads);
  let key = await project('k_proj', numKvHeads);
  const value = await project('v_proj', numKvHeads);
  const { lastSlots, totalLength, rotary, bias } = attention;
  if ('before' in rotary) {
    query = turn(builder, `${path}/q_rotary`, query, rotary.before);
    key = turn(builder, `${path}/k_rotary`, key, rotary.before);
  }
  const { cos, sin } = 'inside' in rotary ? rotary.inside : { cos: '', sin: '' };
  const past = ['key', 'value'].map((side) => `past_key_values.${layer}.${side}`);
  builder.contrib(
    'GroupQueryAttention',
    `${path}/GroupQueryAttention`,
    [query, key, value, ...past, lastSlots, totalLength, cos, sin, '', bias],
    [`${path}/GroupQueryAttention/output_0`, `present.${layer}.key`, `present.${layer}.value`],
    {
      num_heads: numHeads,
      kv_num_heads: numKvHeads,
      scale: float(1 / Math.sqrt(headDim)),
      local_window_size: -1,
      softcap: float(0),
      do_rotary: cos ? 1 : 0,
      rotary_interleaved: 0,
    },
  );
  return builder.linear(`${path}/o_proj`, `${path}/GroupQueryAttention/output_0`, {
    source: `${from}.o_proj`,
    N: hidden,
    K: numHeads * headDim,
    bias: shape.outputBias,
  });
}

async function feedForward(builder: ModelBuilder, shape: TextShape, layer: number, x: string): Promise<string> {
  const { hidden, intermediate, mlpBias: bias } = shape;
  const path = `/model/layers.${layer}/mlp`;
  const from = `language_model.layers.${layer}.mlp`;
  const gate = await builder.linear(`${path}/gate_proj`, x, { source: `${from}.gate_proj`, N: intermediate, K: hidden, bias });
  const up = await builder.linear(`${path}/up_proj`, x, { source: `${from}.up_proj`, N: intermediate, K: hidden, bias });
  const product = builder.node('Mul', `${path}/Mul`, [activate(builder, path, gate, 'silu'), up]);
  return builder.linear(`${path}/down_proj`, product, { source: `${from}.down_proj`, N: hidden, K: intermediate, bias });
}

/** Logits of the last num_logits_to_keep tokens; 0 keeps all, since a slice from -0 begins at 0. */
async function head(builder: ModelBuilder, shape: TextShape, tied: boolean, x: string): Promise<void> {
  const { editor } = builder;
  const at = '/lm_head/num_logits_to_keep';
  const start = builder.node('Unsqueeze', `${at}/Unsqueeze`, [builder.node('Neg', `${at}/Neg`, ['num_logits_to_keep']), editor.ints([0])]);
  const kept = builder.node('Slice', `${at}/Slice`, [x, start, editor.ints([2147483647]), editor.ints([1])]);
  const isFloat = builder.floatType === DataType.FLOAT;
  const source = tied ? 'language_model.embed_tokens' : 'lm_head';
  const weight = { source, N: shape.vocab, K: shape.hidden, bias: false };
  const logits = await builder.linear('/lm_head', kept, weight, isFloat ? 'logits' : undefined);
  if (!isFloat) builder.cast('/lm_head/logits/Cast', logits, DataType.FLOAT, 'logits');
}
