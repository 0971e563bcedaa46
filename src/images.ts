/** Which tokens are images, and which pictures of a call still have to be encoded. */
import { cat, type PreTrainedModel, type Tensor } from '@huggingface/transformers';
import { AttentionPackError } from './errors.ts';
import { griddedImages, mergeSizeOf } from './images/grid.ts';
import { imageSpans, type Span } from './prefill.ts';
import type { CacheStore } from './store.ts';

export interface NewImages {
  /** New token ids, [B][N]. */
  readonly ids: readonly (readonly number[])[];
  /** Images among them, per sequence. */
  readonly spans: readonly (readonly Span[])[];
  /** Pictures to encode; undefined if there are none. */
  readonly pixels: Tensor | undefined;
  /** Their grids, [pictures, 3], in models that have them. */
  readonly grids?: Tensor | undefined;
}

/** What a call brings of pictures. */
export interface ImageInputs {
  readonly pixel_values?: Tensor | undefined;
  readonly image_grid_thw?: Tensor | undefined;
}

/**
 * Finds the images among the new tokens and the pictures that belong to them.
 *
 * A later turn may bring the pictures of the whole conversation or only its new ones. (Stock code encodes all of them and throws, since their
 * features outnumber the new image tokens.) In a batch, pictures come sequence by sequence, so the new ones are not simply the last.
 *
 * @throws {AttentionPackError} if pictures and image tokens do not match
 */
export function newImages(model: PreTrainedModel, store: CacheStore, inputIds: Tensor, inputs: ImageInputs): NewImages {
  const { pixel_values: pixels } = inputs;
  const [batch = 0, numTokens = 0] = inputIds.dims;
  const data = inputIds.data as BigInt64Array;
  const ids = Array.from({ length: batch }, (_, b) => Array.from(data.subarray(b * numTokens, (b + 1) * numTokens), Number));
  const imageToken = imageTokenOf(model);
  // A step of generation: pictures passed again were read before, and an image token the model made up is a word like others.
  const isStep = numTokens === 1 && store.numSlots > 0;
  if (imageToken === undefined || isStep) return { ids, spans: ids.map(() => []), pixels: isStep ? undefined : pixels };
  const mergeSize = mergeSizeOf(model);
  if (mergeSize !== undefined) return { ids, ...griddedImages(store, ids, imageToken, mergeSize, inputs) };
  const perImage = tokensPerImage(model);
  const spans = ids.map((row) => imageSpans(row, imageToken, perImage));
  return { ids, spans, pixels: perImage && pixels?.dims.length !== 5 ? picked(store, spans, pixels, perImage) : counted(spans, pixels) };
}

/** The pictures of the new image tokens, where each takes `perImage` tokens. pixels: [pictures, 3, height, width]. */
function picked(store: CacheStore, spans: readonly (readonly Span[])[], pixels: Tensor | undefined, perImage: number): Tensor | undefined {
  const odd = spans.flat().find((span) => span.end - span.start !== perImage);
  if (odd) {
    throw new AttentionPackError(
      `${odd.end - odd.start} image tokens stand side by side in the prompt, one image takes ${perImage}; give each image ${perImage}, or let prompt() write them`,
    );
  }
  const added = spans.map((row) => row.length);
  const seen = spans.map((_, b) => store.numImages(b));
  const [numAdded, numSeen] = [sum(added), sum(seen)];
  if (!pixels) return none(numAdded);
  const brought = pixels.dims[0] ?? 0;
  if (brought === numAdded) return pixels;
  if (brought !== numAdded + numSeen) {
    const before = numSeen ? `, behind ${numSeen} in the cache` : '';
    const wanted = numSeen ? `the ${numAdded} new ones or all ${numAdded + numSeen}` : `one for each`;
    throw new AttentionPackError(`the prompt has ${numAdded} new images${before}, but pixel_values has ${brought}; give ${wanted}`);
  }
  if (numAdded === 0) return undefined;
  let at = 0;
  const parts: Tensor[] = [];
  for (const [b, count] of added.entries()) {
    at += seen[b] ?? 0;
    if (count) parts.push(pixels.slice([at, at + count]) as Tensor);
    at += count;
  }
  return parts.length === 1 ? parts[0] : cat(parts, 0);
}

/** The same where resolution decides how many tokens an image takes: all pictures or none. */
function counted(spans: readonly (readonly Span[])[], pixels: Tensor | undefined): Tensor | undefined {
  const numSpans = sum(spans.map((row) => row.length));
  if (!pixels) return none(numSpans);
  return numSpans ? pixels : undefined;
}

function none(numImages: number): undefined {
  if (numImages > 0)
    throw new AttentionPackError(`the prompt has ${numImages} new images but no pixel_values; pass the processor's output whole`);
  return undefined;
}

interface VisionConfigs {
  image_token_index?: number;
  image_token_id?: number;
  vision_feature_select_strategy?: string;
  vision_config?: { image_size?: number; patch_size?: number; model_type?: string };
  model_type?: string;
}

/** Id of the token that stands for image features; undefined for a model without pictures. */
export function imageTokenOf(model: PreTrainedModel): number | undefined {
  const config = model.config as unknown as VisionConfigs;
  return config.image_token_index ?? config.image_token_id;
}

/** Tokens of one image, for models where all images have as many; undefined where resolution decides. */
function tokensPerImage(model: PreTrainedModel): number | undefined {
  const { model_type, vision_config, vision_feature_select_strategy } = model.config as unknown as VisionConfigs;
  if (model_type !== 'llava' || !vision_config?.image_size || !vision_config.patch_size) return undefined;
  const patches = Math.floor(vision_config.image_size / vision_config.patch_size) ** 2;
  const classTokens = vision_config.model_type?.startsWith('clip') ? 1 : 0;
  // 'default', which may go unsaid, drops the first token; only CLIP has one that is no patch.
  const dropped = vision_feature_select_strategy === 'full' ? 0 : 1;
  return patches + classTokens - dropped;
}

function sum(counts: readonly number[]): number {
  return counts.reduce((total, count) => total + count, 0);
}
