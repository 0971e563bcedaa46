/** The packed part: codes and bases of all segments, in the layout the graph reads. */
import { firstColumns } from '../encode/columns.ts';
import type { Factors } from '../encode/factor.ts';
import { assert } from '../errors.ts';
import type { Ranks } from '../options.ts';
import { columnsByAxis, type ModelShape } from '../shape.ts';
import { type AxisTables, axisTableBytes, axisTables } from './axis-tables.ts';
import { type BasisArray, type CodeArray, type Format, isMixed, type SideLayout } from './format.ts';
import { type LostEnergy, meanLost } from './lost-energy.ts';
import { type BitsWanted, chooseSplit, rankOf } from './share.ts';
import { emptySide, movedSide, type PackedSide, readBasis, type SideDims, sideBytes, usedSide, writeSide } from './side.ts';
import { type ImportanceOf, type TierRule, Tiers } from './tiers.ts';

type PackedArray = CodeArray | BasisArray | BigInt64Array;

export interface PackedLayer {
  readonly keys: PackedSide;
  readonly values: PackedSide;
}

/** What *mixed* codes and bases are shared out by. */
export interface ColumnsWanted extends BitsWanted {
  readonly rank: Ranks;
}

/** A compacted span on its way in: factors per layer, and where its tokens stand. */
export interface NewSegment {
  /** Row of the batch it belongs to. */
  readonly sequence: number;
  readonly slots: readonly number[];
  /** Rotary position of each token, [T, A]. */
  readonly positions: readonly number[];
  readonly layers: readonly { readonly keys: Factors; readonly values: Factors }[];
  /** Whether its tokens join the sequence's last segment, if it has one: each basis begins with that one's. Default: it is a segment of its own. */
  readonly joins?: boolean;
}

/**
 * Segments of all sequences, images' and text's. M is the most segments any sequence has and T the longest; what is shorter is padded with zeros and slot -1.
 * Once in, codes are only ever moved, never encoded again. A single sequence's buffers have room for more segments than are in use, so that
 * images that come one by one are not copied each time; the graph is fed the used part.
 */
export class PackedPart {
  readonly #shape: ModelShape;
  readonly #format: Format;
  readonly #wanted: ColumnsWanted | undefined;
  readonly #axes: number;
  readonly batch: number;
  /** Segments each sequence has. */
  readonly counts: number[];
  #numSegments = 0;
  #capacity = 0;
  #numTokens = 0;
  #layers: PackedLayer[];
  #slots: BigInt64Array;
  #positions: BigInt64Array;
  #axisTables: AxisTables | undefined;
  /** Present where the graph reads tiers. */
  readonly tiers: Tiers | undefined;
  #allotted: readonly { readonly keys: SideLayout; readonly values: SideLayout }[] | undefined;

  /**
   * @param axes A: numbers in a token's position. Default 1.
   * @param wanted what bits are shared out by; needed where codes or bases are *mixed*
   * @param tiers how tokens are dealt to tiers; needed where the graph reads them
   */
  constructor(shape: ModelShape, batch: number, format: Format, axes = 1, wanted?: ColumnsWanted, tiers?: TierRule) {
    assert(wanted || !isMixed(format), 'mixed without a number of bits');
    this.#shape = shape;
    this.#format = format;
    this.#wanted = wanted;
    this.#axes = axes;
    this.batch = batch;
    this.counts = new Array<number>(batch).fill(0);
    this.#layers = shape.layers.map(() => ({ keys: emptySide(format), values: emptySide(format) }));
    this.#slots = new BigInt64Array(0);
    this.#positions = new BigInt64Array(0);
    this.tiers = tiers && new Tiers(tiers);
    this.#tellAxes();
  }

  /** M; 0 while nothing is packed. */
  get numSegments(): number {
    return this.#numSegments;
  }

  /** Segments each sequence has room for; more than M only in a batch of one. */
  get capacity(): number {
    return this.#capacity;
  }

  /** T: tokens a segment has room for. */
  get numTokens(): number {
    return this.#numTokens;
  }

