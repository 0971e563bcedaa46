/** What a PackedCache holds: window, packed part, the tokens seen, and the images waiting to be packed. Knows nothing of transformers.js. */
import {
  basisName,
  codesName,
  newRowsName,
  PACKED_POSITIONS,
  PACKED_SLOTS,
  PRESENT_POSITIONS,
  rawKeysName,
  WINDOW_SLOTS,
  windowName,
} from '../contract.ts';
import type { Encoder, Factors } from '../encode/factor.ts';
import { fromFloat16 } from '../encode/quantise.ts';
import { AttentionPackError, assert } from '../errors.ts';
import type { ResolvedCacheOptions } from '../options.ts';
import { Tensor } from '../ort.ts';
import type { Span } from '../prefill.ts';
import type { BasisType, CodeType, ModelShape, RotaryMode } from '../shape.ts';
import { type Extents, type Footprint, footprint } from './footprint.ts';
import { type NewSegment, PackedPart, type PackedSide } from './packed.ts';
import { TokenLog } from './tokens.ts';
import { DenseWindow, type Rows, type WindowArray } from './window.ts';

/** How the decoder that reads this cache was rewritten. */
export interface PackedGraph {
  readonly shape: ModelShape;
  readonly rotary: RotaryMode;
  readonly codes: CodeType;
  readonly basis: BasisType;
  /** Whether the provider runs tensors without elements; if not, one masked row stands for none. */
  readonly emptyTensors: boolean;
}

/** An image whose tokens are (partly) in the window. Slots [start, end) of sequence b. */
interface OpenSpan {
  readonly sequence: number;
  readonly start: number;
  readonly end: number;
  /** Keys before rotary embedding, one [T, W] per layer; empty in `post-rope`. */
  readonly rawKeys: readonly Float32Array[];
  readonly positions: number[];
}

/** Mean over layers of the share of energy that packing left out. */
export interface LostEnergy {
  readonly keys: number;
  readonly values: number;
}

type Outputs = Readonly<Record<string, Tensor>>;

export class CacheStore {
  readonly graph: PackedGraph;
  readonly options: ResolvedCacheOptions;
  readonly #encoder: () => Promise<Encoder>;
  #window: DenseWindow | undefined;
  #packed: PackedPart | undefined;
  #spans: OpenSpan[] = [];
  #tokens: TokenLog | undefined;
  #lost = { keys: 0, values: 0, factors: 0 };
  #packedTokens = 0;
  #compactMs = 0;
  #fixedFeeds: Record<string, Tensor> | undefined;

  constructor(graph: PackedGraph, options: ResolvedCacheOptions, encoder: () => Promise<Encoder>) {
    this.graph = graph;
    this.options = options;
    this.#encoder = encoder;
  }

  /** Slots used so far: tokens per sequence, padding included. */
  get numSlots(): number {
    return this.#tokens?.length ?? 0;
  }

  get batch(): number {
    return this.#window?.batch ?? 0;
  }

  /** Image tokens in the packed part, over all sequences. */
  get packedTokens(): number {
    return this.#packedTokens;
  }

  /** Images in the packed part, over all sequences. */
  get packedSpans(): number {
    return this.#packed?.counts.reduce((sum, count) => sum + count, 0) ?? 0;
  }

  /** Milliseconds spent packing so far. */
  get compactMs(): number {
    return this.#compactMs;
  }

