/** What a PackedCache holds: window, packed part, the tokens seen, and the images waiting to be packed. Knows nothing of transformers.js. */

import { makeFeeds, type PackedGraph, positionAxes } from './cache/feeds.ts';
import { type Extents, type Footprint, footprint } from './cache/footprint.ts';
import { type LostEnergy, meanLost } from './cache/lost-energy.ts';
import { type NewSegment, PackedPart } from './cache/packed.ts';
import {
  dueSpans,
  factoredTogether,
  keepRawKeys,
  type OpenSpan,
  type Outputs,
  openSpan,
  outputRows,
  tokensLacking,
} from './cache/spans.ts';
import { TokenLog } from './cache/tokens.ts';
import { DenseWindow, type Rows } from './cache/window.ts';
import { compact } from './compact.ts';
import { newRowsName } from './contract.ts';
import type { Encoder } from './encode/factor.ts';
import { AttentionPackError, assert } from './errors.ts';
import type { ResolvedCacheOptions } from './options.ts';
import { Tensor } from './ort.ts';
import { type Span, stepsOf } from './prefill.ts';

/** An image the cache was told of, packed or not. Slots [start, end) of one sequence. */
interface SeenImage {
  readonly sequence: number;
  readonly start: number;
  readonly end: number;
  /** Positions it takes; as many as tokens, but where positions have three axes. */
  readonly steps: number;
}

/** One segment of the packed part: its first slot, one past its last, and what packing it cost. */
interface PackedSegment extends Omit<SeenImage, 'steps'> {
  readonly images: number;
  readonly tokens: number;
  readonly lost: LostEnergy;
}

