/** PackedCache: what users hold and pass as `past_key_values`. */
import { DynamicCache, Tensor } from '@huggingface/transformers';
import { type AllocationReport, notesOf, tellAllocation } from './cache/allocation.ts';
import { axisBytes, type Footprint } from './cache/footprint.ts';
import type { LostEnergy } from './cache/lost-energy.ts';
import { MOST_NEW } from './contract.ts';
import { CACHE_HANDLE, checkIdle, registerStore, releaseStore } from './decode.ts';
import type { Split } from './encode/column-bits.ts';
import { AttentionPackError } from './errors.ts';
import { presetCache } from './options/preset.ts';
import {
  type Bases,
  type CacheOptions,
  type EvictOptions,
  type ResolvedCacheOptions,
  resolveCacheOptions,
  resolveEviction,
} from './options.ts';
import { denseTokenBytes, type RotaryMode } from './shape.ts';
import { type PackedModel, STATE } from './state.ts';
import { CacheStore } from './store.ts';
import type { TierReport } from './tiering.ts';

/** What a cache holds and what a dense one would. */
export interface CacheReport {
  /** Tokens per sequence, padding included. */
  readonly tokens: number;
  readonly sequences: number;
  /** Images that are packed, and their tokens, over all sequences. */
  readonly packedImages: number;
  readonly packedTokens: number;
  /** Tokens of text that are packed, over all sequences. */
  readonly packedTextTokens: number;
  /** Tokens that were evicted and can be attended to no more, over all sequences, and how many of them were an image's. */
  readonly evictedTokens: number;
  readonly evictedImageTokens: number;
  readonly ranks: { readonly keys: number; readonly values: number };
  /** Of each layer, how many columns have 8, 4 and 2 bits, where codes or bases are *mixed* and images are packed. Ranks are then the most columns a layer has. */
  readonly columnBits?: readonly { readonly keys: Split; readonly values: Split }[];
  /** Of `compression`, `budget` and *auto*, once images are packed: how many bytes went where, and why. */
  readonly allocation?: AllocationReport;
  /** What options came to mean here that their prose does not say; empty if nothing. */
  readonly notes: readonly string[];
  readonly rotary: RotaryMode;
  /**
   * In `m-rope`: runs of up to this many new tokens score packed keys axis by axis; those of more rebuild and turn them, which is cheaper then, and as
   * exact. 0: all do, since images are small or there are none.
   */
  readonly byAxes?: number;
  /** Bytes as held, by kind. */
  readonly bytes: Footprint;
  /** Bytes a dense fp16 cache of the same tokens takes. */
  readonly denseFp16Bytes: number;
  /** Dense fp16 bytes over all bytes held. */
  readonly compression: number;
  /** The same for the packed tokens alone, of images and, where it is packed, of text, evicted ones left out: their dense fp16 bytes over codes, bases and their indices. 0 while nothing is packed. */
  readonly visualCompression: number;
  /** Share of energy that packing left out, mean over layers and what was packed together: images, and blocks of text. */
  readonly lostEnergy: LostEnergy;
  /** What bases of keys are best at; see {@link CacheOptions.bases}. */
  readonly bases: Bases;
  /** Share of the keys' energy that packing left out, each direction weighed by how much queries ask for it, mean over layers and images; of *weighted* bases only. */
  readonly weightedLostEnergy?: number;
  /** Who is read by all columns, where tokens are in tiers. */
  readonly tiers?: TierReport;
  /** Milliseconds spent packing. */
  readonly compactMs: number;
}

/**
 * A key/value cache whose images are packed. Pass it as `past_key_values` to a model of `packed()`; it fills as `generate` runs and may be
 * used for further turns, also ones that bring further images.
 *
 * It is a DynamicCache by type, so stock code takes it, but its contents can only be read by a packed decoder. `await using` frees it.
 */
export class PackedCache extends (DynamicCache as unknown as new () => object) implements AsyncDisposable {
  // The only enumerable property: transformers.js feeds a cache's own properties to the decoder.
  readonly [CACHE_HANDLE]: Tensor;
  readonly #store: CacheStore;
  readonly #handle: number;

