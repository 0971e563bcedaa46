/** How the bits of *mixed* codes and bases are shared out among the columns of one layer and side: measured on what is packed first. */
import { type ColumnErrors, evenBits, type Split, spreadBits } from '../encode/column-bits.ts';
import { columnOf, energy } from '../encode/columns.ts';
import type { Factors } from '../encode/factor.ts';
import { quantiseColumn } from '../encode/levels.ts';
import { BITS, type Bits, columnsOf } from '../encode/widths.ts';
import { assert } from '../errors.ts';
import type { Format } from './format.ts';

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

/** Columns a split keeps; both sides of it have as many where both have any. */
export function rankOf({ codes, basis }: Split): number {
  return Math.max(columnsOf(codes), columnsOf(basis));
}
