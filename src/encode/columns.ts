/** Columns of codes and the basis rows they are multiplied by. */
import type { Factors } from './factor.ts';

export interface ColumnPair {
  /** [T] */
  readonly column: Float32Array;
  /** [W] */
  readonly row: Float32Array;
  readonly columnEnergy: number;
  readonly rowEnergy: number;
}

export function columnOf({ codes, basis, rank }: Factors, c: number, width: number): ColumnPair {
  const column = Float32Array.from({ length: codes.length / rank }, (_, t) => codes[t * rank + c] as number);
  const row = basis.subarray(c * width, (c + 1) * width);
  return { column, row, columnEnergy: energy(column), rowEnergy: energy(row) };
}

/** Sum of squares. */
export function energy(numbers: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < numbers.length; i++) sum += (numbers[i] as number) ** 2;
  return sum;
}

/** Factors with at most `rank` columns: the first ones, which hold most. */
export function firstColumns(factors: Factors, rank: number): Factors {
  if (factors.rank <= rank) return factors;
  const { codes, basis, singularValues, lostEnergy, weightedLostEnergy } = factors;
  const width = basis.length / factors.rank;
  const numTokens = codes.length / factors.rank;
  const kept = new Float32Array(numTokens * rank);
  for (let t = 0; t < numTokens; t++) kept.set(codes.subarray(t * factors.rank, t * factors.rank + rank), t * rank);
  // ‖column‖² · ‖row‖², in the rows' own measure.
  const energies = Array.from({ length: factors.rank }, (_, c) => {
    const row = basis.subarray(c * width, (c + 1) * width);
    let column = 0;
    for (let t = 0; t < numTokens; t++) column += (codes[t * factors.rank + c] as number) ** 2;
    return column * row.reduce((sum, value) => sum + value * value, 0);
  });
  const sum = (of: readonly number[]): number => of.reduce((all, one) => all + one, 0);
  const [gone, all] = [sum(energies.slice(rank)), sum(energies)];
  const squares = Array.from(singularValues, (value) => value * value);
  const weighedGone = sum(squares.slice(rank)) / (sum(squares) || 1);
  return {
    codes: kept,
    basis: basis.slice(0, rank * width),
    rank,
    singularValues: singularValues.slice(0, rank),
    lostEnergy: all > 0 ? lostEnergy + ((1 - lostEnergy) * gone) / all : lostEnergy,
    ...(weightedLostEnergy !== undefined && { weightedLostEnergy: weightedLostEnergy + (1 - weightedLostEnergy) * weighedGone }),
  };
}