export class CacheStore {
  readonly graph: PackedGraph;
  readonly options: ResolvedCacheOptions;
  readonly #encoder: () => Promise<Encoder>;
  #window: DenseWindow | undefined;
  #packed: PackedPart | undefined;
  #spans: OpenSpan[] = [];
  #tokens: TokenLog | undefined;
  #images: SeenImage[] = [];
  #segments: PackedSegment[] = [];
  #compactMs = 0;
  #feeds: Record<string, Tensor> | undefined;

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
    return this.#segments.reduce((sum, segment) => sum + segment.tokens, 0);
  }

  /** Images in the packed part, over all sequences. */
  get packedSpans(): number {
    return this.#segments.reduce((sum, segment) => sum + segment.images, 0);
  }

  /** One past the last packed slot, over all sequences; 0 while nothing is packed. */
  get packedEnd(): number {
    return this.#segments.reduce((end, segment) => Math.max(end, segment.end), 0);
  }

  /** Milliseconds spent packing so far. */
  get compactMs(): number {
    return this.#compactMs;
  }

  get lostEnergy(): LostEnergy {
    return meanLost(this.#segments.map((segment) => segment.lost));
  }

  /** Images of sequence b the cache was told of, packed or not. */
  numImages(b: number): number {
    return this.#images.filter((image) => image.sequence === b).length;
  }

  /** Tokens of those images. */
  numImageTokens(b: number): number {
    return this.#images.reduce((sum, { sequence, start, end }) => sum + (sequence === b ? end - start : 0), 0);
  }

  /** Rotary position of sequence b's next token: one behind the largest so far. */
  nextPosition(b: number): number {
    const tokens = this.#tokens?.mask(b).reduce((sum, visible) => sum + visible, 0) ?? 0;
    return this.#images.reduce((next, { sequence, start, end, steps }) => next - (sequence === b ? end - start - steps : 0), tokens);
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

  /** @throws {AttentionPackError} if the batch is not the one this cache was begun with. */
  checkBatch(batch: number): void {
    if (this.#window && batch !== this.#window.batch) {
      throw new AttentionPackError(
        `this cache holds ${this.#window.batch} sequences, the input has ${batch}; use a new PackedCache for another batch size`,
      );
    }
  }

  /**
   * Announces the tokens about to be run: `spans[b]` are images, counted from the first new token; `mask[b][n]` is 0 for padding.
   *
   * @throws {AttentionPackError} if the batch is not the one this cache was begun with.
   */
  begin(batch: number, spans: readonly (readonly Span[])[], mask: readonly (readonly number[])[]): void {
    this.checkBatch(batch);
    this.#window ??= new DenseWindow(this.graph.shape, batch);
    this.#packed ??= new PackedPart(this.graph.shape, batch, this.graph.codes, this.graph.basis, positionAxes(this.graph));
    this.#tokens ??= new TokenLog(batch);
    const at = this.numSlots;
    spans.forEach((row, sequence) => {
      if (!row.length) return;
      const sinkEnd = this.#firstSlot(sequence, mask[sequence] ?? []) + this.options.sink;
      for (const span of row) {
        const [first, end] = [at + span.start, at + span.end];
        const start = Math.max(first, sinkEnd);
        this.#images.push({ sequence, start: first, end, steps: stepsOf(span) });
        if (start < end) this.#spans.push(openSpan(this.graph, sequence, start, end, at));
      }
    });
  }

  /** Slot of sequence b's first token that is no padding; `next` is the mask of the tokens about to be run. */
  #firstSlot(b: number, next: readonly number[]): number {
    const seen = this.#tokens?.mask(b).indexOf(1) ?? -1;
    return seen >= 0 ? seen : this.numSlots + Math.max(0, next.indexOf(1));
  }

  /** The cache's inputs of the next run. The tensors view the cache's buffers; nothing is copied. */
  feeds(): Record<string, Tensor> {
    assert(this.#window && this.#packed, 'feeds before begin');
    this.#feeds ??= makeFeeds(this.graph, this.#window, this.#packed);
    return this.#feeds;
  }

  /** Takes in the outputs of a run over N new tokens. `mask[b][n]` is 0 for padding; `ids[b][n]` the token, -1 if unknown. */
  append(outputs: Outputs, mask: readonly (readonly number[])[], ids: readonly (readonly number[])[]): void {
    const window = this.#window;
    assert(window, 'append before begin');
    const numTokens = mask[0]?.length ?? 0;
    const at = this.numSlots;
    const rows = this.graph.shape.layers.map(
      ({ index }): Rows => ({
        keys: outputRows(outputs, newRowsName(index, 'key')),
        values: outputRows(outputs, newRowsName(index, 'value')),
      }),
    );
    const capacity = window.capacity;
    window.append(
      rows,
      numTokens,
      mask.map((row) => row.map((visible, n) => (visible ? at + n : -1))),
      tokensLacking(this.#spans, at + numTokens),
    );
    if (this.graph.rotary === 'rotate-late') keepRawKeys(this.graph.shape, this.#spans, outputs, at, numTokens);
    this.#tokens?.append(ids, mask);
    if (window.capacity !== capacity) this.#feeds = undefined;
  }

  /** Packs every image that is due and frees its dense rows. Returns how many were packed. */
  async compact(): Promise<number> {
    const window = this.#window;
    const packed = this.#packed;
    assert(window && packed, 'compact before begin');
    const due = dueSpans(this.#spans, this.numSlots, this.options);
    if (!due.length) return 0;
    const start = performance.now();
    const gone: number[][] = Array.from({ length: window.batch }, () => []);
    const segments: NewSegment[] = [];
    const groups = factoredTogether(due, this.options.basisPer);
    for (const group of groups) {
      const { sequence } = group[0] as OpenSpan;
      const rows = group.map((span) => window.rowsIn(span.sequence, span.start, span.end));
      segments.push(await compact(group, rows, window, this.graph.shape, this.options, await this.#encoder()));
      gone[sequence]?.push(...rows.flat());
    }
    this.#spans = this.#spans.filter((span) => !due.includes(span));
    packed.add(segments, this.#spans.length);
    window.remove(gone, Math.max(0, ...this.#spans.map(({ start, end }) => end - start)));
    groups.forEach((group, i) => {
      const { slots, layers } = segments[i] as NewSegment;
      const lost = meanLost(layers.map(({ keys, values }) => ({ keys: keys.lostEnergy, values: values.lostEnergy })));
      const [start, end] = [slots[0] as number, (slots.at(-1) as number) + 1];
      this.#segments.push({ sequence: segments[i]?.sequence ?? 0, start, end, images: group.length, tokens: slots.length, lost });
    });
    this.#feeds = undefined;
    this.#compactMs += performance.now() - start;
    return due.length;
  }

  /**
   * Forgets all tokens from slot `length` on. What was packed behind it goes whole.
   *
   * @throws {AttentionPackError} if that would cut into what was packed together, which cannot be taken apart again.
   */
  crop(length: number): void {
    if (!Number.isInteger(length) || length < 0) throw new AttentionPackError(`crop keeps a whole number of tokens >= 0, got ${length}`);
    const cut = this.#segments.find((segment) => segment.start < length && length < segment.end);
    if (cut) {
      throw new AttentionPackError(
        `cannot crop to ${length} tokens: those from ${cut.start} to ${cut.end} are packed together; keep ${cut.start}, or ${cut.end} and more`,
      );
    }
    const window = this.#window;
    this.#spans = this.#spans.filter((span) => span.end <= length);
    this.#images = this.#images.filter((image) => image.end <= length);
    if (!window || length >= this.numSlots) return;
    window.remove(Array.from({ length: window.batch }, (_, b) => window.rowsIn(b, length, Number.POSITIVE_INFINITY)));
    this.#packed?.crop(length);
    this.#segments = this.#segments.filter((segment) => segment.end <= length);
    this.#tokens?.crop(length);
    this.#feeds = undefined;
  }

  /** The counts that `footprint` needs. */
  extents(): Extents {
    const packed = this.#packed;
    return {
      batch: this.batch,
      windowRows: this.#window?.capacity ?? 0,
      segments: packed?.capacity ?? 0,
      segmentTokens: packed?.numTokens ?? 0,
      positionAxes: positionAxes(this.graph),
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
    const pending = this.#spans
      .flatMap(({ rawKeys, positions }) => [...rawKeys, positions])
      .reduce((sum, buffer) => sum + buffer.byteLength, 0);
    return (this.#window?.bytes ?? 0) + (this.#packed?.bytes ?? 0) + (this.#tokens?.bytes ?? 0) + pending;
  }

  /** Forgets everything. The store may be begun again. */
  clear(): void {
    this.#window = undefined;
    this.#packed = undefined;
    this.#spans = [];
    this.#tokens = undefined;
    this.#images = [];
    this.#segments = [];
    this.#compactMs = 0;
    this.#feeds = undefined;
  }
}
