/** What each column of a segment's factors costs in error, at every number of bits and left out: measured on samples. */
import type { ColumnErrors } from '../encode/column-bits.ts';
import { energy } from '../encode/columns.ts';
import type { Factors } from '../encode/factor.ts';
import { quantiseColumn } from '../encode/levels.ts';
import { BITS, type Bits } from '../encode/widths.ts';
import type { Format } from './format.ts';

/** How closely to look. */
export interface Looking {
  /** Numbers of a column or row at most. Default 256. */
  readonly numbers?: number;
  /** Of the columns from this one on, only every fourth is looked at: shares of the energy that levels miss differ little. Default: all are. */
  readonly closely?: number;
  /**
   * Of keys that were weighed (see `encode/weighted.ts`), the mean variance of the queries in a direction: errors are then counted as weighed, columns being
   * orthonormal under the weights. Default: plainly.
   */
  readonly variance?: number;
}

/**
 * Errors summed over segments. Columns beyond those there are yet are taken to be like the last one.
 *
 * @param most R: columns there may be
 * @param width W
 */
export function measureColumns(
  factors: readonly Factors[],
  format: Format,
  most: number,
  width: number,
  { numbers = 256, closely = Number.POSITIVE_INFINITY, variance }: Looking = {},
): ColumnErrors {
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
  for (const { codes, basis, rank } of factors) {
    const energies = columnEnergies(codes, rank);
    const tokens = rank ? codes.length / rank : 0;
    let rowEnergy = 0;
    let shares: { codes: Record<Bits, number> | undefined; basis: Record<Bits, number> | undefined } = {
      codes: undefined,
      basis: undefined,
    };
    for (let c = 0; c < rank; c++) {
      if (c < closely || c % 4 === 0) {
        const row = basis.subarray(c * width, (c + 1) * width);
        rowEnergy = energy(row);
        shares = {
          codes: errors.codes && missed(sampled(codes, c, rank, tokens, numbers)),
          basis: errors.basis && missed(sampled(row, 0, 1, width, numbers)),
        };
      }
      const columnEnergy = energies[c] as number;
      const whole = variance === undefined ? columnEnergy * rowEnergy : columnEnergy;
      add(errors.dropped, c, whole);
      for (const bits of BITS) {
        if (errors.codes) add(errors.codes[bits], c, (shares.codes?.[bits] ?? 0) * whole);
        if (errors.basis) add(errors.basis[bits], c, (shares.basis?.[bits] ?? 0) * columnEnergy * rowEnergy * (variance ?? 1));
      }
    }
  }
  const known = Math.max(0, ...factors.map(({ rank }) => rank));
  for (const sums of [errors.dropped, ...[errors.codes, errors.basis].flatMap((each) => (each ? Object.values(each) : []))]) {
    sums.fill(sums[known - 1] ?? 0, known);
  }
  return errors;
}

/** [r]: sums of squares, in one pass over the rows. */
export function columnEnergies(codes: Float32Array, rank: number): Float64Array {
  const energies = new Float64Array(rank);
  for (let row = 0; row < codes.length; row += rank) {
    for (let c = 0; c < rank; c++) energies[c] = (energies[c] as number) + (codes[row + c] as number) ** 2;
  }
  return energies;
}

/** Numbers evenly far apart. The distance is odd: rotary pairs and heads come in even numbers, and all of them should be seen. */
function sampled(from: Float32Array, start: number, stride: number, length: number, most: number): Float32Array {
  const distance = Math.ceil(length / most) | 1;
  const numbers = new Float32Array(Math.ceil(length / distance));
  for (let i = 0; i < numbers.length; i++) numbers[i] = from[start + i * distance * stride] as number;
  return numbers;
}

/** Share of the energy that levels of so many bits miss. */
function missed(numbers: Float32Array): Record<Bits, number> {
  const whole = energy(numbers);
  return Object.fromEntries(BITS.map((bits) => [bits, whole > 0 ? quantiseColumn(numbers, bits).error / whole : 0])) as Record<
    Bits,
    number
  >;
}
