/** The packed part: codes and bases of all segments, in the layout the graph reads. */
import type { Factors } from '../encode/factor.ts';
import { quantiseCodes, toFloat16 } from '../encode/quantise.ts';
import { assert } from '../errors.ts';
import type { BasisType, CodeType, ModelShape } from '../shape.ts';
import { type AxisTables, axisTableBytes, axisTables } from './axis-tables.ts';

export type CodeArray = Float32Array | Uint16Array | Int8Array;
export type BasisArray = Float32Array | Uint16Array;
type PackedArray = CodeArray | BasisArray | BigInt64Array;

/** One layer's packed keys or values: codes [B, M, T, r] and basis [B, M, Hkv, r, D]. */
export interface PackedSide {
  readonly rank: number;
  readonly codes: CodeArray;
  readonly basis: BasisArray;
}

export interface PackedLayer {
  readonly keys: PackedSide;
  readonly values: PackedSide;
}

/** A compacted span on its way in: factors per layer, and where its tokens stand. */
export interface NewSegment {
  /** Row of the batch it belongs to. */
  readonly sequence: number;
  readonly slots: readonly number[];
  /** Rotary position of each token, [T, A]. */
  readonly positions: readonly number[];
  readonly layers: readonly { readonly keys: Factors; readonly values: Factors }[];
}

/**
 * Segments of all sequences. M is the most segments any sequence has and T the longest; what is shorter is padded with zeros and slot -1.
 * Once in, codes are only ever moved, never encoded again. A single sequence's buffers have room for more segments than are in use, so that
 * images that come one by one are not copied each time; the graph is fed the used part.
 */
export class PackedPart {
  readonly #shape: ModelShape;
  readonly #codes: CodeType;
  readonly #basis: BasisType;
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

