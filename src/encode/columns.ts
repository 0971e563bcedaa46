/** One column of codes and the basis row it is multiplied by. */
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
