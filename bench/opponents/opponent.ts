/** What every opponent in the decode benchmark is: a way to hold a context of random keys and values, and what a step of it must cost. */
import type { PreTrainedModel } from '@huggingface/transformers';
import type { ModelShape } from '../../src/shape.ts';

/** One measurement: a context of so many tokens in one model. */
export interface Task {
  /** Model folder in transformers.js layout. */
  readonly folder: string;
  readonly dtype: string;
  readonly context: number;
  readonly threads: number;
  /** File name prefix for ONNX Runtime's own profile; undefined: none is taken. */
  readonly profile?: string | undefined;
}

/** A loaded model and a cache that holds the context, ready for `generate`. */
export interface Ready {
  readonly model: PreTrainedModel;
  readonly cache: object;
  /** Token ids of the context as the cache knows them. */
  readonly ids: readonly number[];
  /** Bytes of the buffers the cache holds now. */
  readonly cacheBytes: number;
  /** Milliseconds spent packing; 0 where nothing is. */
  readonly compactMs: number;
}

/** Least work of one step, by formula: what must be read and computed beside the weights. */
export interface StepCost {
  readonly cacheBytes: number;
  readonly flops: number;
}

export interface Opponent {
  readonly name: string;
  /** One line for the card: what is held and how. */
  readonly description: string;
  cost(shape: ModelShape, context: number): StepCost;
  /** Bytes of memory a run needs beside the weights, generously; what does not fit is skipped and says so. */
  neededBytes(shape: ModelShape, context: number): number;
  open(task: Task): Promise<Ready>;
}

/** Bytes of a dense float32 cache, which is what q4 models of transformers.js keep. */
export function denseBytes(shape: ModelShape, context: number): number {
  return shape.layers.reduce((sum, { numKvHeads, headDim }) => sum + 8 * context * numKvHeads * headDim, 0);
}

/** Products of every query head with the keys and values of `tokens` dense tokens. */
export function denseFlops(shape: ModelShape, tokens: number): number {
  return shape.layers.reduce((sum, { numHeads, headDim }) => sum + 4 * tokens * numHeads * headDim, 0);
}
