/** The exact truncated factorisation, through the smaller of the two Gram matrices, T×T or W×W, in float64. */
import { leadingEigenvectors } from './eigenvectors.ts';
import { orthonormaliseRows } from './orthonormal.ts';
import type { Dense, Products } from './products.ts';

/** Codes [T, r] and basis [r, W], not yet signed or ordered to the last bit. */
export interface RawFactors {
  readonly codes: Dense<Float32Array | Float64Array>;
  readonly basis: Dense<Float32Array | Float64Array>;
}

/**
 * keys [T, W] ~ codes [T, r] · basis [r, W] with the least possible error.
 *
 * A Gram matrix squares the condition: eigenvalues below 1e-16 of the largest are noise, so in float32 all singular values under 3e-4 of the
 * first would be. Float64 puts that line at 1e-8, under the rounding of the float32 rows themselves.
 */
export async function gramFactor(rows: Dense<Float64Array>, rank: number, products: Products<Float64Array>): Promise<RawFactors> {
  const wide = rows.rows < rows.columns;
  const gram = wide ? await products.timesTransposed(rows, rows) : await products.transposedTimes(rows, rows);
  const leading = { values: leadingEigenvectors(gram.values, gram.rows, rank), rows: rank, columns: gram.rows }; // [r, min(T, W)]
  // Wide: the eigenvectors u are combinations of tokens; uᵀ·rows is the basis row, as long as its singular value.
  const basis = wide ? await products.times(leading, rows) : leading; // [r, W]
  orthonormaliseRows(basis);
  const codes = await products.timesTransposed(rows, basis); // [T, r]
  return { codes, basis };
}
