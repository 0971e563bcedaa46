/** What a model builder needs of weights, wherever they come from: a checkpoint's files or a random generator. */
import type { QuantisedRows, QuantiseOptions } from './quantise.ts';

/**
 * Weights under canonical names (see {@link canonicalName}), read in rows so that no tensor need be whole in memory.
 *
 * A tensor is seen as a matrix [dims[0], the rest].
 */
export interface WeightSource {
  has(name: string): boolean;
  /**
   * Checks that the tensor is there and has this shape.
   *
   * @throws {AttentionPackError} naming the tensor, the shape it has and the shape config.json asks for.
   */
  expect(name: string, dims: readonly number[]): void;
  /** Rows [start, end) as float32, row-major. */
  rows(name: string, start: number, end: number): Float32Array;
  /** Rows already quantised; only a random source has them, since quantising random numbers is work for nothing. */
  quantisedRows?(name: string, start: number, end: number, options: QuantiseOptions): QuantisedRows;
  close(): void;
}

/**
 * One name for what four generations of transformers called differently:
 *
 * - `language_model.model.layers.0…`, `model.language_model.layers.0…` -> `language_model.layers.0…`
 * - `language_model.lm_head.weight`, `lm_head.weight` -> `lm_head.weight`
 * - `model.layers.0…`, `model.embed_tokens…`, `model.norm…` (Qwen2-VL of transformers 4) -> `language_model.layers.0…`, …
 * - `vision_tower.vision_model.…`, `model.vision_tower.…` -> `vision_tower.…`; `model.visual.…` -> `visual.…`
 * - `model.multi_modal_projector.…` -> `multi_modal_projector.…`
 */
export function canonicalName(name: string): string {
  return name
    .replace(/^model\.(?=(layers|embed_tokens|norm)\.)/, 'language_model.')
    .replace(/^model\./, '')
    .replace(/^language_model\.model\./, 'language_model.')
    .replace(/^language_model\.lm_head\./, 'lm_head.')
    .replace(/^vision_tower\.vision_model\./, 'vision_tower.');
}