  /**
   * @param model a model of `packed()`
   * @param options how this cache packs; what is left out is as given to `packed()`
   * @throws {AttentionPackError} for a rank the model has not, or other wrong options
   */
  constructor(model: PackedModel, options: CacheOptions = {}) {
    super();
    const { graph, defaults, encoder } = model[STATE];
    const resolved: ResolvedCacheOptions = resolveCacheOptions(presetCache(options), graph.shape, defaults);
    this.#store = new CacheStore(graph, resolved, encoder.get);
    this.#handle = registerStore(this.#store);
    this[CACHE_HANDLE] = new Tensor('int64', BigInt64Array.of(BigInt(this.#handle)), [1]);
  }

  /** Number under which the decoder session knows this cache. */
  get handle(): number {
    return this.#handle;
  }

  /** Whether this cache was made for `model`; no other can read it. */
  isOf(model: PackedModel): boolean {
    return this.#store.graph === model[STATE].graph;
  }

  /** Tokens seen so far per sequence. Named as transformers.js names it. */
  get_seq_length(): number {
    return this.#store.numSlots;
  }

  /** Called by transformers.js after each run with the decoder's `present*` outputs; the session has appended them already. */
  update(_entries: Record<string, Tensor>): void {}

  /** Token ids of sequence b that the cache holds; -1 where only embeddings were given. */
  ids(b: number): Int32Array {
    return this.#store.ids(b);
  }

  /** Bytes of all buffers held now. */
  get bytes(): number {
    return this.#store.heldBytes();
  }

  report(): CacheReport {
    const store = this.#store;
    const { graph, options } = store;
    const bytes = store.footprint();
    const perToken = denseTokenBytes(graph.shape);
    const denseFp16Bytes = perToken * store.numSlots * store.batch;
    const extents = store.extents();
    const { sides, batch, segments, segmentTokens, positionAxes = 1 } = extents;
    const splits = sides.flatMap(({ keys, values }) => (keys.split && values.split ? [{ keys: keys.split, values: values.split }] : []));
    const evicted = store.numEvicted();
    const numPacked = store.packedTokens + store.packedText;
    const tiers = store.tierReport();
    const packedBytes =
      bytes.codes + bytes.bases + bytes.steps + 8 * (1 + positionAxes) * batch * segments * segmentTokens + axisBytes(extents);
    return {
      tokens: store.numSlots,
      sequences: store.batch,
      packedImages: store.packedSpans,
      packedTokens: store.packedTokens,
      packedTextTokens: store.packedText,
      evictedTokens: evicted.tokens,
      evictedImageTokens: evicted.imageTokens,
      ranks: numPacked
        ? { keys: Math.max(...sides.map(({ keys }) => keys.rank)), values: Math.max(...sides.map(({ values }) => values.rank)) }
        : options.rank,
      ...(splits.length === sides.length && { columnBits: splits }),
      ...(options.target && store.allotted && { allocation: tellAllocation(options.target, store.allotted, graph.shape, bytes.total) }),
      notes: notesOf(options.preset, graph.shape),
      rotary: graph.rotary,
      ...(graph.rotary === 'm-rope' && { byAxes: store.batch ? Number(store.feeds()[MOST_NEW]?.data[0]) : 0 }),
      bytes,
      denseFp16Bytes,
      compression: bytes.total ? denseFp16Bytes / bytes.total : 0,
      visualCompression: numPacked ? (perToken * numPacked) / packedBytes : 0,
      lostEnergy: store.lostEnergy,
      bases: options.bases ?? 'plain',
      ...(store.weightedLostEnergy !== undefined && { weightedLostEnergy: store.weightedLostEnergy }),
      ...(tiers && { tiers }),
      compactMs: store.compactMs,
    };
  }

  /**
   * Forgets all tokens from the `length`-th on, so that another question can be asked about the same images. Named as transformers names it.
   *
   * @param length tokens to keep; default: up to and with the last image that is packed or lost tokens. Text may be cut anywhere, packed or not.
   * @throws {AttentionPackError} if that would cut into a packed image, or between images that share a basis, or a call is using the cache
   */
  crop(length: number = this.#store.packedEnd): void {
    checkIdle(this.#handle);
    this.#store.crop(length);
  }

  /**
   * Lets tokens go for good, now: they can be attended to no more, and their memory is given back. Slots and positions of the others stay.
   *
   * @param rule what differs from the cache's own `evict`; whatever else, if it has none
   * @returns how many went, over all sequences; 0 if few enough are held
   * @throws {AttentionPackError} for wrong options, without a policy, for one that goes by what the cache did not watch, or if a call is using the cache
   */
  evict(rule: Partial<EvictOptions> = {}): number {
    checkIdle(this.#handle);
    const merged = { ...(this.#store.options.evict || {}), ...rule };
    if (merged.policy === undefined || merged.keep === undefined)
      throw new AttentionPackError(`this cache has no evict option of its own; give evict() a policy and how many tokens to keep`);
    return this.#store.evict(resolveEviction(merged as EvictOptions, this.#store.graph.shape));
  }

  /** Frees everything the cache holds. It cannot be used again. */
  async dispose(): Promise<void> {
    releaseStore(this.#handle);
    this.#store.clear();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.dispose();
  }
}
