/**
 * The legend and the ModelShape every stage shares.
 *
 * One legend for code, docs and graph value names; arrays are row-major and their layout is written in these letters:
 *
 *     B     sequences in the batch
 *     L     attention layers
 *     H     query heads; Hkv key/value heads; G = H / Hkv query heads per key/value head
 *     D     head dimension; W = Hkv·D, the width of one token's keys (or values) in one layer
 *     N     new tokens in this step
 *     S     rows of the dense window, capacity included (unused rows are masked)
 *     M     packed segments (images); T tokens in a segment (shorter ones are padded and masked)
 *     r     rank: columns of the codes; rk for keys, rv for values
 *
 * A *slot* is a token's place in the sequence as the attention mask counts it, padding included. A *position* is what rotary embedding
 * turns by. They differ by the left padding of a row, by models that count positions from 1, and by models whose positions have several axes.
 */

/** Where rotary embedding stands against the packed keys; see `algorithm.md`, section 4. */
export const ROTARY_MODES = ['rotate-late', 'm-rope', 'post-rope'] as const;

/**
 * `rotate-late`: keys are factored before rotary embedding and rotated when they are read (the paper's way; fewer columns needed, r·D
 * products per query head and token). `post-rope`: rotated keys are factored and scored in latent space (more columns, r products). `m-rope`, for
 * positions on several axes: factored like `rotate-late` and exact like it, but it is the query that is turned back, once for each place on an axis,
 * and scored in latent space (2·r products); few new tokens and large images gain, and each step takes the cheaper of both ways. Where that is keys
 * rebuilt, as with images of 256 tokens, having the choice costs up to 0.1 ms a layer (`npm run bench -- rotary`).
 */
export type RotaryMode = (typeof ROTARY_MODES)[number];

/** Whether keys are packed as they were before rotary embedding, so that their positions are needed. */
export const packsRawKeys = (rotary: RotaryMode): boolean => rotary !== 'post-rope';

export const CODE_TYPES = ['float32', 'float16', 'int8', 'mixed'] as const;
/**
 * Element type in which codes are held and fed. int8 folds each column's scale into its basis row, or into its step where the basis has steps. *mixed*: columns
 * of 8, 4 and 2 bits side by side in bytes.
 */
export type CodeType = (typeof CODE_TYPES)[number];

export const BASIS_TYPES = ['float32', 'float16', 'int8', 'mixed'] as const;
/** Element type in which bases are held and fed. int8: each row has its step; *mixed*: rows of 8, 4 and 2 bits. */
export type BasisType = (typeof BASIS_TYPES)[number];

export const WINDOW_TYPES = ['float32', 'float16'] as const;
/** Element type in which the dense window is held and fed. */
export type WindowType = (typeof WINDOW_TYPES)[number];

/** How rotary embedding pairs the columns of a head. */
export interface Turning {
  /** Whether a pair is columns 2i and 2i + 1, or i and i + half of those turned. */
  readonly interleaved: boolean;
  /** Leading columns of a head that are turned. */
  readonly numTurned: number;
}

/** One attention layer, as read from its node. */
export interface LayerShape {
  /** The N of `past_key_values.N.key`. */
  readonly index: number;
  readonly numHeads: number;
  readonly numKvHeads: number;
  readonly headDim: number;
  /** A query sees only keys less than this many slots back; undefined: all of them. */
  readonly localWindow?: number;
  /** Whether the attention node itself turns queries and keys, or nodes before it do (or none). */
  readonly rotary: 'inside' | 'outside';
  /** How it pairs columns, where query moments are handed out and it is known. */
  readonly turning?: Turning;
}

/** What the cache must know of a decoder. */
export interface ModelShape {
  readonly layers: readonly LayerShape[];
  /** Axes of rotary positions where a token has several: time, height and width in M-RoPE. Undefined: one. */
  readonly positionAxes?: number;
  /**
   * In `m-rope`: columns of a head's keys by the axis that turns them, [A][D_a], the two of a rotary pair side by side; columns that are not turned
   * come last, with the last axis. Key bases have their columns in the order of {@link columnsByAxis}.
   */
  readonly axisColumns?: readonly (readonly number[])[];
  /** Element type of `past_key_values`: what the dense window holds. */
  readonly windowType: WindowType;
}

/** Bytes one token's keys and values take in a dense fp16 cache, over all layers: 2 (keys, values) · 2 bytes · Σ Hkv·D. */
export function denseTokenBytes(shape: ModelShape): number {
  return shape.layers.reduce((sum, layer) => sum + 4 * layer.numKvHeads * layer.headDim, 0);
}

/** Columns of a head, [D]: the first ones of all rotary pairs, sorted by axis, then the second ones. Qwen2-VL's own order, and what rotary embedding is fastest on. */
export function columnsByAxis(axisColumns: readonly (readonly number[])[]): number[] {
  const columns = axisColumns.flat();
  return [...columns.filter((_, i) => i % 2 === 0), ...columns.filter((_, i) => i % 2 === 1)];
}
