/** A dense span -> packed segment: the rows of its tokens, an image's or text, leave the window and are factored, layer by layer, keys and values apart. */
import type { NewSegment } from './cache/packed.ts';
import { type OpenSpan, slotsOf } from './cache/spans.ts';
import type { DenseWindow, WindowArray } from './cache/window.ts';
import type { Encoder, Factors } from './encode/factor.ts';
import { fromFloat16 } from './encode/quantise.ts';
import type { Metric } from './encode/weighted.ts';
import { assert } from './errors.ts';
import { joined } from './joined.ts';
import type { Ranks } from './options.ts';
import type { ModelShape } from './shape.ts';

/** A basis that grows. */
export interface HeldBasis {
  readonly rank: Ranks;
  readonly tolerance: number;
  /** Rows held of one layer and side, [n, W]. */
  held(layer: number, side: 'keys' | 'values'): Float32Array;
}

/**
 * Factors the tokens of `spans`, one under the other, over all key/value heads combined: keys [T, Hkv·D] as they were before rotary embedding
 * where the spans kept them so (`rotate-late`, `m-rope`), as the window holds them otherwise. arXiv 2603.23914, section on multi-head attention compaction.
 *
 * @param spans of one sequence; they share the basis
 * @param rows of each span in the window
 * @param metrics what errors of keys cost, by layer; default: all directions alike
 * @param growth of a basis that grows: what is held of it, and how far it may. Default: a basis of their own.
 */
export async function compact(
  spans: readonly OpenSpan[],
  rows: readonly (readonly number[])[],
  window: DenseWindow,
  { layers: layerShapes }: ModelShape,
  { rank, seed }: { readonly rank: Ranks; readonly seed: number },
  encoder: Encoder,
  metrics?: readonly Metric[],
  growth?: HeldBasis,
): Promise<NewSegment> {
  const sequence = spans[0]?.sequence ?? 0;
  const slots = spans.flatMap(slotsOf);
  const allRows = rows.flat();
  assert(allRows.length === slots.length, `${slots.length} tokens have ${allRows.length} rows in the window`);
  const layers: { keys: Factors; values: Factors }[] = [];
  // One array serves all layers: megabytes a layer of a wide model would otherwise wait for the garbage collector.
  let scratch: WindowArray | undefined;
  for (const [l, { numKvHeads, headDim }] of layerShapes.entries()) {
    const width = numKvHeads * headDim;
    const rawKeys = spans.flatMap((span) => span.rawKeys[l] ?? []);
    const keyRows = rawKeys.length ? joined(rawKeys) : toFloat32((scratch = window.gather(l, 'keys', sequence, allRows, scratch)));
    const factor = (side: 'keys' | 'values', of: Float32Array, metric?: Metric): Promise<Factors> => {
      if (!growth) return encoder.factor(of, slots.length, width, rank[side], seed, metric);
      const { tolerance } = growth;
      return encoder.extend(of, slots.length, width, growth.held(l, side), { rank: growth.rank[side], tolerance }, seed, metric);
    };
    const keys = await factor('keys', keyRows, metrics?.[l]);
    scratch = window.gather(l, 'values', sequence, allRows, scratch);
    const values = await factor('values', toFloat32(scratch));
    layers.push({ keys, values });
  }
  // In post-rope there are none, and nobody reads what stands there.
  const positions = spans.flatMap((span) =>
    span.positions.length ? [...span.positions] : new Array<number>(slotsOf(span).length).fill(0),
  );
  return { sequence, slots, positions, layers, ...(growth && { joins: true }) };
}

function toFloat32(rows: WindowArray): Float32Array {
  return rows instanceof Float32Array ? rows : fromFloat16(rows);
}

/** Mean over layers; undefined where keys were not weighed. */
export function meanWeightedLost({ layers }: NewSegment): number | undefined {
  const shares = layers.flatMap(({ keys }) => keys.weightedLostEnergy ?? []);
  return shares.length ? shares.reduce((sum, share) => sum + share, 0) / shares.length : undefined;
}