  get lostEnergy(): LostEnergy {
    const n = Math.max(1, this.#lost.factors);
    return { keys: this.#lost.keys / n, values: this.#lost.values / n };
  }

  /** Token ids seen by sequence b, in slot order. */
  ids(b: number): Int32Array {
    return this.#tokens?.ids(b) ?? new Int32Array(0);
  }

  /** The padding mask of slots seen so far, then `next` for the new ones, as [B, slots + N] int64. */
  mask(next: readonly (readonly number[])[]): Tensor {
    const width = this.numSlots + (next[0]?.length ?? 0);
    const data = new BigInt64Array(next.length * width);
    next.forEach((row, b) => {
      const seen = this.#tokens?.mask(b) ?? [];
      for (let i = 0; i < seen.length; i++) data[b * width + i] = seen[i] ? 1n : 0n;
      for (let i = 0; i < row.length; i++) data[b * width + seen.length + i] = row[i] ? 1n : 0n;
    });
    return new Tensor('int64', data, [next.length, width]);
  }

  /**
   * Announces the tokens about to be run: `spans[b]` are images, counted from the first new token.
   *
   * @throws {AttentionPackError} if the batch is not the one this cache was begun with.
   */
  begin(batch: number, spans: readonly (readonly Span[])[]): void {
    if (this.#window && batch !== this.#window.batch) {
      throw new AttentionPackError(
        `this cache holds ${this.#window.batch} sequences, the input has ${batch}; use a new PackedCache for another batch size`,
      );
    }
    this.#window ??= new DenseWindow(this.graph.shape, batch);
    this.#packed ??= new PackedPart(this.graph.shape, batch, this.graph.codes, this.graph.basis);
    this.#tokens ??= new TokenLog(batch);
    const at = this.numSlots;
    spans.forEach((row, sequence) => {
      for (const span of row) {
        const start = Math.max(at + span.start, this.options.sink);
        const end = at + span.end;
        if (start >= end) continue;
        const rawKeys =
          this.graph.rotary === 'rotate-late'
            ? this.graph.shape.layers.map((layer) => new Float32Array((end - start) * layer.numKvHeads * layer.headDim))
            : [];
        this.#spans.push({ sequence, start, end, rawKeys, positions: new Array<number>(end - start).fill(0) });
      }
    });
  }

  /** The cache's inputs of the next run. The tensors view the cache's buffers; nothing is copied. */
  feeds(): Record<string, Tensor> {
    this.#fixedFeeds ??= this.#makeFeeds();
    return this.#fixedFeeds;
  }

  #makeFeeds(): Record<string, Tensor> {
    const window = this.#window;
    const packed = this.#packed;
    assert(window && packed, 'feeds before begin');
    const { batch } = window;
    const { shape, rotary, emptyTensors } = this.graph;
    const feeds: Record<string, Tensor> = {};
    const rows = Math.max(window.capacity, emptyTensors ? 0 : 1);
    const dummyWindow = rows > window.capacity;
    feeds[WINDOW_SLOTS] = new Tensor('int64', dummyWindow ? new BigInt64Array(batch).fill(-1n) : window.slots, [batch, rows]);
    const dummyPacked = packed.numSegments === 0 && !emptyTensors;
    const segments = Math.max(1, packed.numSegments);
    const tokens = dummyPacked ? 1 : packed.numTokens;
    feeds[PACKED_SLOTS] = new Tensor('int64', dummyPacked ? new BigInt64Array(batch).fill(-1n) : packed.slots, [batch, segments * tokens]);
    if (rotary === 'rotate-late') {
      feeds[PACKED_POSITIONS] = new Tensor('int64', dummyPacked ? new BigInt64Array(batch) : packed.positions, [batch, segments * tokens]);
    }
    shape.layers.forEach(({ index, numKvHeads, headDim }, l) => {
      const dense = window.layer(l);
      for (const [name, array] of [
        ['key', dense.keys],
        ['value', dense.values],
      ] as const) {
        const filled = dummyWindow ? emptyLike(array, batch * numKvHeads * headDim) : array;
        feeds[windowName(index, name)] = new Tensor(shape.windowType, filled as Float32Array, [batch, numKvHeads, rows, headDim]);
      }
      const layer = packed.layer(l);
      for (const [name, side] of [
        ['key', layer.keys],
        ['value', layer.values],
      ] as const) {
        const { rank, codes, basis } = dummyPacked ? dummySide(side, batch, numKvHeads * headDim) : side;
        feeds[codesName(index, name)] = new Tensor(this.graph.codes, codes as Float32Array, [batch, segments, tokens, rank]);
        feeds[basisName(index, name)] = new Tensor(this.graph.basis, basis as Float32Array, [batch, segments, numKvHeads, rank, headDim]);
      }
    });
    return feeds;
  }

  /** Takes in the outputs of a run over N new tokens. `mask[b][n]` is 0 for padding; `ids[b][n]` the token, -1 if unknown. */
  append(outputs: Outputs, mask: readonly (readonly number[])[], ids: readonly (readonly number[])[]): void {
    const window = this.#window;
    assert(window, 'append before begin');
    const numTokens = mask[0]?.length ?? 0;
    const at = this.numSlots;
    const rows = this.graph.shape.layers.map(
      ({ index }): Rows => ({ keys: floats(outputs, newRowsName(index, 'key')), values: floats(outputs, newRowsName(index, 'value')) }),
    );
    const capacity = window.capacity;
    window.append(
      rows,
      numTokens,
      mask.map((row) => row.map((visible, n) => (visible ? at + n : -1))),
    );
    this.#keepRawKeys(outputs, at, numTokens);
    this.#tokens?.append(ids, mask);
    if (window.capacity !== capacity) this.#fixedFeeds = undefined;
  }

  /** Copies what `rotate-late` packs, keys before rotary embedding and their positions, out of a run's outputs. */
  #keepRawKeys(outputs: Outputs, at: number, numTokens: number): void {
    if (this.graph.rotary !== 'rotate-late') return;
    const open = this.#spans.filter((span) => span.start < at + numTokens && span.end > at);
    if (!open.length) return;
    const positions = outputs[PRESENT_POSITIONS]?.data as BigInt64Array | undefined;
    assert(positions, `the decoder gave no ${PRESENT_POSITIONS}`);
    for (const span of open) {
      const from = Math.max(span.start, at);
      const to = Math.min(span.end, at + numTokens);
      for (let slot = from; slot < to; slot++) span.positions[slot - span.start] = Number(positions[span.sequence * numTokens + slot - at]);
      this.graph.shape.layers.forEach(({ index, numKvHeads, headDim }, l) => {
        const raw = floats(outputs, rawKeysName(index));
        const target = span.rawKeys[l];
        assert(target && raw instanceof Float32Array, 'raw keys are float32');
        for (let h = 0; h < numKvHeads; h++) {
          for (let slot = from; slot < to; slot++) {
            const source = ((span.sequence * numKvHeads + h) * numTokens + slot - at) * headDim;
            target.set(raw.subarray(source, source + headDim), ((slot - span.start) * numKvHeads + h) * headDim);
          }
        }
      });
    }
  }

