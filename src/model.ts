/** Makes a transformers.js model use packed caches: which tokens are images, which images still need encoding, whose cache a call uses. */
import type { PreTrainedModel, Tensor } from '@huggingface/transformers';
import { PackedCache } from './cache.ts';
import { expectTokens } from './decode.ts';
import { AttentionPackError } from './errors.ts';
import { imageSpans } from './prefill.ts';
import { type PackedModel, type PackedState, STATE } from './state.ts';

/** The inputs of a forward pass that packing looks at. */
interface ModelInputs {
  input_ids?: Tensor;
  attention_mask?: Tensor;
  pixel_values?: Tensor;
  past_key_values?: unknown;
  [LAST_LOGITS_ONLY]?: boolean;
  [name: string]: unknown;
}

/** Set on inputs that `generate` prepared: it reads no logits but the last token's. */
const LAST_LOGITS_ONLY: unique symbol = Symbol('attentionpack.lastLogitsOnly');

/** The methods of PreTrainedModel that are stood in front of. */
interface Hooked {
  forward(inputs: ModelInputs): Promise<Record<string, Tensor>>;
  prepare_inputs_for_generation(ids: bigint[][], inputs: ModelInputs, config: unknown): ModelInputs;
  dispose(): Promise<unknown>;
}

/** Turns a loaded model, whose decoder session is a PackedSession, into a PackedModel. */
export function attachPacked<M extends PreTrainedModel>(model: M, state: PackedState): M & PackedModel {
  const hooked = model as unknown as Hooked;
  const forward = hooked.forward.bind(model);
  const prepare = hooked.prepare_inputs_for_generation.bind(model);
  const dispose = hooked.dispose.bind(model);
  const result = Object.assign(model, {
    [STATE]: state,
    forward: (inputs: ModelInputs) => packedForward(result, forward, inputs),
    prepare_inputs_for_generation: (ids: bigint[][], inputs: ModelInputs, config: unknown) => {
      if (inputs.past_key_values instanceof PackedCache) checkPrefix(inputs.past_key_values, ids);
      return { ...prepare(ids, inputs, config), [LAST_LOGITS_ONLY]: true };
    },
    dispose: async () => {
      await state.encoder.dispose();
      return dispose();
    },
    [Symbol.asyncDispose]: async () => {
      await result.dispose();
    },
  }) as M & PackedModel;
  return result;
}

async function packedForward(
  model: PreTrainedModel & PackedModel,
  forward: (inputs: ModelInputs) => Promise<Record<string, Tensor>>,
  inputs: ModelInputs,
): Promise<Record<string, Tensor>> {
  const given = inputs.past_key_values;
  if (given && !(given instanceof PackedCache) && Object.keys(given).length > 0) {
    throw new AttentionPackError('past_key_values of a packed model must be a PackedCache; a DynamicCache cannot be read by it');
  }
  const isLent = !(given instanceof PackedCache);
  const cache = given instanceof PackedCache ? given : new PackedCache(model);
  const keepsCache = Boolean(inputs[LAST_LOGITS_ONLY]);
  // generate() looks here for the cache of its next step, and disposes it if the caller brought none. Others keep their inputs as they are.
  if (keepsCache) inputs.past_key_values = cache;
  try {
    const { pixel_values, ...rest } = inputs;
    const image = expectImages(model, cache, inputs);
    return await forward(image ? { ...rest, past_key_values: cache, pixel_values: image } : { ...rest, past_key_values: cache });
  } catch (cause) {
    if (isLent) await cache.dispose();
    throw cause;
  } finally {
    if (isLent && !keepsCache) await cache.dispose();
  }
}

/**
 * Finds the images among the new tokens, tells the cache, and returns the pixel values that still have to be encoded.
 *
 * A later turn may bring the pictures of the whole conversation or only its new ones; the last of them belong to the new tokens. (Stock
 * code encodes all of them and throws, since their features outnumber the new image tokens.)
 */
function expectImages(model: PreTrainedModel, cache: PackedCache, inputs: ModelInputs): Tensor | undefined {
  const ids = toRows(inputs.input_ids);
  if (!ids) return inputs.pixel_values;
  const imageToken = imageTokenOf(model);
  const numImageTokens = imageToken === undefined ? 0 : ids.reduce((sum, row) => sum + row.filter((id) => id === imageToken).length, 0);
  const pixels = inputs.pixel_values;
  const perImage = tokensPerImage(model);
  let wanted = pixels;
  if (pixels && numImageTokens === 0) wanted = undefined;
  else if (pixels && perImage && pixels.dims.length === 4) {
    const numImages = numImageTokens / perImage;
    const brought = pixels.dims[0] ?? 0;
    if (!Number.isInteger(numImages) || numImages > brought) {
      throw new AttentionPackError(
        `the prompt has ${numImageTokens} image tokens, ${brought} images make ${brought * perImage}; give each image one placeholder of ${perImage} tokens`,
      );
    }
    if (numImages < brought) wanted = pixels.slice([brought - numImages, brought]) as Tensor;
  } else if (!pixels && numImageTokens > 0) {
    throw new AttentionPackError(`the prompt has ${numImageTokens} image tokens but no pixel_values; pass the processor's output whole`);
  }
  expectTokens(cache.handle, {
    ids,
    spans: ids.map((row) => (imageToken === undefined ? [] : imageSpans(row, imageToken, perImage))),
    lastLogitsOnly: Boolean(inputs[LAST_LOGITS_ONLY]),
  });
  return wanted;
}

interface VisionConfigs {
  image_token_index?: number;
  image_token_id?: number;
  vision_feature_select_strategy?: string;
  vision_config?: { image_size?: number; patch_size?: number; model_type?: string };
  model_type?: string;
}

function imageTokenOf(model: PreTrainedModel): number | undefined {
  const config = model.config as unknown as VisionConfigs;
  return config.image_token_index ?? config.image_token_id;
}

/** Tokens of one image, for models where all images have as many; undefined where resolution decides. */
function tokensPerImage(model: PreTrainedModel): number | undefined {
  const { model_type, vision_config, vision_feature_select_strategy } = model.config as unknown as VisionConfigs;
  if (model_type !== 'llava' || !vision_config?.image_size || !vision_config.patch_size) return undefined;
  const patches = Math.floor(vision_config.image_size / vision_config.patch_size) ** 2;
  const hasClassToken = vision_config.model_type?.startsWith('clip') && vision_feature_select_strategy === 'full';
  return patches + (hasClassToken ? 1 : 0);
}

/**
 * Holds a conversation's tokens against what the cache has seen.
 *
 * @throws {AttentionPackError} at the first token that differs; going on would answer about another conversation.
 */
function checkPrefix(cache: PackedCache, ids: bigint[][]): void {
  const seen = cache.get_seq_length();
  ids.forEach((row, b) => {
    const known = cache.ids(b);
    if (row.length <= seen) {
      throw new AttentionPackError(
        `the cache holds ${seen} tokens, the input ${row.length}; pass the whole conversation's input_ids, old turns included`,
      );
    }
    const differs = known.findIndex((id, i) => id >= 0 && BigInt(id) !== row[i]);
    if (differs >= 0) {
      throw new AttentionPackError(
        `the cache holds another conversation: token ${differs} is ${known[differs]} in the cache and ${row[differs]} in the input`,
      );
    }
  });
}

function toRows(ids: Tensor | undefined): number[][] | undefined {
  if (!ids) return undefined;
  const [batch = 0, length = 0] = ids.dims;
  const data = ids.data as BigInt64Array;
  return Array.from({ length: batch }, (_, b) => Array.from(data.subarray(b * length, (b + 1) * length), Number));
}
