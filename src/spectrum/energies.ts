/** How the energy of keys or values spreads over directions: their squared singular values, all of them and exact, and what is read off them. */
import type { Products } from '../encode/products.ts';
import { eigenvaluesOf, tridiagonalise } from '../encode/tridiagonal.ts';
import { assert } from '../errors.ts';

/**
 * Squared singular values of `rows`: the eigenvalues of the smaller Gram matrix, in float64. Cost: T·W·n products in ONNX Runtime and about n³ in
 * JavaScript, n = min(T, W): 0.1 s for 512, some seconds for 2048.
 *
 * Those under 1e-16 of the largest are rounding; they are shown as they come, 0 at least.
 *
 * @param rows [T, W], finite
 * @returns [min(T, W)], descending; their sum is ‖rows‖²
 */
export async function energiesOf(
  rows: Float32Array | Float64Array,
  numTokens: number,
  width: number,
  products: Products<Float64Array>,
): Promise<Float64Array> {
  assert(rows.length === numTokens * width, `${rows.length} numbers for rows [${numTokens}, ${width}]`);
  if (!rows.length) return new Float64Array(0);
  const matrix = { values: new Float64Array(rows), rows: numTokens, columns: width };
  const gram = await (numTokens < width ? products.timesTransposed(matrix, matrix) : products.transposedTimes(matrix, matrix));
  const { diagonal, offDiagonal } = tridiagonalise(gram.values, gram.rows);
  return eigenvaluesOf(diagonal, offDiagonal, gram.rows)
    .map((value) => Math.max(0, value))
    .sort((a, b) => b - a);
}

/**
 * What is lost with the first c columns kept, as a share of `total`; c = 0..n.
 *
 * @param energies [n] of columns, in the order in which they are kept
 * @param total energy of which the shares are. Default: the sum of `energies`.
 * @returns [n + 1], falling; zeros if there is no energy at all
 */
export function lostByColumns(energies: Float64Array, total = sum(energies)): Float64Array {
  const lost = new Float64Array(energies.length + 1);
  if (total === 0) return lost;
  // From the last: small energies would be rounded away behind large ones.
  let tail = 0;
  for (let c = energies.length - 1; c >= 0; c--) {
    tail += energies[c] as number;
    lost[c] = tail / total;
  }
  return lost;
}

/** The fewest columns that lose at most `share`; all of them if not even those do. */
export function columnsFor(lost: Float64Array, share: number): number {
  const found = lost.findIndex((value) => value <= share);
  return found < 0 ? lost.length - 1 : found;
}

/** exp of the entropy of the shares of energy: n directions of equal energy count as n. 0 without energy. */
export function effectiveRank(energies: Float64Array): number {
  const total = sum(energies);
  if (total === 0) return 0;
  let entropy = 0;
  for (const energy of energies) if (energy > 0) entropy -= (energy / total) * Math.log(energy / total);
  return Math.exp(entropy);
}

/** rows minus their mean, and the share of energy that the mean held: T·‖mean‖² / ‖rows‖². */
export function centred(rows: Float32Array, numTokens: number, width: number): { rows: Float64Array; meanShare: number } {
  const mean = new Float64Array(width);
  let energy = 0;
  for (let i = 0; i < rows.length; i++) {
    const value = rows[i] as number;
    energy += value * value;
    mean[i % width] = (mean[i % width] as number) + value / numTokens;
  }
  const meanEnergy = numTokens * mean.reduce((total, value) => total + value * value, 0);
  return {
    rows: Float64Array.from(rows, (value, i) => value - (mean[i % width] as number)),
    meanShare: energy > 0 ? meanEnergy / energy : 0,
  };
}

export function sum(values: Float64Array): number {
  return values.reduce((total, value) => total + value, 0);
}
