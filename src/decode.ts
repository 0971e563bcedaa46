/** Runs a packed decoder behind the session transformers.js knows: prefill in chunks, packing in between, one step at a time after that. */

import type { CacheStore } from './cache/store.ts';
import { AttentionPackError, assert } from './errors.ts';
import { type InferenceSession, Tensor, type ValueMetadata } from './ort.ts';
import { chunkEnds, type Span } from './prefill.ts';

/**
 * The input by which a cache travels through transformers.js to the session: an int64 number that {@link registerStore} gave out. A
 * PackedCache has it as its only enumerable property, so stock code feeds it like any past key or value.
 */
export const CACHE_HANDLE = 'packed_cache';

/** What the forward pass says of the tokens it is about to run; see `model.ts`. */
export interface ExpectedTokens {
  /** Token ids of the new tokens, [B][N]. */
  readonly ids: readonly (readonly number[])[];
  /** Images among them, per sequence. */
  readonly spans: readonly (readonly Span[])[];
  /** Whether only the last token's logits are wanted. */
  readonly lastLogitsOnly: boolean;
}

interface Registered {
  readonly store: CacheStore;
  expected?: ExpectedTokens | undefined;
  running: boolean;
}

const stores = new Map<number, Registered>();
let lastHandle = 0;

export function registerStore(store: CacheStore): number {
  stores.set(++lastHandle, { store, running: false });
  return lastHandle;
}

export function releaseStore(handle: number): void {
  stores.delete(handle);
}

/** Tells the store behind `handle` what comes next. */
export function expectTokens(handle: number, expected: ExpectedTokens): void {
  lookup(handle).expected = expected;
}

function lookup(handle: number): Registered {
  const registered = stores.get(handle);
  if (!registered) throw new AttentionPackError('this PackedCache was disposed; make a new one');
  return registered;
}

/** Inputs whose sequence axis is cut into chunks, counted from the end. */
const SEQUENCE_AXIS: Readonly<Record<string, number>> = { inputs_embeds: -2, input_ids: -1, position_ids: -1 };

export interface PackedSessionOptions {
  /** Most tokens per sequence the model was made for; undefined: not known. */
  readonly contextLength?: number | undefined;
}

/**
 * Looks like the original decoder's InferenceSession, except that `past_key_values.*` and `present.*` are replaced by one handle.
 */
export class PackedSession {
  readonly #inner: InferenceSession;
  readonly #contextLength: number | undefined;
  readonly inputNames: readonly string[];
  readonly outputNames: readonly string[] = ['logits'];
  /** Set by transformers.js: dtype and device. */
  config: unknown;

  constructor(inner: InferenceSession, options: PackedSessionOptions = {}) {
    this.#inner = inner;
    this.#contextLength = options.contextLength;
    this.inputNames = [...inner.inputNames.filter((name) => !/^(past_key_values|packed|window)\./.test(name)), CACHE_HANDLE];
    this.config = (inner as { config?: unknown }).config;
  }

  get inputMetadata(): readonly ValueMetadata[] {
    return this.#inner.inputMetadata.filter((input) => this.inputNames.includes(input.name));
  }

  get outputMetadata(): readonly ValueMetadata[] {
    return this.#inner.outputMetadata.filter((output) => this.outputNames.includes(output.name));
  }

  async release(): Promise<void> {
    await this.#inner.release();
  }

  /**
   * Runs N new tokens over the cache whose handle is fed, and appends them to it.
   *
   * @throws {AttentionPackError} if the context would outgrow the model, the cache is in use, or shapes disagree.
   */
  async run(feeds: Readonly<Record<string, Tensor>>): Promise<Record<string, Tensor>> {
    const { [CACHE_HANDLE]: handle, attention_mask: mask, num_logits_to_keep: keep, ...sequences } = feeds;
    const registered = lookup(Number((handle?.data as BigInt64Array | undefined)?.[0]));
    if (registered.running)
      throw new AttentionPackError('this PackedCache is in use by another call; await that one first, or use one cache for each');
    registered.running = true;
    try {
      return await this.#runChunks(registered, sequences, mask, keep);
    } finally {
      registered.running = false;
    }
  }

