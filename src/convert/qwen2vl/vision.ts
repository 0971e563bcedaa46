/**
 * The vision encoder of Qwen2-VL in one file: patches of any number of pictures and clips in, tokens out; attention stays within a frame.
 *
 * Patches lie frame behind frame, those that one token merges side by side. For attention, frames become rows of a batch: the linear layers run on the
 * patches as they are, and around attention patches are gathered into [frames, longest, ..], shorter frames filled up with copies of their last
 * patch, which no one sees.
 */
import { DataType, float } from '../../onnx/index.ts';
import { activate } from '../activation.ts';
import { type AxialRotary, axialRotary, axisFrequencies, turn } from '../axial-rotary.ts';
import { type BuildOptions, ModelBuilder } from '../builder.ts';
import { MASKED } from '../masked.ts';
import { ropeFrequencies } from '../rope.ts';
import type { WrittenModel } from '../weights-writer.ts';
import type { Qwen2VlShape, Qwen2VlVisionShape } from './config.ts';
import { type FrameGrid, frameGrid } from './frames.ts';

const TOWER = 'visual';
/** Fixed in transformers' Qwen2-VL; not in config.json. */
const EPSILON = 1e-6;

/**
 * Writes `vision_encoder`: pixel_values [patches, channels·time·size·size], grid_thw [images, 3] -> image_features [tokens, hidden], features in float32.
 */
export async function writeVisionEncoder({ vision, text }: Qwen2VlShape, options: BuildOptions): Promise<WrittenModel> {
  const builder = new ModelBuilder('vision_encoder', options);
  try {
    const { floatType } = builder;
    const pixels = builder.input('pixel_values', DataType.FLOAT, ['num_patches', patchWidth(vision)]);
    builder.input('grid_thw', DataType.INT64, ['num_images', 3]);
    builder.output('image_features', DataType.FLOAT, ['num_tokens', text.hidden]);
    const grid = frameGrid(builder, 'grid_thw', vision.mergeSize);
    const attention = attentionInputs(builder, vision, grid);
    let x = embedPatches(builder, vision, floatType === DataType.FLOAT ? pixels : builder.cast(`/${TOWER}/Cast`, pixels, floatType));
    for (let layer = 0; layer < vision.numLayers; layer++) x = await encoderLayer(builder, vision, layer, x, attention);
    await merge(builder, vision, text.hidden, x);
    return await builder.finish();
  } catch (cause) {
    builder.abandon();
    throw cause;
  }
}

/** Numbers in a patch. */
function patchWidth({ channels, temporalPatchSize, patchSize }: Qwen2VlVisionShape): number {
  return channels * temporalPatchSize * patchSize * patchSize;
}

/** The checkpoint's 3-D convolution, whose stride is its kernel: a product with each patch. [patches, width] */
function embedPatches(builder: ModelBuilder, vision: Qwen2VlVisionShape, pixels: string): string {
  const { hidden, channels, temporalPatchSize, patchSize } = vision;
  const name = `${TOWER}.patch_embed.proj.weight`;
  const kernel = builder.weight(name, name, [hidden, patchWidth(vision)], [hidden, channels, temporalPatchSize, patchSize, patchSize]);
  return builder.node('Gemm', `/${TOWER}/patch_embed/Gemm`, [pixels, kernel], { transB: 1 });
}

/** What every attention node shares. */
interface AttentionInputs {
  readonly grid: FrameGrid;
  readonly rotary: AxialRotary;
  /** [frames, 1, longest, longest]: 0, or {@link MASKED} for keys that only fill a frame up. */
  readonly bias: string;
}

function attentionInputs(builder: ModelBuilder, vision: Qwen2VlVisionShape, grid: FrameGrid): AttentionInputs {
  const { editor, floatType } = builder;
  const quarter = vision.hidden / vision.numHeads / 4;
  // height turns the first half of a head's pairs, width the second, both by the same frequencies
  const frequencies = ropeFrequencies({ type: 'default', theta: vision.theta }, 2 * quarter);
  const values = axisFrequencies(
    Float32Array.of(...frequencies, ...frequencies),
    Array.from({ length: 2 * quarter }, (_, pair) => (pair < quarter ? 0 : 1)),
    2,
  );
  const rotary = axialRotary(builder, `/${TOWER}/rotary_pos_emb`, grid.positions, { values, numAxes: 2 }, grid.numFrames, grid.longest);
  const at = `/${TOWER}/attention_bias`;
  const masked = editor.scalar(MASKED[builder.precision.floatType], floatType);
  const row = builder.node('Where', `${at}/Where`, [grid.isPatch, editor.scalar(0, floatType), masked]);
  const rows = builder.node('Unsqueeze', `${at}/Unsqueeze`, [row, editor.ints([1, 2])]); // [frames, 1, 1, longest]
  const dims = builder.node('Concat', `${at}/Concat`, [grid.numFrames, editor.ints([1]), grid.longest, grid.longest], { axis: 0 });
  return { grid, rotary, bias: builder.node('Expand', `${at}/Expand`, [rows, dims]) };
}

