/** One layer's packed keys or values: the buffers, in the layout the graph reads, and how segments move between them. */
import type { Factors } from '../encode/factor.ts';
import { fromFloat16 } from '../encode/quantise.ts';
import { byteParts } from '../encode/widths.ts';
import { assert } from '../errors.ts';
import { encodeSide } from './encode-side.ts';
import {
  type BasisArray,
  basisRows,
  type CodeArray,
  codeLength,
  type Format,
  makeBasis,
  makeCodes,
  type SideLayout,
  stepLength,
} from './format.ts';

/** Codes [B, M, T, r] and basis [B, M, Hkv, r, D], or bytes in the place of r where they are *mixed*; see `contract.ts`. */
export interface PackedSide extends SideLayout {
  readonly codes: CodeArray;
  readonly basis: BasisArray;
  /** [B, M, K, r]; empty where the types need none. */
  readonly steps: Float32Array;
  /** [3] each where *mixed*, else empty. */
  readonly codeWidths: BigInt64Array;
  readonly basisWidths: BigInt64Array;
}

/** What a layer's buffers are counted in. */
export interface SideDims {
  readonly numKvHeads: number;
  readonly headDim: number;
}

/** Where segments lie: how many places there are for them, over all sequences, and tokens in each. */
export interface Places {
  readonly segments: number;
  readonly tokens: number;
}

export function emptySide(format: Format): PackedSide {
  return makeSide(format, { rank: 0 }, { numKvHeads: 0, headDim: 0 }, { segments: 0, tokens: 0 });
}

function makeSide(format: Format, layout: SideLayout, { numKvHeads, headDim }: SideDims, { segments, tokens }: Places): PackedSide {
  const { rank, split } = layout;
  const widths = (of: 'codes' | 'basis'): BigInt64Array =>
    split && format[of] === 'mixed' ? BigInt64Array.from(byteParts(split[of]).map(BigInt)) : new BigInt64Array(0);
  return {
    rank,
    split,
    codes: makeCodes(format, segments * tokens * codeLength(format, layout)),
    basis: makeBasis(format, segments * numKvHeads * basisRows(format, layout) * headDim),
    steps: new Float32Array(segments * stepLength(format, layout)),
    codeWidths: widths('codes'),
    basisWidths: widths('basis'),
  };
}

/** Bytes of the buffers as allocated. */
export function sideBytes({ codes, basis, steps, codeWidths, basisWidths }: PackedSide): number {
  return [codes, basis, steps, codeWidths, basisWidths].reduce((sum, buffer) => sum + buffer.byteLength, 0);
}

/** The first `places` of a side's buffers. */
export function usedSide(side: PackedSide, format: Format, { numKvHeads, headDim }: SideDims, { segments, tokens }: Places): PackedSide {
  return {
    ...side,
    codes: side.codes.subarray(0, segments * tokens * codeLength(format, side)),
    basis: side.basis.subarray(0, segments * numKvHeads * basisRows(format, side) * headDim),
    steps: side.steps.subarray(0, segments * stepLength(format, side)),
  };
}

/** A side in buffers of other extents or another rank; `moves` are segments' places before and after. What is new is zeros. */
export function movedSide(
  side: PackedSide,
  format: Format,
  dims: SideDims,
  layout: SideLayout,
  before: Places,
  after: Places,
  moves: readonly (readonly [from: number, to: number])[],
): PackedSide {
  const out = makeSide(format, layout, dims, after);
  const { numKvHeads, headDim } = dims;
  const lengths = {
    codes: [codeLength(format, side), codeLength(format, layout)],
    basis: [basisRows(format, side) * headDim, basisRows(format, layout) * headDim],
  } as const;
  const numSteps = side.rank ? stepLength(format, side) / side.rank : 0;
  for (const [from, to] of moves) {
    copyRows(side.codes, from * before.tokens, lengths.codes[0], out.codes, to * after.tokens, lengths.codes[1], before.tokens);
    copyRows(side.basis, from * numKvHeads, lengths.basis[0], out.basis, to * numKvHeads, lengths.basis[1], numKvHeads);
    copyRows(side.steps, from * numSteps, side.rank, out.steps, to * numSteps, layout.rank, numSteps);
  }
  return out;
}

/** Writes factors: the basis at place `at`, codes from token row `firstRow` of all places on. Returns the share of energy they leave out, as held. */
export function writeSide(
  side: PackedSide,
  format: Format,
  { numKvHeads, headDim }: SideDims,
  factors: Factors,
  at: number,
  firstRow: number,
): number {
  const width = numKvHeads * headDim;
  const encoded = encodeSide(factors, format, side, width);
  const length = codeLength(format, side);
  const numTokens = factors.rank ? factors.codes.length / factors.rank : 0;
  copyRows(encoded.codes, 0, numTokens ? encoded.codes.length / numTokens : 0, side.codes, firstRow, length, numTokens);
  const heldRows = basisRows(format, side);
  // [rows, Hkv·D] -> [Hkv, rows, D]
  for (let h = 0; h < numKvHeads; h++) {
    for (let r = 0; r < encoded.basis.length / width; r++) {
      const source = (r * numKvHeads + h) * headDim;
      side.basis.set(encoded.basis.subarray(source, source + headDim) as never, ((at * numKvHeads + h) * heldRows + r) * headDim);
    }
  }
  side.steps.set(encoded.steps, at * stepLength(format, side));
  return encoded.lostEnergy;
}

/**
 * The basis at place `at` as [n, W], rows of zeros behind the last one left out.
 *
 * @param order columns of a head in the order they are held; default: as they are
 */
export function readBasis(side: PackedSide, { numKvHeads, headDim }: SideDims, at: number, order?: readonly number[]): Float32Array {
  const { rank, basis } = side;
  assert(basis instanceof Float32Array || basis instanceof Uint16Array, 'a basis of levels is not read back');
  const own = basis.subarray(at * numKvHeads * rank * headDim, (at + 1) * numKvHeads * rank * headDim);
  const numbers = own instanceof Float32Array ? own : fromFloat16(own);
  const rows = new Float32Array(rank * numKvHeads * headDim);
  let used = 0;
  for (let i = 0; i < numbers.length; i++) {
    if (!numbers[i]) continue;
    const [h, r, d] = [Math.floor(i / (rank * headDim)), Math.floor(i / headDim) % rank, i % headDim];
    rows[(r * numKvHeads + h) * headDim + (order?.[d] ?? d)] = numbers[i] as number;
    used = Math.max(used, r + 1);
  }
  return rows.slice(0, used * numKvHeads * headDim);
}

/** Copies rows of `fromLength` elements into rows of `toLength`; the rest stays zero. Offsets in rows. */
function copyRows<A extends CodeArray | BasisArray>(
  from: A,
  fromRow: number,
  fromLength: number,
  to: A,
  toRow: number,
  toLength: number,
  numRows: number,
): void {
  if (fromLength === toLength) {
    to.set(from.subarray(fromRow * fromLength, (fromRow + numRows) * fromLength) as never, toRow * toLength);
    return;
  }
  for (let t = 0; t < numRows; t++) {
    to.set(from.subarray((fromRow + t) * fromLength, (fromRow + t + 1) * fromLength) as never, (toRow + t) * toLength);
  }
}