  async #runChunks(
    registered: Registered,
    sequences: Readonly<Record<string, Tensor>>,
    mask: Tensor | undefined,
    keep: Tensor | undefined,
  ): Promise<Record<string, Tensor>> {
    const { store } = registered;
    const [batch, numTokens] = (sequences.inputs_embeds ?? sequences.input_ids)?.dims ?? [];
    assert(batch && numTokens, 'a decoder is run on inputs_embeds or input_ids');
    const expected = registered.expected?.ids[0]?.length === numTokens ? registered.expected : undefined;
    registered.expected = undefined;
    this.#checkLength(store.numSlots, numTokens);
    const newMask = lastColumns(mask, batch, numTokens);
    const spans = expected?.spans ?? newMask.map(() => []);
    store.begin(batch, spans);

    const wanted = keep ? Number(keep.data[0]) : expected?.lastLogitsOnly ? 1 : 0;
    const logits: Tensor[] = [];
    let from = 0;
    for (const to of this.#chunks(sequences, numTokens, spans, store, wanted)) {
      const chunkMask = newMask.map((row) => row.slice(from, to));
      const isLast = to === numTokens;
      const inputs: Record<string, Tensor> = { ...store.feeds(), attention_mask: store.mask(chunkMask) };
      for (const [name, tensor] of Object.entries(sequences)) {
        inputs[name] = from === 0 && isLast ? tensor : sliceAxis(tensor, SEQUENCE_AXIS[name] ?? -1, from, to);
      }
      // Logits of a chunk that nobody asked for: as few as the graph can compute.
      if (keep) inputs.num_logits_to_keep = wanted > 0 && !isLast ? new Tensor('int64', BigInt64Array.of(1n), keep.dims) : keep;
      const { logits: chunkLogits, ...rows } = await this.#inner.run(pick(inputs, this.#inner.inputNames));
      assert(chunkLogits, 'the decoder gave no logits');
      if (wanted === 0 || isLast) logits.push(chunkLogits);
      store.append(
        rows,
        chunkMask,
        newMask.map((_, b) => expected?.ids[b]?.slice(from, to) ?? new Array<number>(to - from).fill(-1)),
      );
      await store.compact();
      from = to;
    }
    return { logits: concatSequence(logits) };
  }

  /** Chunk ends; one chunk if an input is there whose sequence axis we do not know. */
  #chunks(
    sequences: Readonly<Record<string, Tensor>>,
    numTokens: number,
    spans: readonly (readonly Span[])[],
    store: CacheStore,
    wanted: number,
  ): number[] {
    const unknown = Object.keys(sequences).filter((name) => !(name in SEQUENCE_AXIS));
    assert(!unknown.length || numTokens === 1, `decoder inputs ${unknown.join(', ')} have no known sequence axis`);
    const ends = chunkEnds(numTokens, spans, store.options.chunk, store.options.compactAt);
    // The last chunk must hold all tokens whose logits are wanted.
    return wanted > 1 ? [...ends.filter((end) => end <= numTokens - wanted), numTokens] : ends;
  }

  #checkLength(seen: number, added: number): void {
    if (this.#contextLength !== undefined && seen + added > this.#contextLength) {
      throw new AttentionPackError(
        `${seen + added} tokens (${seen} in the cache, ${added} new) exceed the model's context of ${this.#contextLength}; use fewer or smaller images, or a shorter prompt`,
      );
    }
  }
}

/** The last N columns of a [B, any] mask as numbers; all ones without a mask. */
function lastColumns(mask: Tensor | undefined, batch: number, numTokens: number): number[][] {
  if (!mask) return Array.from({ length: batch }, () => new Array<number>(numTokens).fill(1));
  const width = mask.dims[1] ?? 0;
  if (mask.dims[0] !== batch || width < numTokens) {
    throw new AttentionPackError(
      `attention_mask is [${mask.dims}], the input has ${batch} sequences of ${numTokens} new tokens; it must cover them`,
    );
  }
  const data = mask.data as BigInt64Array;
  return Array.from({ length: batch }, (_, b) => Array.from(data.subarray((b + 1) * width - numTokens, (b + 1) * width), Number));
}

/** A copy of [.., from:to, ..] along one axis, counted from the end. */
function sliceAxis(tensor: Tensor, axisFromEnd: number, from: number, to: number): Tensor {
  const axis = tensor.dims.length + axisFromEnd;
  const length = tensor.dims[axis] ?? 0;
  const inner = tensor.dims.slice(axis + 1).reduce((product, dim) => product * dim, 1);
  const outer = tensor.dims.slice(0, axis).reduce((product, dim) => product * dim, 1);
  const source = tensor.data as Float32Array;
  const Data = source.constructor as new (length: number) => Float32Array;
  const out = new Data(outer * (to - from) * inner);
  for (let o = 0; o < outer; o++) {
    out.set(source.subarray((o * length + from) * inner, (o * length + to) * inner), o * (to - from) * inner);
  }
  return new Tensor(tensor.type, out as never, tensor.dims.with(axis, to - from));
}

/** [B, N1, V], [B, N2, V], ... -> [B, N1 + N2 + ..., V]. */
function concatSequence(parts: readonly Tensor[]): Tensor {
  const [first] = parts;
  assert(first, 'no logits to join');
  if (parts.length === 1) return first;
  const [batch = 1, , vocab = 1] = first.dims;
  const numTokens = parts.reduce((sum, part) => sum + (part.dims[1] ?? 0), 0);
  const Data = (first.data as Float32Array).constructor as new (length: number) => Float32Array;
  const out = new Data(batch * numTokens * vocab);
  for (let b = 0, at = 0; b < batch; b++) {
    for (const part of parts) {
      const size = (part.dims[1] ?? 0) * vocab;
      out.set((part.data as Float32Array).subarray(b * size, (b + 1) * size), at);
      at += size;
    }
  }
  return new Tensor(first.type, out as never, [batch, numTokens, vocab]);
}

function pick(feeds: Readonly<Record<string, Tensor>>, names: readonly string[]): Record<string, Tensor> {
  return Object.fromEntries(names.flatMap((name) => (feeds[name] ? [[name, feeds[name]] as const] : [])));
}
