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
 * | `packed.positions`             | [B, M·T] int64      | rotary positions, [B, M·T, A] on A axes; only in `rotate-late`      |
 * | `packed.i.key_codes`           | [B, M, T, rk]       | float32, float16 or int8                                            |
 * | `packed.i.key_basis`           | [B, M, Hkv, rk, D]  | float32 or float16; key of token t, head h = codes[t] · basis[h]    |
 * | `packed.i.value_codes/_basis`  | likewise with rv    |                                                                     |
 * | `mass.queries`                 | [1] int64           | newest new tokens that count in `present_mass`; on request          |
 *
 * | output                    | shape          |                                                                              |
 * |---------------------------|----------------|------------------------------------------------------------------------------|
 * | `present_new.i.key/.value`| [B, Hkv, N, D] | the new tokens' rows, in the window's element type, keys after rotary        |
 * | `present_raw.i.key`       | [B, Hkv, N, D] | the new tokens' keys before rotary, float32; in `rotate-late`, or on request  |
 * | `present_positions`       | [B, N] int64   | the new tokens' rotary positions, [B, N, A] on A axes; only in `rotate-late` |
 * | `present_mass.i`          | [B, C]         | attention each column of the scores got, float32; on request                 |
 * | `present_query_moment.i`  | [B, Hkv, D, D] | sum of q·qᵀ over the new tokens' queries after rotary, float32; on request    |
 *
 * C = M·T + S + N, packed tokens, window rows and new tokens in the order of their inputs; the mean over query heads, summed over the
 * `mass.queries` newest new tokens that are no padding.
 *
 * A past token is visible if its slot is >= 0, `attention_mask` is 1 there, and (in a layer with a local window) it is near enough. New
 * tokens see one another causally. Output names begin with `present` but not with `present.`: transformers.js hands those to the cache
 * and does not pin them to the GPU.
 *
 * M = 0 never occurs: an empty packed part is M = 1, T = 0, r = 0. S = 0 is ordinary. On providers that cannot run empty tensors the
 * cache feeds one masked row instead.
 */
export const WINDOW_SLOTS = 'window.slots';
export const PACKED_SLOTS = 'packed.slots';
export const PACKED_POSITIONS = 'packed.positions';
export const PRESENT_POSITIONS = 'present_positions';
export const MASS_QUERIES = 'mass.queries';

export type Side = 'key' | 'value';

export const windowName = (layer: number, side: Side): string => `past_key_values.${layer}.${side}`;
export const codesName = (layer: number, side: Side): string => `packed.${layer}.${side}_codes`;
export const basisName = (layer: number, side: Side): string => `packed.${layer}.${side}_basis`;
export const newRowsName = (layer: number, side: Side): string => `present_new.${layer}.${side}`;
export const rawKeysName = (layer: number): string => `present_raw.${layer}.key`;
export const massName = (layer: number): string => `present_mass.${layer}`;
export const queryMomentName = (layer: number): string => `present_query_moment.${layer}`;