  /** [B, M·T]; -1 for padding. */
  get slots(): BigInt64Array {
    return this.#slots.subarray(0, this.batch * this.#numSegments * this.#numTokens);
  }

  /** [B, M·T, A]; 0 for padding. */
  get positions(): BigInt64Array {
    return this.#positions.subarray(0, this.batch * this.#numSegments * this.#numTokens * this.#axes);
  }

  /** Where tokens stand on each axis; only in `m-rope`. */
  get axisTables(): AxisTables | undefined {
    return this.#axisTables;
  }

  /** Deals tokens to tiers, where the graph reads them. */
  deal(importanceOf: ImportanceOf): void {
    this.tiers?.split(this.#layers, this.slots, importanceOf);
  }

  /** The used part of one layer's buffers; of codes in tiers, `tiers` has the parts. */
  layer(index: number): PackedLayer {
    const layer = this.whole(index);
    const places = { segments: this.batch * this.#numSegments, tokens: this.#numTokens };
    const used = (side: PackedSide): PackedSide => usedSide(side, this.#format, this.#dims(index), places);
    return { keys: used(layer.keys), values: used(layer.values) };
  }

  /** One layer's buffers with all there is to grow into. */
  whole(index: number): PackedLayer {
    const layer = this.#layers[index];
    assert(layer, `packed part has no layer ${index}`);
    return layer;
  }

  /** Bytes of all buffers as allocated. */
  get bytes(): number {
    return (
      this.#layers.reduce((sum, { keys, values }) => sum + sideBytes(keys) + sideBytes(values), 0) +
      this.#slots.byteLength +
      this.#positions.byteLength +
      (this.#axisTables ? axisTableBytes(this.#axisTables) : 0) +
      4 * (this.tiers?.indices ?? 0)
    );
  }

  /** Decides how every layer and side is held, before anything is. Segments then bring at least as many columns, and lose those beyond. */
  allot(layouts: readonly { readonly keys: SideLayout; readonly values: SideLayout }[]): void {
    assert(!this.#numSegments, 'columns allotted behind segments');
    this.#allotted = layouts;
  }

  /**
   * Takes in segments, all of one prompt at once so that the buffers are laid out once. `numComing` more are known to follow: a single
   * sequence's buffers get room for exactly those, so that an album packed image by image is never held twice. Where bits are shared out among columns, the
   * first segments decide how; those that come later get the same.
   *
   * @param longestComing tokens of the longest of those that follow
   * @param hasSpare whether there is to be room for others where none are known to follow
   * @returns of each segment, what it leaves out as held
   */
  add(segments: readonly NewSegment[], numComing = 0, longestComing = 0, hasSpare = true): LostEnergy[] {
    if (!segments.length) return [];
    const counts = [...this.counts];
    const lengths = this.counts.map((count, b) => (count ? this.#lengthOf(b, count - 1) : 0));
    const places = segments.map(({ sequence, slots, joins }) => {
      const isNew = !joins || !counts[sequence];
      if (isNew) counts[sequence] = (counts[sequence] ?? 0) + 1;
      const start = isNew ? 0 : (lengths[sequence] ?? 0);
      lengths[sequence] = start + slots.length;
      return { segment: (counts[sequence] ?? 0) - 1, start };
    });
    const numSegments = Math.max(...counts);
    // Where bytes are counted out, nothing is held that nobody announced.
    const growth = numComing > 0 || this.#allotted ? numSegments + numComing : hasSpare ? Math.ceil(this.#capacity * 1.5) : 0;
    const room = this.batch === 1 ? growth : 0;
    const capacity = numSegments <= this.#capacity ? this.#capacity : Math.max(numSegments, room);
    const tokens = Math.max(this.#numTokens, ...segments.map(({ slots }, s) => (places[s]?.start ?? 0) + slots.length));
    this.#relayout({ kept: this.counts, capacity, tokens }, (l, side, layout) => {
      const allotted = this.#allotted?.[l]?.[side];
      if (allotted) return { rank: allotted.rank, split: allotted.split };
      const factors = segments.flatMap((segment) => segment.layers[l]?.[side] ?? []);
      if (this.#wanted && isMixed(this.#format)) return layout.split ? layout : this.#share(l, side, factors, this.#wanted, longestComing);
      return { rank: Math.max(layout.rank, ...factors.map(({ rank }) => rank)) };
    });
    const lost = segments.map((segment, s) => {
      const at = segment.sequence * capacity + (places[s]?.segment ?? 0);
      const firstRow = at * tokens + (places[s]?.start ?? 0);
      this.#slots.set(segment.slots.map(BigInt), firstRow);
      this.#positions.set(segment.positions.map(BigInt), firstRow * this.#axes);
      const ofLayers = this.#layers.map((layer, l) => {
        const factors = segment.layers[l];
        assert(factors, `segment has nothing for layer ${l}`);
        const write = (side: PackedSide, of: Factors): number =>
          writeSide(side, this.#format, this.#dims(l), this.#allotted ? firstColumns(of, side.rank) : of, at, firstRow);
        return { keys: write(layer.keys, this.#byAxis(factors.keys)), values: write(layer.values, factors.values) };
      });
      return meanLost(ofLayers);
    });
    this.#setCounts(counts);
    return lost;
  }

  /** Segments of each sequence, and tokens that segments have room for. */
  get extents(): { readonly segments: number; readonly tokens: number }[] {
    return this.counts.map((segments) => ({ segments, tokens: this.#numTokens }));
  }

  /** Tokens of each segment. */
  get lengths(): number[] {
    return this.counts.flatMap((count, b) => Array.from({ length: count }, (_, m) => this.#lengthOf(b, m)));
  }

  /** Tokens of sequence b's segment m. */
  #lengthOf(b: number, m: number): number {
    const first = (b * this.#capacity + m) * this.#numTokens;
    return this.#slots.subarray(first, first + this.#numTokens).reduce((count, slot) => count + Number(slot >= 0), 0);
  }

  /** The basis of sequence b's last segment as it is held, [n, W] with columns as keys have them; empty if there is none. Of float types only. */
  lastBasis(b: number, l: number, side: 'keys' | 'values'): Float32Array {
    const { numKvHeads, headDim } = this.#dims(l);
    const layer = this.#layers[l];
    const m = (this.counts[b] ?? 0) - 1;
    if (!layer || m < 0) return new Float32Array(0);
    const order = side === 'keys' && this.#shape.axisColumns ? columnsByAxis(this.#shape.axisColumns) : undefined;
    return readBasis(layer[side], { numKvHeads, headDim }, b * this.#capacity + m, order);
  }

  /** How bits are shared out among the columns of one layer and side. */
  #share(
    l: number,
    side: 'keys' | 'values',
    factors: readonly Factors[],
    { rank, ...bits }: ColumnsWanted,
    longestComing: number,
  ): SideLayout {
    const { numKvHeads, headDim } = this.#dims(l);
    const split = chooseSplit(factors, this.#format, rank[side], numKvHeads * headDim, bits, longestComing);
    return { rank: rankOf(split), split };
  }

  /** Drops what stands at slot `length` or behind, and the memory it took. */
  crop(length: number): void {
    const behind = this.counts.map((_, b) => new Set(this.slotsOf(b).filter((slot) => slot >= length)));
    if (this.#cutsSegment(behind)) {
      this.remove(behind);
      return;
    }
    const first = (b: number, m: number): number => Number(this.#slots[(b * this.#capacity + m) * this.#numTokens]);
    const firsts = this.counts.map((count, b) => Array.from({ length: count }, (_, m) => first(b, m)));
    const kept = firsts.map((slots) => slots.filter((slot) => slot < length).length);
    // Text is packed later than images behind it: those that stay need not be a sequence's first ones.
    if (firsts.some((slots, b) => slots.findLastIndex((slot) => slot < length) >= (kept[b] as number))) {
      this.remove(behind);
      return;
    }
    if (kept.every((count, b) => count === this.counts[b])) return;
    const numSegments = Math.max(...kept);
    const tokens = numSegments ? this.#numTokens : 0;
    this.#relayout({ kept, capacity: numSegments, tokens }, (_l, _side, layout) => (numSegments ? layout : NOTHING));
    this.#setCounts(kept);
  }

  /** Whether some segment would lose some of its tokens, but not all. */
  #cutsSegment(gone: readonly ReadonlySet<number>[]): boolean {
    return this.counts.some((count, b) =>
      Array.from({ length: count }, (_, m) => (b * this.#capacity + m) * this.#numTokens).some((first) => {
        const slots = Array.from(this.#slots.subarray(first, first + this.#numTokens), Number).filter((slot) => slot >= 0);
        const numGone = slots.filter((slot) => gone[b]?.has(slot)).length;
        return numGone > 0 && numGone < slots.length;
      }),
    );
  }

  /** Slots of sequence b's tokens, in the order they lie. */
  slotsOf(b: number): number[] {
    const perSequence = this.#capacity * this.#numTokens;
    return Array.from(this.#slots.subarray(b * perSequence, (b + 1) * perSequence), Number).filter((slot) => slot >= 0);
  }

  /**
   * Drops the tokens at slots `gone[b]` of each sequence: whole rows of codes, whatever they are made of. The rows behind them move up, a segment
   * that loses all its tokens goes with its basis, and buffers shrink to the longest segment left and the most segments a sequence has: that memory is
   * given back, also what there was to grow into. Shorter segments stay padded.
   */
  remove(gone: readonly ReadonlySet<number>[]): void {
    const [batch, before] = [this.batch, { capacity: this.#capacity, tokens: this.#numTokens }];
    const slotAt = (at: number): number => Number(this.#slots[at]);
    const kept = this.counts.map((count, b) =>
      Array.from({ length: count }, (_, m) => (b * before.capacity + m) * before.tokens)
        .map((first) => Array.from({ length: before.tokens }, (_, t) => first + t))
        .map((rows) => rows.filter((at) => slotAt(at) >= 0 && !gone[b]?.has(slotAt(at))))
        .filter((rows) => rows.length),
    );
    if (kept.flat(2).length === this.counts.reduce((sum, _, b) => sum + this.slotsOf(b).length, 0)) return;
    this.tiers?.join(this.#layers);
    const capacity = Math.max(0, ...kept.map((segments) => segments.length));
    const tokens = Math.max(0, ...kept.flatMap((segments) => segments.map((rows) => rows.length)));
    const segments = kept.flatMap((rows, b) =>
      rows.map((of, m) => ({ of, from: Math.floor((of[0] as number) / before.tokens), to: b * capacity + m })),
    );
    const elements = (array: PackedArray, places: number): number => (places ? array.length / places : 0);
    const movedRows = <A extends PackedArray>(old: A, fill = 0): A => {
      const width = elements(old, batch * before.capacity * before.tokens);
      const out = new (old.constructor as new (length: number) => A)(batch * capacity * tokens * width);
      if (fill) (out as BigInt64Array).fill(BigInt(fill));
      for (const { of, to } of segments) {
        for (const [t, row] of of.entries()) out.set(old.subarray(row * width, (row + 1) * width) as never, (to * tokens + t) * width);
      }
      return out;
    };
    const movedSegments = <A extends PackedArray>(old: A): A => {
      const width = elements(old, batch * before.capacity);
      const out = new (old.constructor as new (length: number) => A)(batch * capacity * width);
      for (const { from, to } of segments) out.set(old.subarray(from * width, (from + 1) * width) as never, to * width);
      return out;
    };
    const moved = (side: PackedSide): PackedSide =>
      capacity
        ? { ...side, codes: movedRows(side.codes), basis: movedSegments(side.basis), steps: movedSegments(side.steps) }
        : emptySide(this.#format);
    this.#layers = this.#layers.map(({ keys, values }) => ({ keys: moved(keys), values: moved(values) }));
    this.#positions = movedRows(this.#positions);
    this.#slots = movedRows(this.#slots, -1);
    this.#capacity = capacity;
    this.#numTokens = tokens;
    this.#setCounts(kept.map((left) => left.length));
  }

  #setCounts(counts: readonly number[]): void {
    counts.forEach((count, b) => {
      this.counts[b] = count;
    });
    this.#numSegments = Math.max(...counts);
    this.#tellAxes();
    this.tiers?.reset({ batch: this.batch, segments: this.#numSegments, capacity: this.batch * this.#capacity, tokens: this.#numTokens });
  }

  /** Lays out anew where tokens stand on each axis, if the decoder scores by axes. */
  #tellAxes(): void {
    if (!this.#shape.axisColumns) return;
    const extents = { segments: this.batch * this.#numSegments, tokens: this.#numTokens, axes: this.#axes };
    this.#axisTables = axisTables(extents, this.slots, this.positions);
  }

  /** Moves the first `kept[b]` segments of each sequence into buffers of another extent or rank; leaves them where they are if nothing changes. */
  #relayout({ kept, capacity, tokens }: Layout, layoutOf: (l: number, side: 'keys' | 'values', now: SideLayout) => SideLayout): void {
    this.tiers?.join(this.#layers);
    const before = { capacity: this.#capacity, tokens: this.#numTokens };
    const keepsAll = kept.every((count, b) => count === this.counts[b]);
    const isSame = keepsAll && capacity === before.capacity && tokens === before.tokens;
    const moves = kept.flatMap((count, b) => Array.from({ length: count }, (_, m) => [b * before.capacity + m, b * capacity + m] as const));
    const [from, to] = [before, { capacity, tokens }].map((of) => ({ segments: this.batch * of.capacity, tokens: of.tokens }));
    assert(from && to, 'two layouts');
    // Layer by layer, so that only one of them is held twice.
    for (const [l, layer] of this.#layers.entries()) {
      const moved = (side: 'keys' | 'values'): PackedSide => {
        const old = layer[side];
        const layout = layoutOf(l, side, { rank: old.rank, split: old.split });
        return isSame && layout.rank === old.rank ? old : movedSide(old, this.#format, this.#dims(l), layout, from, to, moves);
      };
      this.#layers[l] = { keys: moved('keys'), values: moved('values') };
    }
    if (isSame) return;
    const movedIndex = (old: BigInt64Array, padding: bigint, perToken: number): BigInt64Array => {
      const [length, room] = [before.tokens * perToken, tokens * perToken];
      const index = new BigInt64Array(this.batch * capacity * room).fill(padding);
      for (const [from, to] of moves) index.set(old.subarray(from * length, (from + 1) * length), to * room);
      return index;
    };
    this.#slots = movedIndex(this.#slots, -1n, 1);
    this.#positions = movedIndex(this.#positions, 0n, this.#axes);
    this.#capacity = capacity;
    this.#numTokens = tokens;
  }

  /** Keys whose basis has its columns by axis, where the decoder wants them so. */
  #byAxis(factors: Factors): Factors {
    const columns = this.#shape.axisColumns && columnsByAxis(this.#shape.axisColumns);
    if (!columns || columns.every((column, i) => column === i)) return factors;
    const basis = Float32Array.from(
      factors.basis,
      (_, i) => factors.basis[i - (i % columns.length) + (columns[i % columns.length] as number)] as number,
    );
    return { ...factors, basis };
  }

  #dims(layer: number): SideDims {
    const dims = this.#shape.layers[layer];
    assert(dims, `packed part has no layer ${layer}`);
    return dims;
  }
}

/** Where segments are to lie: how many of each sequence stay, and what the buffers have room for. */
interface Layout {
  readonly kept: readonly number[];
  /** Segments per sequence. */
  readonly capacity: number;
  /** Tokens per segment. */
  readonly tokens: number;
}

const NOTHING: SideLayout = { rank: 0 };
