/** The vision encoder in one file: CLIP or SigLIP tower, choice of feature layers and tokens, projector into the decoder's width. */
import { DataType, float } from '../../onnx/index.ts';
import { activate } from '../activation.ts';
import { type BuildOptions, ModelBuilder } from '../builder.ts';
import type { WrittenModel } from '../weights-writer.ts';
import { gridTokens, imageTokens, type LlavaShape, type ProjectorShape, type VisionShape } from './config.ts';

const TOWER = 'vision_tower';

/** Writes `vision_encoder`: pixel_values [images, channels, height, width] -> image_features [images, tokens, hidden], both float32. */
export async function writeVisionEncoder(shape: LlavaShape, options: BuildOptions): Promise<WrittenModel> {
  const { vision, projector, text } = shape;
  const builder = new ModelBuilder('vision_encoder', options);
  try {
    builder.input('pixel_values', DataType.FLOAT, ['num_images', vision.channels, vision.imageSize, vision.imageSize]);
    builder.output('image_features', DataType.FLOAT, ['num_images', imageTokens(vision, projector), text.hidden]);
    const states = [embedPatches(builder, vision)];
    // Layers behind the last one asked for are never read.
    for (let layer = 0; layer < Math.max(...projector.featureLayers); layer++) {
      states.push(await encoderLayer(builder, vision, layer, states[layer] as string));
    }
    const features = selectFeatures(builder, projector, states);
    await project(builder, shape, features);
    return await builder.finish();
  } catch (cause) {
    builder.abandon();
    throw cause;
  }
}

/** Layers of the tower that are converted, for progress. */
export function usedVisionLayers(projector: ProjectorShape): number {
  return Math.max(...projector.featureLayers);
}

/** Hidden state 0, [images, tokens, width]: patches, class token, positions and CLIP's norm before the first layer. */
function embedPatches(builder: ModelBuilder, vision: VisionShape): string {
  const { hidden, channels, patchSize, hasClassToken } = vision;
  const { editor, floatType } = builder;
  const path = `/${TOWER}/embeddings`;
  const from = `${TOWER}.embeddings`;
  const name = `${TOWER}.embeddings`;
  const pixels = floatType === DataType.FLOAT ? 'pixel_values' : builder.cast(`${path}/pixel_values/Cast`, 'pixel_values', floatType);
  const kernel = builder.weight(`${name}.patch_embedding.weight`, `${from}.patch_embedding.weight`, [
    hidden,
    channels,
    patchSize,
    patchSize,
  ]);
  const convolution = [pixels, kernel];
  if (!hasClassToken) convolution.push(builder.weight(`${name}.patch_embedding.bias`, `${from}.patch_embedding.bias`, [hidden]));
  const sizes = { kernel_shape: [patchSize, patchSize], strides: [patchSize, patchSize] };
  const patches = builder.node('Conv', `${path}/patch_embedding/Conv`, convolution, sizes);
  const flat = builder.node('Reshape', `${path}/Reshape`, [patches, editor.ints([0, hidden, -1])]);
  let tokens = builder.node('Transpose', `${path}/Transpose`, [flat], { perm: [0, 2, 1] });
  if (hasClassToken) {
    const token = builder.weight(`${name}.class_embedding`, `${from}.class_embedding`, [1, 1, hidden], [hidden]);
    const shape = builder.node('Shape', `${path}/Shape`, [pixels]);
    const images = builder.node('Slice', `${path}/Slice`, [shape, editor.ints([0]), editor.ints([1])]);
    const dims = builder.node('Concat', `${path}/class_embedding/Concat`, [images, editor.ints([1, 1])], { axis: 0 });
    const rows = builder.node('Expand', `${path}/class_embedding/Expand`, [token, dims]);
    tokens = builder.node('Concat', `${path}/Concat`, [rows, tokens], { axis: 1 });
  }
  const positionDims = [gridTokens(vision) + (hasClassToken ? 1 : 0), hidden];
  const positions = builder.weight(`${name}.position_embedding.weight`, `${from}.position_embedding.weight`, positionDims);
  const embedded = builder.node('Add', `${path}/Add`, [tokens, positions]);
  return hasClassToken ? layerNorm(builder, vision, 'pre_layrnorm', embedded) : embedded; // transformers' own spelling
}

