/** How one layer's packed keys or values are held: element types and lengths of rows. */
import { stepRows } from '../contract.ts';
import type { Split } from '../encode/column-bits.ts';
import { bytesOf } from '../encode/widths.ts';
import type { BasisType, CodeType } from '../shape.ts';

export type CodeArray = Float32Array | Uint16Array | Int8Array | Uint8Array;
export type BasisArray = Float32Array | Uint16Array | Int8Array | Uint8Array;

/** Element types of codes and bases. */
export interface Format {
  readonly codes: CodeType;
  readonly basis: BasisType;
}

/** What is held per token, per head and per segment, in elements. With *mixed* types a split says it, else the rank alone. */
export interface SideLayout {
  /** Columns. */
  readonly rank: number;
  /** Present where codes or basis are *mixed* and something is packed. */
  readonly split?: Split | undefined;
}

export function layoutOf(side: SideLayout | undefined): SideLayout {
  return { rank: side?.rank ?? 0, split: side?.split };
}

/** Elements of a token's codes. */
export function codeLength({ codes }: Format, { rank, split }: SideLayout): number {
  return codes === 'mixed' ? (split ? bytesOf(split.codes) : 0) : rank;
}

/** Rows of a segment's basis; in *mixed* ones a row of bytes holds up to four. */
export function basisRows({ basis }: Format, { rank, split }: SideLayout): number {
  return basis === 'mixed' ? (split ? bytesOf(split.basis) : 0) : rank;
}

/** Numbers of a segment's steps. */
export function stepLength({ codes, basis }: Format, { rank }: SideLayout): number {
  return stepRows(codes, basis) * rank;
}

/** Whether bits are shared out among columns. */
export function isMixed({ codes, basis }: Format): boolean {
  return codes === 'mixed' || basis === 'mixed';
}

export function makeCodes({ codes }: Format, length: number): CodeArray {
  return makeArray(codes, length);
}

export function makeBasis({ basis }: Format, length: number): BasisArray {
  return makeArray(basis, length);
}

/** An array for numbers of a type; *mixed* ones are bytes. */
export function makeArray(type: CodeType | BasisType, length: number): CodeArray {
  switch (type) {
    case 'float32':
      return new Float32Array(length);
    case 'float16':
      return new Uint16Array(length);
    case 'int8':
      return new Int8Array(length);
    case 'mixed':
      return new Uint8Array(length);
  }
}
