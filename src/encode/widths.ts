/** Columns of 8, 4 and 2 bits side by side, and how their levels share bytes. */
import { assert } from '../errors.ts';

export const BITS = [8, 4, 2] as const;
/** Bits a column's levels may have; columns with none are left out. */
export type Bits = (typeof BITS)[number];

/** Levels there are at so many bits. */
export const LEVELS: Readonly<Record<Bits, number>> = { 8: 256, 4: 16, 2: 4 };

/**
 * Columns of 8, of 4 and of 2 bits, which stand in this order: [n8, n4, n2]. Two columns of 4 bits share a byte, four of 2, so n4 is even and n2 a
 * multiple of four.
 */
export type Widths = readonly [n8: number, n4: number, n2: number];

export const NO_COLUMNS: Widths = [0, 0, 0];

/** Columns in all: the rank. */
export function columnsOf([n8, n4, n2]: Widths): number {
  return n8 + n4 + n2;
}

/** Bytes a token's levels take, one level of each column. */
export function bytesOf(widths: Widths): number {
  return byteParts(widths).reduce((sum, part) => sum + part, 0);
}

/** Bytes that hold columns of 8, of 4 and of 2 bits. */
export function byteParts([n8, n4, n2]: Widths): [number, number, number] {
  assert(n4 % 2 === 0 && n2 % 4 === 0, `${n4} columns of 4 bits and ${n2} of 2 do not fill their bytes`);
  return [n8, n4 / 2, n2 / 4];
}

/** Bits of each column. */
export function bitsOf(widths: Widths): Bits[] {
  return BITS.flatMap((bits, i) => new Array<Bits>(widths[i] as number).fill(bits));
}

/** One column's place: its byte, the lowest bit of its field there, and what the graph reads its levels times. */
export interface Field {
  readonly byte: number;
  readonly shift: number;
  /** The graph moves the lowest field of a byte to the top and leaves it there, which saves a pass: that field reads as level · 16 or · 64. */
  readonly factor: number;
}

/** The place of each column. The first half of the 4-bit columns are the high halves of their bytes, the second half the low ones; quarters likewise. */
export function fieldsOf(widths: Widths): Field[] {
  const parts = byteParts(widths);
  let firstByte = 0;
  return BITS.flatMap((bits, i) => {
    const [start, numBytes] = [firstByte, parts[i] as number];
    firstByte += numBytes;
    return Array.from({ length: widths[i] as number }, (_, column): Field => {
      const shift = 8 - bits * (1 + Math.floor(column / numBytes));
      return { byte: start + (column % numBytes), shift, factor: shift === 0 ? 2 ** (8 - bits) : 1 };
    });
  });
}

/**
 * Columns of levels, each of the same length, as columns of bytes: [bytes][length].
 *
 * @param columns as many as the widths say; missing ones at the end read as level 0
 */
export function packLevels(columns: readonly Uint8Array[], widths: Widths, length: number): Uint8Array[] {
  assert(columns.length <= columnsOf(widths), `${columns.length} columns for ${widths}`);
  const bytes = Array.from({ length: bytesOf(widths) }, () => new Uint8Array(length));
  const fields = fieldsOf(widths);
  columns.forEach((levels, c) => {
    const { byte, shift } = fields[c] as Field;
    const target = bytes[byte] as Uint8Array;
    for (let i = 0; i < length; i++) target[i] = (target[i] as number) | ((levels[i] as number) << shift);
  });
  return bytes;
}