async function encoderLayer(builder: ModelBuilder, vision: VisionShape, layer: number, x: string): Promise<string> {
  const { hidden, numHeads, intermediate } = vision;
  const at = `encoder.layers.${layer}`;
  const path = `/${TOWER}/encoder/layers.${layer}`;
  const linear = (name: string, input: string, N: number, K: number): Promise<string> =>
    builder.linear(`${path}/${name.replaceAll('.', '/')}`, input, { source: `${TOWER}.${at}.${name}`, N, K, bias: true });

  const first = layerNorm(builder, vision, `${at}.layer_norm1`, x);
  const query = await linear('self_attn.q_proj', first, hidden, hidden);
  const key = await linear('self_attn.k_proj', first, hidden, hidden);
  const value = await linear('self_attn.v_proj', first, hidden, hidden);
  const attended = `${path}/self_attn/MultiHeadAttention/output_0`;
  builder.contrib('MultiHeadAttention', `${path}/self_attn/MultiHeadAttention`, [query, key, value], [attended], { num_heads: numHeads });
  const middle = builder.node('Add', `${path}/Add`, [x, await linear('self_attn.out_proj', attended, hidden, hidden)]);

  const second = layerNorm(builder, vision, `${at}.layer_norm2`, middle);
  const wide = activate(builder, `${path}/mlp`, await linear('mlp.fc1', second, intermediate, hidden), vision.activation);
  return builder.node('Add', `${path}/Add_1`, [middle, await linear('mlp.fc2', wide, hidden, intermediate)]);
}

/** @param name dotted name inside the tower, e.g. `encoder.layers.0.layer_norm1`. */
function layerNorm(builder: ModelBuilder, vision: VisionShape, name: string, x: string): string {
  const source = `${TOWER}.${name}`;
  const weight = builder.weight(`${source}.weight`, `${source}.weight`, [vision.hidden]);
  const bias = builder.weight(`${source}.bias`, `${source}.bias`, [vision.hidden]);
  const path = `/${TOWER}/${name.replace('encoder.layers', 'encoder/layers').replace(/\.(?=\D)/g, '/')}`;
  return builder.node('LayerNormalization', `${path}/LayerNorm`, [x, weight, bias], { epsilon: float(vision.epsilon), axis: -1 });
}

/** The chosen hidden states side by side, without the class token if the strategy drops it. */
function selectFeatures(builder: ModelBuilder, projector: ProjectorShape, states: readonly string[]): string {
  const { editor } = builder;
  const chosen = projector.featureLayers.map((layer) => states[layer] as string);
  const [only = ''] = chosen;
  const joined = chosen.length === 1 ? only : builder.node('Concat', '/feature_layers/Concat', chosen, { axis: -1 });
  if (!projector.dropsFirst) return joined;
  return builder.node('Slice', '/feature_select/Slice', [joined, editor.ints([1]), editor.ints([2147483647]), editor.ints([1])]);
}

async function project(builder: ModelBuilder, { vision, projector, text }: LlavaShape, x: string): Promise<void> {
  const from = 'multi_modal_projector';
  const { bias } = projector;
  const isFloat = builder.floatType === DataType.FLOAT;
  const first = { source: `${from}.linear_1`, N: text.hidden, K: vision.hidden * projector.featureLayers.length, bias };
  const middle = activate(builder, `/${from}`, await builder.linear(`/${from}/linear_1`, x, first), projector.activation);
  const second = { source: `${from}.linear_2`, N: text.hidden, K: text.hidden, bias };
  const features = await builder.linear(`/${from}/linear_2`, middle, second, isFloat ? 'image_features' : undefined);
  if (!isFloat) builder.cast('/image_features/Cast', features, DataType.FLOAT, 'image_features');
}
