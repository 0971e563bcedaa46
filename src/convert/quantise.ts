/** Block quantisation of a matrix into what MatMulNBits and GatherBlockQuantized read: codes, a scale and a zero point for each block of a row. */
import { assert } from '../errors.ts';

export const BLOCK_SIZE = 32;

export interface QuantiseOptions {
  readonly bits: 4 | 8;
  /** Columns that share a scale; the last block of a row is padded with zeros. */
  readonly blockSize: number;
}

/** A quantised matrix of N rows and K columns, blocks = ceil(K / blockSize). A weight is (code - zeroPoint) · scale. */
export interface QuantisedRows {
  /** [N, blocks, blockSize·bits/8]; two 4-bit codes a byte, the low nibble first. */
  readonly codes: Uint8Array;
  /** [N, blocks] */
  readonly scales: Float32Array;
  /** [N, ceil(blocks·bits/8)], packed like the codes; undefined: every zero point is 2^(bits-1). */
  readonly zeroPoints?: Uint8Array;
}

/**
 * Quantises `values` [N, K] row by row, each weight to the nearest code: no weight is off by more than half its block's scale.
 *
 * 8 bits are symmetric (codes 1 to 255 around 128). 4 bits have a zero point: with 16 codes, the one that a symmetric range leaves unused and the
 * skew of single blocks cost about a fifth of the error.
 */
export function quantiseRows(values: Float32Array, numColumns: number, options: QuantiseOptions): QuantisedRows {
  const { bits, blockSize } = options;
  assert(values.length % numColumns === 0, `${values.length} values are not rows of ${numColumns}`);
  const numRows = values.length / numColumns;
  const blocks = Math.ceil(numColumns / blockSize);
  const codes = new Uint8Array((numRows * blocks * blockSize * bits) / 8);
  const scales = new Float32Array(numRows * blocks);
  if (bits === 8) {
    quantise8(values, numColumns, blockSize, codes, scales);
    return { codes, scales };
  }
  const zeroPoints = new Uint8Array(numRows * Math.ceil(blocks / 2));
  quantise4(values, numColumns, blockSize, codes, scales, zeroPoints);
  return { codes, scales, zeroPoints };
}

function quantise8(values: Float32Array, numColumns: number, blockSize: number, codes: Uint8Array, scales: Float32Array): void {
  const blocks = Math.ceil(numColumns / blockSize);
  codes.fill(128); // padding is zero
  for (let block = 0; block < scales.length; block++) {
    const row = Math.floor(block / blocks);
    const from = row * numColumns + (block % blocks) * blockSize;
    const to = Math.min(from + blockSize, (row + 1) * numColumns);
    let largest = 0;
    for (let i = from; i < to; i++) largest = Math.max(largest, Math.abs(values[i] as number));
    const scale = Math.fround(largest / 127);
    scales[block] = scale;
    if (scale === 0) continue;
    for (let i = from, at = block * blockSize; i < to; i++, at++) codes[at] = nearest((values[i] as number) / scale + 128, 255);
  }
}

function quantise4(
  values: Float32Array,
  numColumns: number,
  blockSize: number,
  codes: Uint8Array,
  scales: Float32Array,
  zeroPoints: Uint8Array,
): void {
  const blocks = Math.ceil(numColumns / blockSize);
  const zeroRow = Math.ceil(blocks / 2);
  for (let block = 0; block < scales.length; block++) {
    const row = Math.floor(block / blocks);
    const column = block % blocks;
    const from = row * numColumns + column * blockSize;
    const to = Math.min(from + blockSize, (row + 1) * numColumns);
    let low = 0; // zero is always inside the range, so that it is exact
    let high = 0;
    for (let i = from; i < to; i++) {
      const value = values[i] as number;
      if (value < low) low = value;
      if (value > high) high = value;
    }
    const scale = Math.fround((high - low) / 15);
    const zero = scale === 0 ? 8 : nearest(-low / scale, 15);
    scales[block] = scale;
    const zeroAt = row * zeroRow + (column >> 1);
    zeroPoints[zeroAt] = (zeroPoints[zeroAt] as number) | (column & 1 ? zero << 4 : zero);
    const start = (block * blockSize) >> 1;
    for (let i = 0; i < blockSize; i += 2) {
      const at = from + i;
      const first = at < to && scale > 0 ? nearest((values[at] as number) / scale + zero, 15) : zero;
      const second = at + 1 < to && scale > 0 ? nearest((values[at + 1] as number) / scale + zero, 15) : zero;
      codes[start + (i >> 1)] = first | (second << 4);
    }
  }
}

/** The whole number nearest to `value`, from 0 to `top`. The value is above -1, so that cutting the fraction off is rounding: thrice as fast as Math.round. */
function nearest(value: number, top: number): number {
  const code = (value + 0.5) | 0;
  return Math.min(code, top);
}

/** The matrix [N, K] a quantised one stands for. The slow true version; tests compare graphs against it. */
export function dequantiseRows(rows: QuantisedRows, numColumns: number, { bits, blockSize }: QuantiseOptions): Float32Array {
  const blocks = Math.ceil(numColumns / blockSize);
  const numRows = rows.scales.length / blocks;
  const values = new Float32Array(numRows * numColumns);
  const zeroRow = Math.ceil((blocks * bits) / 8);
  const at = (array: Uint8Array, index: number): number =>
    bits === 8 ? (array[index] as number) : ((array[index >> 1] as number) >> (index & 1 ? 4 : 0)) & 15;
  for (let row = 0; row < numRows; row++) {
    for (let column = 0; column < numColumns; column++) {
      const block = Math.floor(column / blockSize);
      const code = at(rows.codes, (row * blocks + block) * blockSize + (column % blockSize));
      const zero = rows.zeroPoints ? at(rows.zeroPoints.subarray(row * zeroRow), block) : 2 ** (bits - 1);
      values[row * numColumns + column] = (code - zero) * (rows.scales[row * blocks + block] as number);
    }
  }
  return values;
}
