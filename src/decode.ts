/** Runs a packed decoder behind the session transformers.js knows: prefill in chunks, packing in between, one step at a time after that. */

import { AttentionPackError, assert } from './errors.ts';
import { type InferenceSession, Tensor, type ValueMetadata } from './ort.ts';
import { chunkEnds, type Span } from './prefill.ts';
import type { CacheStore } from './store.ts';

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

/** What one run of the decoder gave for the new tokens [from, to), counted from the first token of the call. */
export interface TappedRun {
  readonly from: number;
  readonly to: number;
  /** Images among the call's new tokens, per sequence. */
  readonly spans: readonly (readonly Span[])[];
  /** The `present_*` outputs of the contract. */
  readonly rows: Readonly<Record<string, Tensor>>;
}

interface Registered {
  readonly store: CacheStore;
  expected?: ExpectedTokens | undefined;
  inUse: boolean;
}

const stores = new Map<number, Registered>();
let lastHandle = 0;

export function registerStore(store: CacheStore): number {
  stores.set(++lastHandle, { store, inUse: false });
  return lastHandle;
}

/** What a cache holds; undefined once it was disposed of. */
export function storeOf(handle: number): CacheStore | undefined {
  return stores.get(handle)?.store;
}

export function releaseStore(handle: number): void {
  stores.delete(handle);
}

/** Caches that were made and not disposed. */
export function numStores(): number {
  return stores.size;
}

/** @throws {AttentionPackError} if a call is using the store, which must not change under it. */
export function checkIdle(handle: number): void {
  if (stores.get(handle)?.inUse) throw inUseError();
}

/**
 * Runs a forward pass that alone uses the store behind `handle`; `expect` tells the store what comes next.
 *
 * @throws {AttentionPackError} if the cache was disposed, or another call uses it
 */
export async function withStore<T>(
  handle: number,
  expect: (store: CacheStore) => ExpectedTokens | undefined,
  run: () => Promise<T>,
): Promise<T> {
  const registered = lookup(handle);
  if (registered.inUse) throw inUseError();
  registered.expected = expect(registered.store);
  registered.inUse = true;
  try {
    return await run();
  } finally {
    registered.inUse = false;
    registered.expected = undefined;
  }
}

function lookup(handle: number): Registered {
  const registered = stores.get(handle);
  if (!registered) throw new AttentionPackError('this PackedCache was disposed; make a new one');
  return registered;
}

function inUseError(): AttentionPackError {
  return new AttentionPackError('this PackedCache is in use by another call; await that one first, or use one cache for each');
}

/** Inputs whose sequence axis is cut into chunks, counted from the end. */
const SEQUENCE_AXIS: Readonly<Record<string, number>> = { inputs_embeds: -2, input_ids: -1, position_ids: -1 };

/**
 * Looks like the original decoder's InferenceSession, except that `past_key_values.*` and `present.*` are replaced by one handle.
 */
export class PackedSession {
  readonly #inner: InferenceSession;
  readonly inputNames: readonly string[];
  readonly outputNames: readonly string[] = ['logits'];
  /** Set by transformers.js: dtype and device. */
  config: unknown;
  /** Sees the new keys and values of every run, before the cache takes them in. Default: nobody does. */
  tap: ((run: TappedRun) => void) | undefined;

