/** Runs a prompt once through a decoder, nothing packed, and keeps the keys and values it makes: what a spectrum is taken of. */
import type { PreTrainedModel } from '@huggingface/transformers';
import { outputRows } from '../cache/spans.ts';
import { PackedCache } from '../cache.ts';
import { newRowsName, rawKeysName } from '../contract.ts';
import { packedSessionOf, type TappedRun } from '../decode.ts';
import { fromFloat16 } from '../encode/quantise.ts';
import { AttentionPackError } from '../errors.ts';
import type { Span } from '../prefill.ts';
import type { Prompt } from '../prompt.ts';
import type { LayerShape } from '../shape.ts';
import { type PackedModel, STATE } from '../state.ts';

/** What of a layer is looked at. */
export const SIDES = ['keysBeforeRotary', 'keysAfterRotary', 'values'] as const;
export type Side = (typeof SIDES)[number];

/** Keys and values of one layer over the whole prompt, each [T, W]. */
export interface LayerRows {
  readonly shape: LayerShape;
  /** `keysBeforeRotary` is missing where the graph does not hand them out: load the model with `rawKeys`. */
  readonly rows: Readonly<Partial<Record<Side, Float32Array>>>;
}

export interface PromptRows {
  readonly numTokens: number;
  /** Where the images are. */
  readonly images: readonly Span[];
  readonly layers: readonly LayerRows[];
}

/**
 * Memory: 12·T·W bytes a layer.
 *
 * @param only indices of the layers to keep. Default: all of them.
 * @throws {AttentionPackError} for layers the model has not, or a prompt without images
 */
export async function collectRows(model: PreTrainedModel & PackedModel, inputs: Prompt, only?: readonly number[]): Promise<PromptRows> {
  const { layers } = model[STATE].graph.shape;
  const unknown = only?.find((index) => !layers.some((layer) => layer.index === index));
  if (unknown !== undefined) throw new AttentionPackError(`there is no layer ${unknown}; the decoder has layers 0 to ${layers.length - 1}`);
  const numTokens = inputs.input_ids.dims[1] ?? 0;
  const kept = layers.filter((layer) => only?.includes(layer.index) ?? true).map((shape) => ({ shape, rows: {} as LayerArrays }));
  let images: readonly Span[] = [];
  const session = packedSessionOf(model);
  // Nothing is packed while this many tokens stay dense, so every token sees all others as in the dense model.
  await using cache = new PackedCache(model, { recent: Number.MAX_SAFE_INTEGER });
  session.tap = (run) => {
    images = run.spans[0] ?? [];
    for (const layer of kept) keep(layer.shape, layer.rows, run, numTokens);
  };
  try {
    // `generate` asks for the last token's logits only; those of all tokens may not fit into memory.
    await model.generate({ ...inputs, past_key_values: cache, max_new_tokens: 1 } as never);
  } finally {
    session.tap = undefined;
  }
  if (!images.length) throw new AttentionPackError('the prompt has no image tokens, so there is nothing visual to look at; give images');
  return { numTokens, images, layers: kept };
}

type LayerArrays = Partial<Record<Side, Float32Array>>;

/** Copies one run's [1, Hkv, N, D] into [T, W]. */
function keep({ index, numKvHeads, headDim }: LayerShape, into: LayerArrays, { rows, from, to }: TappedRun, numTokens: number): void {
  const names: Record<Side, string> = {
    keysBeforeRotary: rawKeysName(index),
    keysAfterRotary: newRowsName(index, 'key'),
    values: newRowsName(index, 'value'),
  };
  const width = numKvHeads * headDim;
  for (const side of SIDES) {
    if (!rows[names[side]]) continue;
    const given = outputRows(rows, names[side]);
    const run = given instanceof Float32Array ? given : fromFloat16(given);
    const target = (into[side] ??= new Float32Array(numTokens * width));
    for (let h = 0; h < numKvHeads; h++) {
      for (let t = from; t < to; t++) {
        const source = (h * (to - from) + t - from) * headDim;
        target.set(run.subarray(source, source + headDim), t * width + h * headDim);
      }
    }
  }
}
