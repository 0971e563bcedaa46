/**
 * The contract between a packed decoder's graph and the cache: every name and shape that crosses it.
 *
 * Letters as in `shape.ts`. Inputs the original decoder has (`inputs_embeds`, `attention_mask`, `position_ids`, `num_logits_to_keep`) stay
 * as they are; `attention_mask` is [B, slots so far + N] and is the only source of padding.
 *
 * | input                          | shape               |                                                                     |
 * |--------------------------------|---------------------|---------------------------------------------------------------------|
 * | `past_key_values.i.key/.value` | [B, Hkv, S, D]      | the dense window; keys after rotary embedding                       |
 * | `window.slots`                 | [B, S] int64        | slot of each window row; -1: unused                                 |
 * | `packed.slots`                 | [B, M·T] int64      | slot of each packed token; -1: padding                              |
 * | `packed.positions`             | [B, M·T] int64      | rotary positions, [B, M·T, A] on A axes; not in `post-rope`         |
 * | `packed.i.key_codes`           | [B, M, T, rk]       | float32, float16, int8, or *mixed*: uint8 [B, M, T, bytes]          |
 * | `packed.i.key_basis`           | [B, M, Hkv, rk, D]  | likewise; *mixed*: uint8 [B, M, Hkv, rows of bytes, D]; key of token t, head h = codes[t] · basis[h] |
 * | `packed.i.key_steps`           | [B, M, K, rk]       | where the types need them; see {@link stepRows}                      |
 * | `packed.i.key_code_widths`     | [3] int64           | with *mixed* codes: bytes of columns of 8, 4 and 2 bits             |
 * | `packed.i.key_basis_widths`    | [3] int64           | with a *mixed* basis: rows of bytes likewise                        |
 * | `packed.i.value_..`            | likewise with rv    |                                                                     |
 * | `mass.queries`                 | [1] int64           | newest new tokens that count in `present_mass`; on request          |
 *
 * In `m-rope` also, by which tokens are scored axis by axis (see `cache/axis-tables.ts`; X places on an axis, K lines or columns of w tokens):
 *
 * | input                          | shape               |                                                                     |
 * |--------------------------------|---------------------|---------------------------------------------------------------------|
 * | `packed.axis.a`                | [B, M, X] int64     | positions on axis a that tokens of a segment have, each once        |
 * | `packed.line_places`           | [A - 1, K] int32    | a line's place on each axis but the last, of B·M·X                  |
 * | `packed.line_tokens`           | [K, w] int32        | its tokens, of B·M·T                                                |
 * | `packed.column_places/_tokens` | [1, K], [K, w]      | the same of columns, with the last axis                             |
 * | `packed.order`                 | [2, B·M·T] int32    | where each token stands in `line_tokens`, and in `column_tokens`    |
 * | `packed.most_new`              | [1] int64           | with more new tokens, keys are rebuilt and turned: that is cheaper  |
 *
 * There the columns of `packed.i.key_basis` are in the order of `ModelShape.axisColumns`.
 *
 * With tiers, on request, T1 of a segment's T tokens are read by all columns and the others by their first ones. Each layer has an order of its own:
 *
 * | input                          | shape               |                                                                     |
 * |--------------------------------|---------------------|---------------------------------------------------------------------|
 * | `packed.i.key_codes`           | [B, M, T1, rk]      | codes of the tokens of the first tier, and no others                |
 * | `packed.i.key_lead`            | [B, M, T - T1, r2]  | leading columns of the codes of the others                          |
 * | `packed.i.order`               | [B, M·T] int32      | whose codes these are: the first tiers of all segments, then the others; places in `packed.slots`, of B·M·T |
 * | `packed.key_lead_rank`         | [1] int64           | r2, or more where a layer has fewer columns than that               |
 * | `packed.i.value_..`            | likewise            |                                                                     |
 *
 * | output                    | shape          |                                                                              |
 * |---------------------------|----------------|------------------------------------------------------------------------------|
 * | `present_new.i.key/.value`| [B, Hkv, N, D] | the new tokens' rows, in the window's element type, keys after rotary        |
 * | `present_raw.i.key`       | [B, Hkv, N, D] | the new tokens' keys before rotary, float32; not in `post-rope`, or on request|
 * | `present_positions`       | [B, N] int64   | the new tokens' rotary positions, [B, N, A] on A axes; not in `post-rope`    |
 * | `present_mass.i`          | [B, C]         | attention each column of the scores got, float32; on request                 |
 * | `present_query_moment.i`  | [B, Hkv, D, D] | sum of q·qᵀ over the new tokens' queries after rotary, float32; on request    |
 *
 * C = M·T + S + N, packed tokens, window rows and new tokens in the order of their inputs (with tiers, packed tokens in `packed.i.order`); the mean over query
 * heads, summed over the `mass.queries` newest new tokens that are no padding.
 *
 * A past token is visible if its slot is >= 0, `attention_mask` is 1 there, and (in a layer with a local window) it is near enough. New
 * tokens see one another causally. Output names begin with `present` but not with `present.`: transformers.js hands those to the cache
 * and does not pin them to the GPU.
 *
 * M = 0 never occurs: an empty packed part is M = 1, T = 0, r = 0. S = 0 is ordinary. On providers that cannot run empty tensors the
 * cache feeds one masked row instead.
 */