  constructor(inner: InferenceSession) {
    this.#inner = inner;
    this.inputNames = [...inner.inputNames.filter((name) => !/^(past_key_values|packed|window|mass)\./.test(name)), CACHE_HANDLE];
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
   * Runs N new tokens over the cache whose handle is fed, and appends them to it. If that fails, the cache is as it was before.
   *
   * @throws {AttentionPackError} if shapes disagree, or the cache is disposed meanwhile.
   */
  async run(feeds: Readonly<Record<string, Tensor>>): Promise<Record<string, Tensor>> {
    const { [CACHE_HANDLE]: handle, attention_mask: mask, num_logits_to_keep: keep, ...sequences } = feeds;
    const number = Number((handle?.data as BigInt64Array | undefined)?.[0]);
    const { store, expected } = lookup(number);
    const seen = store.numSlots;
    const stillThere = (): void => {
      if (!stores.has(number)) throw new AttentionPackError('this PackedCache was disposed while a call was using it');
    };
    try {
      return await this.#runChunks(store, expected, stillThere, sequences, mask, keep);
    } catch (cause) {
      if (!stores.has(number) || seen === 0) store.clear();
      else store.abandon(seen);
      throw cause;
    }
  }

  async #runChunks(
    store: CacheStore,
    announced: ExpectedTokens | undefined,
    stillThere: () => void,
    sequences: Readonly<Record<string, Tensor>>,
    mask: Tensor | undefined,
    keep: Tensor | undefined,
  ): Promise<Record<string, Tensor>> {
    const [batch, numTokens] = (sequences.inputs_embeds ?? sequences.input_ids)?.dims ?? [];
    assert(batch && numTokens, 'a decoder is run on inputs_embeds or input_ids');
    const expected = announced?.ids[0]?.length === numTokens ? announced : undefined;
    const newMask = lastColumns(mask, batch, numTokens);
    const spans = expected?.spans ?? newMask.map(() => []);
    store.begin(batch, spans, newMask);

    const asked = keep ? Number(keep.data[0]) : expected?.lastLogitsOnly ? 1 : 0;
    const firstWanted = asked > 0 ? Math.max(0, numTokens - asked) : 0;
    const logits: Tensor[] = [];
    let from = 0;
    for (const to of this.#chunks(sequences, numTokens, spans, store)) {
      const chunkMask = newMask.map((row) => row.slice(from, to));
      const inputs: Record<string, Tensor> = { ...store.feeds(), ...store.massQueries(to - from), attention_mask: store.mask(chunkMask) };
      for (const [name, tensor] of Object.entries(sequences)) {
        inputs[name] = to - from === numTokens ? tensor : sliceAxis(tensor, SEQUENCE_AXIS[name] ?? -1, from, to);
      }
      const wanted = Math.max(0, to - Math.max(from, firstWanted));
      // A graph gives at least one token's logits (0 stands for all), also of a chunk of which nobody asked for any.
      if (keep) inputs.num_logits_to_keep = new Tensor('int64', BigInt64Array.of(BigInt(Math.max(1, wanted))), keep.dims);
      const { logits: chunkLogits, ...rows } = await this.#inner.run(pick(inputs, this.#inner.inputNames));
      stillThere();
      assert(chunkLogits, 'the decoder gave no logits');
      if (wanted) logits.push(lastRows(chunkLogits, wanted));
      this.tap?.({ from, to, spans, rows });
      store.append(
        rows,
        chunkMask,
        newMask.map((_, b) => expected?.ids[b]?.slice(from, to) ?? new Array<number>(to - from).fill(-1)),
      );
      await store.compact();
      stillThere();
      from = to;
    }
    store.endRun();
    return { logits: concatSequence(logits) };
  }

  /** Chunk ends; one chunk if an input is there whose sequence axis we do not know. */
  #chunks(
    sequences: Readonly<Record<string, Tensor>>,
    numTokens: number,
    spans: readonly (readonly Span[])[],
    store: CacheStore,
  ): number[] {
    const unknown = Object.keys(sequences).filter((name) => !(name in SEQUENCE_AXIS));
    assert(!unknown.length || numTokens === 1, `decoder inputs ${unknown.join(', ')} have no known sequence axis`);
    return chunkEnds(numTokens, spans, store.options.chunk, store.options.compactAt);
  }
}

/** The session through which a packed model runs its decoder. */
export function packedSessionOf(model: { readonly sessions: unknown }): PackedSession {
  const session = Object.values(model.sessions as Record<string, unknown>).find((candidate) => candidate instanceof PackedSession);
  assert(session instanceof PackedSession, 'a packed model without a PackedSession');
  return session;
}

/** The last N columns of a [B, any] mask as numbers; all ones without a mask. */
export function lastColumns(mask: Pick<Tensor, 'data' | 'dims'> | undefined, batch: number, numTokens: number): number[][] {
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

/** The last `rows` tokens' logits of [B, N, V]. */
function lastRows(logits: Tensor, rows: number): Tensor {
  const length = logits.dims[1] ?? 0;
  return length === rows ? logits : sliceAxis(logits, -2, length - rows, length);
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
