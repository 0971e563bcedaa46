/** Orthonormal rows: CholeskyQR for the bulk, Gram-Schmidt for the last digits and for directions that hold nothing. */
import type { Dense, Products } from './products.ts';

/**
 * One pass of shifted CholeskyQR (https://arxiv.org/abs/1809.11085) over rows: S = Z·Zᵀ + shift = L·Lᵀ, Z <- L⁻¹·Z.
 *
 * Rows come out orthonormal where they stood out of the rounding of S, and shorter than 1 where they did not; nothing is lost or made up.
 */
export async function orthogonaliseRows<A extends Float32Array | Float64Array>(z: Dense<A>, products: Products<A>): Promise<Dense<A>> {
  const gram = await products.timesTransposed(z, z); // [k, k]
  return products.times(inverseCholesky(gram), z);
}

/** The same over columns: Y <- Y·L⁻ᵀ. */
export async function orthogonaliseColumns<A extends Float32Array | Float64Array>(y: Dense<A>, products: Products<A>): Promise<Dense<A>> {
  const gram = await products.transposedTimes(y, y); // [k, k]
  return products.timesTransposed(y, inverseCholesky(gram));
}

/** L⁻¹ of S + shift = L·Lᵀ; the shift is a few roundings of S, and ten times more for as long as S is not positive definite. */
function inverseCholesky<A extends Float32Array | Float64Array>(gram: Dense<A>): Dense<A> {
  const { values, rows: k } = gram;
  let trace = 0;
  for (let i = 0; i < k; i++) trace += values[i * k + i] as number;
  const inverse = values.slice().fill(0) as A;
  let shift = trace * (values instanceof Float32Array ? 1e-6 : 1e-14) || 1;
  let lower = cholesky(values, k, shift);
  while (!lower) lower = cholesky(values, k, (shift *= 10));
  const column = new Float64Array(k);
  for (let j = 0; j < k; j++) {
    for (let i = j; i < k; i++) {
      let sum = i === j ? 1 : 0;
      for (let m = j; m < i; m++) sum -= (lower[i * k + m] as number) * (column[m] as number);
      column[i] = sum / (lower[i * k + i] as number);
      inverse[i * k + j] = column[i] as number;
    }
  }
  return { values: inverse, rows: k, columns: k };
}

function cholesky(values: ArrayLike<number>, k: number, shift: number): Float64Array | undefined {
  const lower = new Float64Array(k * k);
  for (let i = 0; i < k; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = (values[i * k + j] as number) + (i === j ? shift : 0);
      for (let m = 0; m < j; m++) sum -= (lower[i * k + m] as number) * (lower[j * k + m] as number);
      if (i > j) lower[i * k + j] = sum / (lower[j * k + j] as number);
      else if (sum > 0) lower[i * k + i] = Math.sqrt(sum);
      else return undefined;
    }
  }
  return lower;
}

/**
 * Makes the rows orthonormal in place. They come in falling order of length and almost orthogonal, as a Gram matrix's eigenvectors leave them.
 *
 * A row shorter than `weakShare` of the longest has lost its orthogonality to rounding (1e-16 / share², in float64) and is orthogonalised
 * against those before it. A row of no length, or with nothing of its own, becomes an arbitrary direction not yet taken: its codes are 0.
 */
export function orthonormaliseRows({ values, rows, columns }: Dense<Float64Array>, weakShare = 1e-4): void {
  const lengths = Array.from({ length: rows }, (_, i) => length(values, i * columns, columns));
  const longest = Math.max(...lengths, 0);
  for (const [i, own] of lengths.entries()) {
    const row = i * columns;
    if (own > 1e-14 * longest) {
      multiplyRow(values, row, columns, 1 / own);
      if (own > weakShare * longest || leaveOut(values, row, i, columns)) continue;
    }
    values.fill(0, row, row + columns);
    values[row + freestColumn(values, i, columns)] = 1;
    leaveOut(values, row, i, columns);
  }
}

/** Takes the first `count` rows' share out of a unit row, twice and once more for good measure; false if only rounding was left of it. */
function leaveOut(values: Float64Array, row: number, count: number, columns: number): boolean {
  for (let pass = 0; pass < 3; pass++) {
    for (let other = 0; other < count * columns; other += columns) {
      let dot = 0;
      for (let k = 0; k < columns; k++) dot += (values[row + k] as number) * (values[other + k] as number);
      for (let k = 0; k < columns; k++) values[row + k] = (values[row + k] as number) - dot * (values[other + k] as number);
    }
    const left = length(values, row, columns);
    if (left < 1e-8) return false;
    multiplyRow(values, row, columns, 1 / left);
  }
  return true;
}

/** The axis least taken by the first `count` rows: at least 1 - count / columns of it is free. */
function freestColumn(values: Float64Array, count: number, columns: number): number {
  const taken = new Float64Array(columns);
  for (let i = 0; i < count * columns; i++) taken[i % columns] = (taken[i % columns] as number) + (values[i] as number) ** 2;
  return taken.indexOf(Math.min(...taken));
}

function length(values: Float64Array, start: number, count: number): number {
  let sum = 0;
  for (let k = start; k < start + count; k++) sum += (values[k] as number) ** 2;
  return Math.sqrt(sum);
}

function multiplyRow(values: Float64Array, start: number, count: number, by: number): void {
  for (let k = start; k < start + count; k++) values[k] = (values[k] as number) * by;
}
