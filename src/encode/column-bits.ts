/** How many bits each column gets: the split of a budget of bytes over codes and basis rows that leaves the least squared error. */
import { assert } from '../errors.ts';
import { BITS, type Bits, bytesOf, columnsOf, NO_COLUMNS, type Widths } from './widths.ts';

/** Squared errors by column, columns in falling energy; measured, not modelled. */
export interface ColumnErrors {
  /** [R]: of leaving a column out. */
  readonly dropped: Float64Array;
  /** [R] each: of its codes at so many bits. Undefined where codes are not split, and cost nothing here. */
  readonly codes: Readonly<Record<Bits, Float64Array>> | undefined;
  /** [R] each: of its basis row, as it shows in the product. Undefined likewise. */
  readonly basis: Readonly<Record<Bits, Float64Array>> | undefined;
}

/** What codes and bases of one layer and side hold. */
export interface Split {
  readonly codes: Widths;
  readonly basis: Widths;
}

/** Counts tried at most for each boundary between bits; beyond, only every second, fourth, .. one. */
const FINEST = 64;

/**
 * The best split within a budget: reverse water-filling on measured errors, solved exactly. For every rank all splits of the codes and all of the basis
 * rows are listed by bytes, and the two lists walked towards one another. At most FINEST places are tried for each boundary.
 *
 * @param tokens numbers in a column of codes
 * @param width numbers in a row of the basis
 * @param budget bytes of all levels
 * @returns the first columns with bits; no columns if the budget is too small for any
 */
export function spreadBits({ dropped, codes, basis }: ColumnErrors, tokens: number, width: number, budget: number): Split {
  const most = dropped.length;
  const grain = 2 ** Math.max(0, Math.ceil(Math.log2(most / FINEST)));
  const sums = { dropped: prefix(dropped), codes: codes && prefixes(codes), basis: basis && prefixes(basis) };
  const all = sums.dropped[most] as number;
  let best: { error: number; split: Split } = { error: Number.POSITIVE_INFINITY, split: { codes: NO_COLUMNS, basis: NO_COLUMNS } };
  for (let rank = 1; rank <= most; rank++) {
    if (rank % grain && rank !== most) continue;
    const left = all - (sums.dropped[rank] as number);
    if (left >= best.error) continue;
    const ofCodes = choices(sums.codes, rank, tokens, grain);
    const ofBasis = choices(sums.basis, rank, width, grain);
    let b = ofBasis.length - 1;
    for (const code of ofCodes) {
      while (b >= 0 && code.bytes + (ofBasis[b] as Choice).bytes > budget) b--;
      const row = ofBasis[b];
      if (!row) break;
      const error = left + code.error + row.error;
      if (error < best.error) best = { error, split: { codes: code.widths, basis: row.widths } };
    }
  }
  return best.split;
}

/** The same bits for every column; where they do not fill bytes, the first columns get the next more. */
export function evenBits(rank: number, bits: Bits): Widths {
  const n2 = bits === 2 ? rank - (rank % 4) : 0;
  const n4 = bits <= 4 ? rank - n2 - ((rank - n2) % 2) : 0;
  return [rank - n2 - n4, n4, n2];
}

interface Choice {
  readonly widths: Widths;
  readonly bytes: number;
  readonly error: number;
}

/** Ways to give `rank` columns of `length` numbers bits, by rising bytes and falling error; those beaten in both are left out. */
function choices(sums: Readonly<Record<Bits, Float64Array>> | undefined, rank: number, length: number, grain: number): Choice[] {
  if (!sums) return [{ widths: NO_COLUMNS, bytes: 0, error: 0 }];
  const found: Choice[] = [];
  const between = (bits: Bits, from: number, to: number): number => (sums[bits][to] as number) - (sums[bits][from] as number);
  for (let n8 = 0; n8 <= rank; n8++) {
    if (n8 % grain && n8 !== rank) continue;
    for (let n2 = 0; n8 + n2 <= rank; n2 += 4) {
      const n4 = rank - n8 - n2;
      if (n4 % 2 || (n2 % grain && n4)) continue;
      const error = between(8, 0, n8) + between(4, n8, n8 + n4) + between(2, n8 + n4, rank);
      found.push({ widths: [n8, n4, n2], bytes: bytesOf([n8, n4, n2]) * length, error });
    }
  }
  found.sort((a, b) => a.bytes - b.bytes || a.error - b.error);
  let least = Number.POSITIVE_INFINITY;
  return found.filter(({ error }) => {
    if (error >= least) return false;
    least = error;
    return true;
  });
}

function prefixes(errors: Readonly<Record<Bits, Float64Array>>): Record<Bits, Float64Array> {
  return Object.fromEntries(BITS.map((bits) => [bits, prefix(errors[bits])])) as Record<Bits, Float64Array>;
}

/** [R + 1]: sums of the first 0, 1, 2, .. numbers. */
function prefix(numbers: Float64Array): Float64Array {
  const sums = new Float64Array(numbers.length + 1);
  for (let i = 0; i < numbers.length; i++) sums[i + 1] = (sums[i] as number) + (numbers[i] as number);
  return sums;
}

/** Bits a column has on average. */
export function meanBits(widths: Widths): number {
  const columns = columnsOf(widths);
  assert(columns > 0, 'mean of no columns');
  return (8 * bytesOf(widths)) / columns;
}