  /** Packs every image that is due and frees its dense rows. Returns how many were packed. */
  async compact(): Promise<number> {
    const window = this.#window;
    const packed = this.#packed;
    assert(window && packed, 'compact before begin');
    const seen = this.numSlots;
    const waiting = new Set(this.#spans.filter((span) => span.end > seen).map((span) => span.sequence));
    const due = this.#spans.filter(
      (span) => span.end <= seen - this.options.recent && (this.options.compactAt === 'span' || !waiting.has(span.sequence)),
    );
    if (!due.length) return 0;
    const start = performance.now();
    const gone: number[][] = Array.from({ length: window.batch }, () => []);
    const segments: NewSegment[] = [];
    for (const span of due) {
      const rows = window.rowsIn(span.sequence, span.start, span.end);
      segments.push(await this.#factor(span, window, rows));
      gone[span.sequence]?.push(...rows);
    }
    packed.add(segments);
    window.remove(gone);
    this.#spans = this.#spans.filter((span) => !due.includes(span));
    this.#packedTokens += segments.reduce((sum, segment) => sum + segment.slots.length, 0);
    this.#fixedFeeds = undefined;
    this.#compactMs += performance.now() - start;
    return due.length;
  }

  async #factor(span: OpenSpan, window: DenseWindow, rows: readonly number[]): Promise<NewSegment> {
    const encoder = await this.#encoder();
    const { rank, seed } = this.options;
    const numTokens = span.end - span.start;
    assert(rows.length === numTokens, `image at slots ${span.start}..${span.end} has ${rows.length} of ${numTokens} rows in the window`);
    const layers: { keys: Factors; values: Factors }[] = [];
    for (const [l, { numKvHeads, headDim }] of this.graph.shape.layers.entries()) {
      const width = numKvHeads * headDim;
      const rawKeys = span.rawKeys[l] ?? toFloat32(window.gather(l, 'keys', span.sequence, rows));
      const values = toFloat32(window.gather(l, 'values', span.sequence, rows));
      const factors = {
        keys: await encoder.factor(rawKeys, numTokens, width, rank.keys, seed),
        values: await encoder.factor(values, numTokens, width, rank.values, seed),
      };
      this.#lost.keys += factors.keys.lostEnergy;
      this.#lost.values += factors.values.lostEnergy;
      this.#lost.factors++;
      layers.push(factors);
    }
    const slots = Array.from({ length: numTokens }, (_, t) => span.start + t);
    return { sequence: span.sequence, slots, positions: span.positions, layers };
  }

