/** How the bits of *mixed* codes and bases are shared out among the columns of one layer and side: measured on what is packed first. */
import { evenBits, type Split, spreadBits } from '../encode/column-bits.ts';
import type { Factors } from '../encode/factor.ts';
import { type Bits, columnsOf } from '../encode/widths.ts';
import { assert } from '../errors.ts';
import { measureColumns } from './column-errors.ts';
import type { Format } from './format.ts';

/** Mean bits of a column, and whether columns of much energy get more of them. */
export interface BitsWanted {
  readonly bits: number;
  readonly spread: 'energy' | 'even';
}

/** To find a split, at most so many segments are looked at. */
const MOST_LOOKED_AT = 4;

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
  const errors = measureColumns(looked, format, most, width);
  const tokens = looked.reduce((sum, one) => sum + (one.rank ? one.codes.length / one.rank : 0), 0);
  const widths = looked.length * width;
  const numbers = (format.codes === 'mixed' ? tokens : 0) + (format.basis === 'mixed' ? widths : 0);
  // Whole bytes; a fraction such as 5 · 1.6 / 8 may come out a hair below what it is.
  const split = spreadBits(errors, tokens, widths, Math.floor((numbers * rank * wanted.bits) / 8 + 1e-6));
  assert(most === 0 || rankOf(split) > 0, `no column fits rank ${rank} at ${wanted.bits} bits`);
  return split;
}

/** Columns a split keeps; both sides of it have as many where both have any. */
export function rankOf({ codes, basis }: Split): number {
  return Math.max(columnsOf(codes), columnsOf(basis));
}