import type { BasisType, CodeType } from './shape.ts';

export const WINDOW_SLOTS = 'window.slots';
export const PACKED_SLOTS = 'packed.slots';
export const PACKED_POSITIONS = 'packed.positions';
export const PRESENT_POSITIONS = 'present_positions';
export const LINE_PLACES = 'packed.line_places';
export const LINE_TOKENS = 'packed.line_tokens';
export const COLUMN_PLACES = 'packed.column_places';
export const COLUMN_TOKENS = 'packed.column_tokens';
export const PACKED_ORDER = 'packed.order';
export const MOST_NEW = 'packed.most_new';
export const MASS_QUERIES = 'mass.queries';

export type Side = 'key' | 'value';

export const windowName = (layer: number, side: Side): string => `past_key_values.${layer}.${side}`;
export const codesName = (layer: number, side: Side): string => `packed.${layer}.${side}_codes`;
export const stepsName = (layer: number, side: Side): string => `packed.${layer}.${side}_steps`;
export const codeWidthsName = (layer: number, side: Side): string => `packed.${layer}.${side}_code_widths`;
export const basisWidthsName = (layer: number, side: Side): string => `packed.${layer}.${side}_basis_widths`;
export const basisName = (layer: number, side: Side): string => `packed.${layer}.${side}_basis`;
export const leadName = (layer: number, side: Side): string => `packed.${layer}.${side}_lead`;
export const leadRankName = (side: Side): string => `packed.${side}_lead_rank`;
export const orderName = (layer: number): string => `packed.${layer}.order`;
export const axisName = (axis: number): string => `packed.axis.${axis}`;
export const newRowsName = (layer: number, side: Side): string => `present_new.${layer}.${side}`;
export const rawKeysName = (layer: number): string => `present_raw.${layer}.key`;
/**
 * K, the rows of `packed.i.key_steps`: what an integer basis row and the column of codes it is multiplied by are read times, then the basis rows' zeros if they are
 * *mixed*, then the columns' zeros if those are. A key is Σ (code - zero) · step · (basis - zero). 0: all types carry their own scale, and there is no such input.
 */
export function stepRows(codes: CodeType, basis: BasisType): number {
  const zeros = Number(codes === 'mixed') + Number(basis === 'mixed');
  return zeros || basis === 'int8' ? 1 + zeros : 0;
}

export const massName = (layer: number): string => `present_mass.${layer}`;
export const queryMomentName = (layer: number): string => `present_query_moment.${layer}`;