async function encoderLayer(
  builder: ModelBuilder,
  vision: Qwen2VlVisionShape,
  layer: number,
  x: string,
  attention: AttentionInputs,
): Promise<string> {
  const { hidden, intermediate } = vision;
  const path = `/${TOWER}/blocks.${layer}`;
  const from = `${TOWER}.blocks.${layer}`;
  const attended = await attend(builder, vision, layer, layerNorm(builder, vision, `blocks.${layer}.norm1`, x), attention);
  const middle = builder.node('Add', `${path}/Add`, [x, attended]);
  const second = layerNorm(builder, vision, `blocks.${layer}.norm2`, middle);
  const wide = await builder.linear(`${path}/mlp/fc1`, second, { source: `${from}.mlp.fc1`, N: intermediate, K: hidden, bias: true });
  const active = activate(builder, `${path}/mlp`, wide, vision.activation);
  const narrow = await builder.linear(`${path}/mlp/fc2`, active, { source: `${from}.mlp.fc2`, N: hidden, K: intermediate, bias: true });
  return builder.node('Add', `${path}/Add_1`, [middle, narrow]);
}

async function attend(
  builder: ModelBuilder,
  { hidden, numHeads }: Qwen2VlVisionShape,
  layer: number,
  x: string,
  { grid, rotary, bias }: AttentionInputs,
): Promise<string> {
  const { editor } = builder;
  const path = `/${TOWER}/blocks.${layer}/attn`;
  const from = `${TOWER}.blocks.${layer}.attn`;
  const joined = await builder.linear(`${path}/qkv`, x, { source: `${from}.qkv`, N: 3 * hidden, K: hidden, bias: true });
  const byFrame = builder.node('Gather', `${path}/Gather`, [joined, grid.patchOfSlot], { axis: 0 }); // [frames, longest, 3·width]
  const parts = ['query', 'key', 'value'].map((part) => `${path}/Split/${part}`);
  editor.append('Split', [byFrame, editor.ints([hidden, hidden, hidden])], parts, { name: `${path}/Split`, attributes: { axis: -1 } });
  const [query = '', key = '', value = ''] = parts;
  const turned = [turn(builder, `${path}/query`, query, rotary), turn(builder, `${path}/key`, key, rotary)];
  const attended = `${path}/MultiHeadAttention/output_0`;
  builder.contrib('MultiHeadAttention', `${path}/MultiHeadAttention`, [...turned, value, '', '', bias], [attended], {
    num_heads: numHeads,
  });
  const flat = builder.node('Reshape', `${path}/Reshape`, [attended, editor.ints([-1, hidden])]);
  const patches = builder.node('Gather', `${path}/Gather_1`, [flat, grid.slotOfPatch], { axis: 0 }); // [patches, width]
  return builder.linear(`${path}/proj`, patches, { source: `${from}.proj`, N: hidden, K: hidden, bias: true });
}

/** @param name dotted name inside the tower, e.g. `blocks.0.norm1`. */
function layerNorm(builder: ModelBuilder, vision: Qwen2VlVisionShape, name: string, x: string): string {
  const source = `${TOWER}.${name}`;
  const weight = builder.weight(`${source}.weight`, `${source}.weight`, [vision.hidden]);
  const bias = builder.weight(`${source}.bias`, `${source}.bias`, [vision.hidden]);
  const path = `/${TOWER}/${name.replace(/\.(?=\D)/g, '/')}`;
  return builder.node('LayerNormalization', `${path}/LayerNorm`, [x, weight, bias], { epsilon: float(EPSILON), axis: -1 });
}

/** Patches that lie side by side become one token of the decoder's width. */
async function merge(builder: ModelBuilder, vision: Qwen2VlVisionShape, textHidden: number, x: string): Promise<void> {
  const wide = vision.hidden * vision.mergeSize ** 2;
  const path = `/${TOWER}/merger`;
  const from = `${TOWER}.merger`;
  const normed = layerNorm(builder, vision, 'merger.ln_q', x);
  const joined = builder.node('Reshape', `${path}/Reshape`, [normed, builder.editor.ints([-1, wide])]);
  const first = await builder.linear(`${path}/mlp.0`, joined, { source: `${from}.mlp.0`, N: wide, K: wide, bias: true });
  const active = activate(builder, path, first, 'gelu');
  const isFloat = builder.floatType === DataType.FLOAT;
  const last = { source: `${from}.mlp.2`, N: textHidden, K: wide, bias: true };
  const features = await builder.linear(`${path}/mlp.2`, active, last, isFloat ? 'image_features' : undefined);
  if (!isFloat) builder.cast('/image_features/Cast', features, DataType.FLOAT, 'image_features');
}
