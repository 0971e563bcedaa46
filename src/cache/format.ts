/** How one layer's packed keys or values are held: element types, lengths of rows, and the way from factors to bytes. */
import { stepRows } from '../contract.ts';
import { type ColumnErrors, evenBits, type Split, spreadBits } from '../encode/column-bits.ts';
import type { Factors } from '../encode/factor.ts';
import { type Column, quantiseColumn } from '../encode/levels.ts';
import { quantiseCodes, quantiseSymmetric, toFloat16 } from '../encode/quantise.ts';
import { BITS, type Bits, bitsOf, bytesOf, columnsOf, fieldsOf, packLevels, type Widths } from '../encode/widths.ts';
import { assert } from '../errors.ts';
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

function makeArray(type: CodeType | BasisType, length: number): CodeArray {
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

/** A segment's factors as they are held. */
export interface EncodedSide {
  /** [T, code length]. */
  readonly codes: CodeArray;
  /** [basis rows, W]. */
  readonly basis: BasisArray;
  /** [K, r]: see `contract.ts`; empty where the types need none. */
  readonly steps: Float32Array;
  /** Share of the energy left out by truncation and by levels, 0 to 1; rounding to float16 and int8 codes beside a float basis are not counted. */
  readonly lostEnergy: number;
}

/** Mean bits of a column, and whether columns of much energy get more of them. */
export interface BitsWanted {
  readonly bits: number;
  readonly spread: 'energy' | 'even';
}

/** To find a split, at most so many segments are looked at, and so many numbers of each column and row. */
const MOST_LOOKED_AT = 4;
const MOST_NUMBERS = 256;

/**
 * The split all segments of one layer and side share, decided by those packed first.
 *
 * @param rank columns asked for: the budget is as many columns of `bits` each, however many of them the split keeps
 * @param width W
 * @param longestComing tokens of the longest segment known to follow: it may have more columns than these
 */
export function chooseSplit(
  factors: readonly Factors[],
  format: Format,
  rank: number,
  width: number,
  wanted: BitsWanted,
  longestComing: number,
): Split {
  const most = Math.max(Math.min(rank, width, longestComing), ...factors.map((one) => one.rank));
  if (wanted.spread === 'even') {
    const even = evenBits(most, wanted.bits as Bits);
    return { codes: even, basis: even };
  }
  const every = Math.ceil(factors.length / MOST_LOOKED_AT);
  const looked = factors.filter((_, i) => i % every === 0);
  const errors = measure(looked, format, most, width);
  const tokens = looked.reduce((sum, one) => sum + (one.rank ? one.codes.length / one.rank : 0), 0);
  const widths = looked.length * width;
  const numbers = (format.codes === 'mixed' ? tokens : 0) + (format.basis === 'mixed' ? widths : 0);
  // Whole bytes; a fraction such as 5 · 1.6 / 8 may come out a hair below what it is.
  const split = spreadBits(errors, tokens, widths, Math.floor((numbers * rank * wanted.bits) / 8 + 1e-6));
  assert(most === 0 || rankOf(split) > 0, `no column fits rank ${rank} at ${wanted.bits} bits`);
  return split;
}

/** Errors of every column at every number of bits, summed over segments. Columns beyond those there are yet are taken to be like the last one. */
function measure(factors: readonly Factors[], format: Format, most: number, width: number): ColumnErrors {
  const zeros = (): Float64Array => new Float64Array(most);
  const each = (): Record<Bits, Float64Array> => ({ 8: zeros(), 4: zeros(), 2: zeros() });
  const errors = {
    dropped: zeros(),
    codes: format.codes === 'mixed' ? each() : undefined,
    basis: format.basis === 'mixed' ? each() : undefined,
  };
  const add = (sums: Float64Array, c: number, error: number): void => {
    sums[c] = (sums[c] as number) + error;
  };
  for (const one of factors) {
    for (let c = 0; c < one.rank; c++) {
      const { column, row, columnEnergy, rowEnergy } = columnOf(one, c, width);
      add(errors.dropped, c, columnEnergy * rowEnergy);
      const [someColumn, someRow] = [sampled(column), sampled(row)];
      for (const bits of BITS) {
        if (errors.codes) add(errors.codes[bits], c, errorShare(someColumn, bits) * columnEnergy * rowEnergy);
        if (errors.basis) add(errors.basis[bits], c, errorShare(someRow, bits) * columnEnergy * rowEnergy);
      }
    }
  }
  const known = Math.max(...factors.map(({ rank }) => rank));
  for (const sums of [errors.dropped, ...[errors.codes, errors.basis].flatMap((each) => (each ? Object.values(each) : []))]) {
    sums.fill(sums[known - 1] ?? 0, known);
  }
  return errors;
}

/** Numbers evenly far apart. The distance is odd: rotary pairs and heads come in even numbers, and all of them should be seen. */
function sampled(numbers: Float32Array): Float32Array {
  const distance = Math.ceil(numbers.length / MOST_NUMBERS) | 1;
  if (distance === 1) return numbers;
  return Float32Array.from({ length: Math.ceil(numbers.length / distance) }, (_, i) => numbers[i * distance] as number);
}

/** Share of the energy that levels of so many bits miss. */
function errorShare(numbers: Float32Array, bits: Bits): number {
  const whole = energy(numbers);
  return whole > 0 ? quantiseColumn(numbers, bits).error / whole : 0;
}

/** Factors in a format's element types, at most as many columns as the layout has. */
export function encodeSide(factors: Factors, format: Format, layout: SideLayout, width: number): EncodedSide {
  const { codes, basis } = format;
  if (stepRows(codes, basis)) return encodeInSteps(factors, format, layout, width);
  const plain = codes === 'int8' ? quantiseCodes(factors.codes, factors.basis, factors.rank) : factors;
  return {
    codes: codes === 'float16' ? toFloat16(plain.codes as Float32Array) : plain.codes,
    basis: basis === 'float16' ? toFloat16(plain.basis) : plain.basis,
    steps: new Float32Array(0),
    lostEnergy: factors.lostEnergy,
  };
}

/** Codes or basis, or both, as levels whose steps are kept apart. */
function encodeInSteps(factors: Factors, format: Format, layout: SideLayout, width: number): EncodedSide {
  const { split, rank } = layout;
  const numTokens = factors.rank ? factors.codes.length / factors.rank : 0;
  const [codeMaker, basisMaker] = [levelMaker(format.codes, split?.codes), levelMaker(format.basis, split?.basis)];
  const steps = new Float32Array(stepLength(format, layout));
  const [columns, rows]: [Levelled[], Levelled[]] = [[], []];
  let [factored, missed] = [0, 0];
  for (let c = 0; c < factors.rank; c++) {
    const { column, row, columnEnergy, rowEnergy } = columnOf(factors, c, width);
    factored += columnEnergy * rowEnergy;
    if (c >= rank) {
      missed += columnEnergy * rowEnergy;
      continue;
    }
    const [code, base] = [codeMaker(column, c), basisMaker(row, c)];
    columns.push(code);
    rows.push(base);
    missed += code.error * rowEnergy + base.error * columnEnergy;
    steps[c] = code.step * base.step;
    const zeros = [...(format.basis === 'mixed' ? [base.zero] : []), ...(format.codes === 'mixed' ? [code.zero] : [])];
    for (const [i, zero] of zeros.entries()) steps[(1 + i) * rank + c] = zero;
  }
  const { lostEnergy } = factors;
  return {
    codes: interleaved(format.codes, columns, split?.codes, numTokens),
    basis: stacked(format.basis, rows, split?.basis, width),
    steps,
    lostEnergy: factored > 0 ? Math.min(1, lostEnergy + ((1 - lostEnergy) * missed) / factored) : lostEnergy,
  };
}

/** A column as it will be held, with what it reads as: (number - zero) · step. */
interface Levelled {
  readonly numbers: Float32Array | Int8Array | Uint8Array;
  readonly step: number;
  readonly zero: number;
  readonly error: number;
}

/** Column c's numbers in a type; step and zero as the graph will read them, see {@link Field.factor}. */
function levelMaker(type: CodeType | BasisType, widths: Widths | undefined): (numbers: Float32Array, c: number) => Levelled {
  if (type === 'int8') return (numbers) => ({ ...quantiseSymmetric(numbers), zero: 0 });
  if (type !== 'mixed') return (numbers) => ({ numbers, step: 1, zero: 0, error: 0 });
  assert(widths, 'mixed without a split');
  const [bits, fields] = [bitsOf(widths), fieldsOf(widths)];
  return (numbers, c) => {
    const { levels, step, zero, error }: Column = quantiseColumn(numbers, bits[c] as Bits);
    const factor = fields[c]?.factor as number;
    return { numbers: levels, step: step / factor, zero: zero * factor, error };
  };
}

/** Columns side by side, [T, code length]. */
function interleaved(type: CodeType, columns: readonly Levelled[], widths: Widths | undefined, numTokens: number): CodeArray {
  const parts = asParts(type, columns, widths, numTokens);
  const length = type === 'mixed' ? bytesOf(widths as Widths) : columns.length;
  const out = makeArray(type === 'float16' ? 'float32' : type, numTokens * length);
  parts.forEach((part, c) => {
    for (let t = 0; t < numTokens; t++) out[t * length + c] = part[t] as number;
  });
  return type === 'float16' ? toFloat16(out as Float32Array) : out;
}

/** Rows one below the other, [basis rows, W]. */
function stacked(type: BasisType, rows: readonly Levelled[], widths: Widths | undefined, width: number): BasisArray {
  const parts = asParts(type, rows, widths, width);
  const out = makeArray(type === 'float16' ? 'float32' : type, parts.length * width);
  parts.forEach((part, c) => {
    out.set(part, c * width);
  });
  return type === 'float16' ? toFloat16(out as Float32Array) : out;
}

function asParts(
  type: CodeType | BasisType,
  levelled: readonly Levelled[],
  widths: Widths | undefined,
  length: number,
): ArrayLike<number>[] {
  const numbers = levelled.map((one) => one.numbers);
  return type === 'mixed' ? packLevels(numbers as Uint8Array[], widths as Widths, length) : numbers;
}

function columnOf({ codes, basis, rank }: Factors, c: number, width: number) {
  const column = Float32Array.from({ length: codes.length / rank }, (_, t) => codes[t * rank + c] as number);
  const row = basis.subarray(c * width, (c + 1) * width);
  return { column, row, columnEnergy: energy(column), rowEnergy: energy(row) };
}

function energy(numbers: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < numbers.length; i++) sum += (numbers[i] as number) ** 2;
  return sum;
}

/** Columns a split keeps; both sides of it have as many where both have any. */
export function rankOf({ codes, basis }: Split): number {
  return Math.max(columnsOf(codes), columnsOf(basis));
}
