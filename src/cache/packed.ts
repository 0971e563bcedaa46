/** The packed part: codes and bases of all segments, in the layout the graph reads. */
import type { Factors } from '../encode/factor.ts';
import { quantiseCodes, toFloat16 } from '../encode/quantise.ts';
import { assert } from '../errors.ts';
import type { BasisType, CodeType, ModelShape } from '../shape.ts';

export type CodeArray = Float32Array | Uint16Array | Int8Array;
export type BasisArray = Float32Array | Uint16Array;

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
  /** Rotary position of each token. */
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
  readonly batch: number;
  /** Segments each sequence has. */
  readonly counts: number[];
  #numSegments = 0;
  #capacity = 0;
  #numTokens = 0;
  #layers: PackedLayer[];
  #slots: BigInt64Array;
  #positions: BigInt64Array;

  constructor(shape: ModelShape, batch: number, codes: CodeType, basis: BasisType) {
    this.#shape = shape;
    this.#codes = codes;
    this.#basis = basis;
    this.batch = batch;
    this.counts = new Array<number>(batch).fill(0);
    const empty = (): PackedSide => ({ rank: 0, codes: this.#codeArray(0), basis: this.#basisArray(0) });
    this.#layers = shape.layers.map(() => ({ keys: empty(), values: empty() }));
    this.#slots = new BigInt64Array(0);
    this.#positions = new BigInt64Array(0);
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

  /** [B, M·T]; 0 for padding. */
  get positions(): BigInt64Array {
    return this.#positions.subarray(0, this.batch * this.#numSegments * this.#numTokens);
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
      this.#positions.byteLength
    );
  }

  /** Takes in segments, all of one prompt at once so that the buffers are laid out once. */
  add(segments: readonly NewSegment[]): void {
    if (!segments.length) return;
    const place = segments.map((segment) => (this.counts[segment.sequence] = (this.counts[segment.sequence] ?? 0) + 1) - 1);
    const before = { capacity: this.#capacity, tokens: this.#numTokens };
    const numSegments = Math.max(...this.counts);
    const room = this.batch === 1 && this.#capacity > 0 ? Math.ceil(this.#capacity * 1.5) : 0;
    const after = {
      capacity: numSegments <= this.#capacity ? this.#capacity : Math.max(numSegments, room),
      tokens: Math.max(before.tokens, ...segments.map((segment) => segment.slots.length)),
    };
    this.#layers = this.#layers.map((layer, l) => ({
      keys: this.#extend(l, layer.keys, before, after, segments, place, 'keys'),
      values: this.#extend(l, layer.values, before, after, segments, place, 'values'),
    }));
    this.#slots = this.#extendIndex(this.#slots, before, after, segments, place, 'slots', -1n);
    this.#positions = this.#extendIndex(this.#positions, before, after, segments, place, 'positions', 0n);
    this.#numSegments = numSegments;
    this.#capacity = after.capacity;
    this.#numTokens = after.tokens;
  }

  /** The buffers with the new segments in: the same ones if they have room, larger ones otherwise. */
  #extend(
    l: number,
    old: PackedSide,
    before: Extent,
    after: Extent,
    segments: readonly NewSegment[],
    place: readonly number[],
    side: 'keys' | 'values',
  ): PackedSide {
    const { numKvHeads, headDim } = this.#dims(l);
    const rank = Math.max(old.rank, ...segments.map((segment) => segment.layers[l]?.[side].rank ?? 0));
    const inPlace = isSame(before, after) && rank === old.rank;
    const codes = inPlace ? old.codes : this.#codeArray(this.batch * after.capacity * after.tokens * rank);
    const basis = inPlace ? old.basis : this.#basisArray(this.batch * after.capacity * numKvHeads * rank * headDim);
    for (let b = 0; b < this.batch && !inPlace; b++) {
      for (let m = 0; m < before.capacity; m++) {
        const from = b * before.capacity + m;
        const to = b * after.capacity + m;
        copyRows(old.codes, from * before.tokens, old.rank, codes, to * after.tokens, rank, before.tokens);
        for (let h = 0; h < numKvHeads; h++) {
          const source = (from * numKvHeads + h) * old.rank * headDim;
          basis.set(old.basis.subarray(source, source + old.rank * headDim), (to * numKvHeads + h) * rank * headDim);
        }
      }
    }
    segments.forEach((segment, s) => {
      const factors = segment.layers[l]?.[side];
      assert(factors, `segment has no ${side} for layer ${l}`);
      const to = segment.sequence * after.capacity + (place[s] ?? 0);
      const encoded = this.#encode(factors);
      copyRows(encoded.codes, 0, factors.rank, codes, to * after.tokens, rank, segment.slots.length);
      // [r, Hkv·D] -> [Hkv, r, D]
      for (let h = 0; h < numKvHeads; h++) {
        for (let r = 0; r < factors.rank; r++) {
          const source = (r * numKvHeads + h) * headDim;
          basis.set(encoded.basis.subarray(source, source + headDim), ((to * numKvHeads + h) * rank + r) * headDim);
        }
      }
    });
    return { rank, codes, basis };
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

  #extendIndex(
    old: BigInt64Array,
    before: Extent,
    after: Extent,
    segments: readonly NewSegment[],
    place: readonly number[],
    of: 'slots' | 'positions',
    padding: bigint,
  ): BigInt64Array {
    const inPlace = isSame(before, after);
    const out = inPlace ? old : new BigInt64Array(this.batch * after.capacity * after.tokens).fill(padding);
    for (let b = 0; b < this.batch && !inPlace; b++) {
      for (let m = 0; m < before.capacity; m++) {
        const from = (b * before.capacity + m) * before.tokens;
        out.set(old.subarray(from, from + before.tokens), (b * after.capacity + m) * after.tokens);
      }
    }
    segments.forEach((segment, s) => {
      out.set(segment[of].map(BigInt), (segment.sequence * after.capacity + (place[s] ?? 0)) * after.tokens);
    });
    return out;
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

/** What the buffers have room for: segments per sequence, tokens per segment. */
interface Extent {
  readonly capacity: number;
  readonly tokens: number;
}

function isSame(a: Extent, b: Extent): boolean {
  return a.capacity === b.capacity && a.tokens === b.tokens;
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
