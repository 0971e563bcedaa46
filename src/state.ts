/** What a packed model knows of itself; caches read it from the model they are made for. */
import type { PackedGraph } from './cache/feeds.ts';
import type { Encoder } from './encode/factor.ts';
import type { ResolvedCacheOptions } from './options.ts';
import type { RewriteReport } from './rewrite.ts';

export interface PackedState {
  readonly graph: PackedGraph;
  readonly report: RewriteReport;
  /** Options of caches that say nothing else. */
  readonly defaults: ResolvedCacheOptions;
  /** Most tokens per sequence the model was made for, as its config says; undefined: not known. */
  readonly contextLength?: number | undefined;
  readonly encoder: { get(): Promise<Encoder>; dispose(): Promise<void> };
}

export const STATE: unique symbol = Symbol('attentionpack.model');

/** A model returned by `packed()`. `await using` frees its sessions. */
export interface PackedModel extends AsyncDisposable {
  readonly [STATE]: PackedState;
}