  /**
   * Forgets all tokens from slot `length` on.
   *
   * @throws {AttentionPackError} if that would cut into the packed part, whose tokens cannot be taken apart again.
   */
  crop(length: number): void {
    const window = this.#window;
    const packed = this.#packed;
    if (!window || !packed || length >= this.numSlots) return;
    const last = packed.slots.reduce((furthest, slot) => Math.max(furthest, Number(slot)), -1);
    if (last >= length)
      throw new AttentionPackError(
        `cannot crop to ${length} tokens: an image is packed up to token ${last + 1}; crop to ${last + 1} or more`,
      );
    window.remove(Array.from({ length: window.batch }, (_, b) => window.rowsIn(b, length, Number.POSITIVE_INFINITY)));
    this.#spans = this.#spans.filter((span) => span.end <= length);
    this.#tokens?.crop(length);
    this.#fixedFeeds = undefined;
  }

  /** The counts that `footprint` needs. */
  extents(): Extents {
    const packed = this.#packed;
    return {
      batch: this.batch,
      windowRows: this.#window?.capacity ?? 0,
      segments: packed?.capacity ?? 0,
      segmentTokens: packed?.numTokens ?? 0,
      ranks: this.graph.shape.layers.map((_, l) => ({ keys: packed?.layer(l).keys.rank ?? 0, values: packed?.layer(l).values.rank ?? 0 })),
      pendingTokens: this.graph.rotary === 'rotate-late' ? this.#spans.reduce((sum, span) => sum + span.end - span.start, 0) : 0,
      tokenCapacity: this.#tokens?.capacity ?? 0,
    };
  }

  footprint(): Footprint {
    return footprint(this.graph.shape, this.graph.codes, this.graph.basis, this.extents());
  }

  /** Bytes of the buffers held, counted from the buffers themselves. */
  heldBytes(): number {
    const pending = this.#spans.reduce((sum, span) => sum + span.rawKeys.reduce((bytes, keys) => bytes + keys.byteLength, 0), 0);
    return (this.#window?.bytes ?? 0) + (this.#packed?.bytes ?? 0) + (this.#tokens?.bytes ?? 0) + pending;
  }

  /** Forgets everything. The store may be begun again. */
  clear(): void {
    this.#window = undefined;
    this.#packed = undefined;
    this.#spans = [];
    this.#tokens = undefined;
    this.#lost = { keys: 0, values: 0, factors: 0 };
    this.#packedTokens = 0;
    this.#compactMs = 0;
    this.#fixedFeeds = undefined;
  }
}

function floats(outputs: Outputs, name: string): WindowArray {
  const data = outputs[name]?.data;
  assert(data instanceof Float32Array || ArrayBuffer.isView(data), `the decoder gave no ${name}`);
  // Node versions with Float16Array hand fp16 over as such; its bits are what the window holds.
  return data instanceof Float32Array ? data : new Uint16Array(data.buffer, data.byteOffset, data.byteLength / 2);
}

function toFloat32(rows: WindowArray): Float32Array {
  return rows instanceof Float32Array ? rows : fromFloat16(rows);
}

function emptyLike(array: WindowArray, length: number): WindowArray {
  return array instanceof Float32Array ? new Float32Array(length) : new Uint16Array(length);
}

/** One column of zeros, for providers that cannot run empty tensors. */
function dummySide(side: PackedSide, batch: number, width: number): PackedSide {
  const Codes = side.codes.constructor as new (length: number) => PackedSide['codes'];
  const Basis = side.basis.constructor as new (length: number) => PackedSide['basis'];
  return { rank: 1, codes: new Codes(batch), basis: new Basis(batch * width) };
}