  /** @param axes A: numbers in a token's position. Default 1. */
  constructor(shape: ModelShape, batch: number, codes: CodeType, basis: BasisType, axes = 1) {
    this.#shape = shape;
    this.#codes = codes;
    this.#basis = basis;
    this.#axes = axes;
    this.batch = batch;
    this.counts = new Array<number>(batch).fill(0);
    const empty = (): PackedSide => ({ rank: 0, codes: this.#codeArray(0), basis: this.#basisArray(0) });
    this.#layers = shape.layers.map(() => ({ keys: empty(), values: empty() }));
    this.#slots = new BigInt64Array(0);
    this.#positions = new BigInt64Array(0);
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

  /** The used part of one layer's buffers. */
  layer(index: number): PackedLayer {
    const layer = this.#layers[index];
    assert(layer, `packed part has no layer ${index}`);
    const { numKvHeads, headDim } = this.#dims(index);
    const segments = this.batch * this.#numSegments;
    const used = ({ rank, codes, basis }: PackedSide): PackedSide => ({
      rank,
      codes: codes.subarray(0, segments * this.#numTokens * rank),
      basis: basis.subarray(0, segments * numKvHeads * rank * headDim),
    });
    return { keys: used(layer.keys), values: used(layer.values) };
  }

  /** Bytes of all buffers as allocated. */
  get bytes(): number {
    const side = ({ codes, basis }: PackedSide): number => codes.byteLength + basis.byteLength;
    return (
      this.#layers.reduce((sum, { keys, values }) => sum + side(keys) + side(values), 0) +
      this.#slots.byteLength +
      this.#positions.byteLength +
      (this.#axisTables ? axisTableBytes(this.#axisTables) : 0)
    );
  }

  /**
   * Takes in segments, all of one prompt at once so that the buffers are laid out once. `numComing` more are known to follow: a single
   * sequence's buffers get room for exactly those, so that an album packed image by image is never held twice.
   */
  add(segments: readonly NewSegment[], numComing = 0): void {
    if (!segments.length) return;
    const counts = [...this.counts];
    const place = segments.map((segment) => (counts[segment.sequence] = (counts[segment.sequence] ?? 0) + 1) - 1);
    const numSegments = Math.max(...counts);
    const growth = numComing > 0 ? numSegments + numComing : Math.ceil(this.#capacity * 1.5);
    const room = this.batch === 1 ? growth : 0;
    const capacity = numSegments <= this.#capacity ? this.#capacity : Math.max(numSegments, room);
    const tokens = Math.max(this.#numTokens, ...segments.map((segment) => segment.slots.length));
    this.#relayout({ kept: this.counts, capacity, tokens }, (l, side, rank) =>
      Math.max(rank, ...segments.map((segment) => segment.layers[l]?.[side].rank ?? 0)),
    );
    segments.forEach((segment, s) => {
      const at = segment.sequence * capacity + (place[s] ?? 0);
      this.#slots.set(segment.slots.map(BigInt), at * tokens);
      this.#positions.set(segment.positions.map(BigInt), at * tokens * this.#axes);
      this.#layers.forEach((layer, l) => {
        const factors = segment.layers[l];
        assert(factors, `segment has nothing for layer ${l}`);
        this.#write(l, layer.keys, this.#byAxis(factors.keys), at);
        this.#write(l, layer.values, factors.values, at);
      });
    });
    this.#setCounts(counts);
  }

  /** Drops the segments that stand at slot `length` or behind, and the memory they took. None may lie on both sides. */
  crop(length: number): void {
    const first = (b: number, m: number): number => Number(this.#slots[(b * this.#capacity + m) * this.#numTokens]);
    // A sequence's segments are in the order of their slots, so those that stay are its first ones.
    const kept = this.counts.map((count, b) => Array.from({ length: count }, (_, m) => first(b, m)).filter((slot) => slot < length).length);
    if (kept.every((count, b) => count === this.counts[b])) return;
    const numSegments = Math.max(...kept);
    const tokens = numSegments ? this.#numTokens : 0;
    this.#relayout({ kept, capacity: numSegments, tokens }, (_l, _side, rank) => (numSegments ? rank : 0));
    this.#setCounts(kept);
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
    const moved = ({ rank, codes, basis }: PackedSide): PackedSide => ({
      rank: capacity ? rank : 0,
      codes: movedRows(codes),
      basis: movedSegments(basis),
    });
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
  }

  /** Lays out anew where tokens stand on each axis, if the decoder scores by axes. */
  #tellAxes(): void {
    if (!this.#shape.axisColumns) return;
    const extents = { segments: this.batch * this.#numSegments, tokens: this.#numTokens, axes: this.#axes };
    this.#axisTables = axisTables(extents, this.slots, this.positions);
  }

  /** Moves the first `kept[b]` segments of each sequence into buffers of another extent or rank; leaves them where they are if nothing changes. */
  #relayout({ kept, capacity, tokens }: Layout, rankOf: (l: number, side: 'keys' | 'values', rank: number) => number): void {
    const before = { capacity: this.#capacity, tokens: this.#numTokens };
    const keepsAll = kept.every((count, b) => count === this.counts[b]);
    const isSame = keepsAll && capacity === before.capacity && tokens === before.tokens;
    const moves = kept.flatMap((count, b) => Array.from({ length: count }, (_, m) => [b * before.capacity + m, b * capacity + m] as const));
    this.#layers = this.#layers.map((layer, l) => {
      const { numKvHeads, headDim } = this.#dims(l);
      const moved = (side: 'keys' | 'values'): PackedSide => {
        const old = layer[side];
        const rank = rankOf(l, side, old.rank);
        if (isSame && rank === old.rank) return old;
        const codes = this.#codeArray(this.batch * capacity * tokens * rank);
        const basis = this.#basisArray(this.batch * capacity * numKvHeads * rank * headDim);
        for (const [from, to] of moves) {
          copyRows(old.codes, from * before.tokens, old.rank, codes, to * tokens, rank, before.tokens);
          for (let h = 0; h < numKvHeads; h++) {
            const source = (from * numKvHeads + h) * old.rank * headDim;
            basis.set(old.basis.subarray(source, source + old.rank * headDim), (to * numKvHeads + h) * rank * headDim);
          }
        }
        return { rank, codes, basis };
      };
      return { keys: moved('keys'), values: moved('values') };
    });
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

  /** Writes a new segment's codes and basis at segment `at` of one side's buffers. */
  #write(l: number, { rank, codes, basis }: PackedSide, factors: Factors, at: number): void {
    const { numKvHeads, headDim } = this.#dims(l);
    const encoded = this.#encode(factors);
    copyRows(encoded.codes, 0, factors.rank, codes, at * this.#numTokens, rank, factors.rank ? factors.codes.length / factors.rank : 0);
    // [r, Hkv·D] -> [Hkv, r, D]
    for (let h = 0; h < numKvHeads; h++) {
      for (let r = 0; r < factors.rank; r++) {
        const source = (r * numKvHeads + h) * headDim;
        basis.set(encoded.basis.subarray(source, source + headDim), ((at * numKvHeads + h) * rank + r) * headDim);
      }
    }
  }

  /** Keys whose basis has its columns by axis, where the decoder wants them so. */
  #byAxis(factors: Factors): Factors {
    const columns = this.#shape.axisColumns?.flat();
    if (!columns) return factors;
    const basis = Float32Array.from(
      factors.basis,
      (_, i) => factors.basis[i - (i % columns.length) + (columns[i % columns.length] as number)] as number,
    );
    return { ...factors, basis };
  }

  /** Codes and basis of a new segment in the element types held. */
  #encode(factors: Factors): { codes: CodeArray; basis: BasisArray } {
    const { codes, basis } =
      this.#codes === 'int8' ? quantiseCodes(factors.codes, factors.basis, factors.rank) : { codes: factors.codes, basis: factors.basis };
    return {
      codes: this.#codes === 'float16' ? toFloat16(codes as Float32Array) : codes,
      basis: this.#basis === 'float16' ? toFloat16(basis) : basis,
    };
  }

  #dims(layer: number): { numKvHeads: number; headDim: number } {
    const dims = this.#shape.layers[layer];
    assert(dims, `packed part has no layer ${layer}`);
    return dims;
  }

  #codeArray(length: number): CodeArray {
    return this.#codes === 'int8' ? new Int8Array(length) : this.#codes === 'float16' ? new Uint16Array(length) : new Float32Array(length);
  }

  #basisArray(length: number): BasisArray {
    return this.#basis === 'float16' ? new Uint16Array(length) : new Float32Array(length);
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

/** Copies rows of `fromRank` columns into rows of `toRank` columns; the rest stays zero. Offsets in rows. */
function copyRows(from: CodeArray, fromRow: number, fromRank: number, to: CodeArray, toRow: number, toRank: number, numRows: number): void {
  if (fromRank === toRank) {
    to.set(from.subarray(fromRow * fromRank, (fromRow + numRows) * fromRank), toRow * toRank);
    return;
  }
  for (let t = 0; t < numRows; t++) {
    to.set(from.subarray((fromRow + t) * fromRank, (fromRow + t + 1) * fromRank), (toRow + t) * toRank);
  }
}
