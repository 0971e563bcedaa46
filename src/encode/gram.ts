/** The exact truncated factorisation, through the smaller of the two Gram matrices, T×T or W×W, in float64. */
import { orthogonaliseRows, orthonormaliseRows } from './orthonormal.ts';
import type { Dense, Products } from './products.ts';
import { uniform } from './random.ts';
import { symmetricEigen } from './symmetric-eigen.ts';

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
export async function gramFactor(
  rows: Dense<Float64Array>,
  rank: number,
  products: Products<Float64Array>,
  seed: number,
): Promise<RawFactors> {
  const wide = rows.rows < rows.columns;
  const gram = wide ? await products.timesTransposed(rows, rows) : await products.transposedTimes(rows, rows);
  const leading = await leadingEigenvectors(gram, rank, products, seed); // [r, min(T, W)]
  // Wide: the eigenvectors u are combinations of tokens; uᵀ·rows is the basis row, as long as its singular value.
  const basis = wide ? await products.times(leading, rows) : leading; // [r, W]
  orthonormaliseRows(basis);
  const codes = await products.timesTransposed(rows, basis); // [T, r]
  return { codes, basis };
}

/** Up to here the whole eigenproblem in JavaScript is quicker than iterating. */
const SMALL = 64;
const OVERSAMPLE = 8;
const MAX_ITERATIONS = 100;

async function leadingEigenvectors(
  gram: Dense<Float64Array>,
  rank: number,
  products: Products<Float64Array>,
  seed: number,
): Promise<Dense<Float64Array>> {
  const n = gram.rows;
  const k = rank + OVERSAMPLE;
  if (n > SMALL && 3 * k <= n) return iterate(gram, rank, k, products, seed);
  return { values: symmetricEigen(gram.values, n).vectors.slice(0, rank * n), rows: rank, columns: n };
}

/** Blocked subspace iteration on the Gram matrix until another turn would gain less than 1e-7 of the energy still left out. */
async function iterate(
  gram: Dense<Float64Array>,
  rank: number,
  k: number,
  products: Products<Float64Array>,
  seed: number,
): Promise<Dense<Float64Array>> {
  const n = gram.rows;
  let trace = 0;
  for (let i = 0; i < n; i++) trace += gram.values[i * n + i] as number;
  let image: Dense<Float64Array> = { values: uniform(new Float64Array(k * n), seed), rows: k, columns: n };
  let vectors = image;
  let captured = 0;
  for (let turn = 0; turn < MAX_ITERATIONS; turn++) {
    vectors = await orthogonaliseRows(await orthogonaliseRows(image, products), products);
    image = await products.times(vectors, gram);
    const before = captured;
    captured = dot(vectors.values, image.values);
    if (captured - before <= 1e-7 * (trace - captured) || trace - captured <= 1e-13 * trace) break;
  }
  const ritz = await products.timesTransposed(vectors, image); // [k, k]
  const turned = { values: symmetricEigen(ritz.values, k).vectors.slice(0, rank * k), rows: rank, columns: k };
  const leading = await products.times(turned, vectors);
  // In a matrix of lower rank some rows are shorter than 1 and lean on others: orthogonalise every one.
  orthonormaliseRows(leading, Number.POSITIVE_INFINITY);
  return leading;
}

function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += (a[i] as number) * (b[i] as number);
  return sum;
}
