/** Truncated randomised SVD (Halko, Martinsson, Tropp, https://arxiv.org/abs/0909.4061): two power iterations, large products in ONNX Runtime. */
import { leadingEigenvectors } from './eigenvectors.ts';
import type { RawFactors } from './gram.ts';
import { orthogonaliseColumns, orthogonaliseRows, orthonormaliseRows } from './orthonormal.ts';
import type { Dense, Products } from './products.ts';
import { uniform } from './random.ts';

/**
 * Columns beyond the rank wanted. With a quarter more the error is within 1 % of the least possible for spectra that fall as 1/i or faster
 * (2 % for 1/√i); with Halko's 8 it would be 2 and 3 % at rank 96. A third iteration would do as much for three times the price.
 */
const oversample = (rank: number): number => Math.max(8, Math.ceil(rank / 4));
const POWER_ITERATIONS = 2;

/**
 * keys [T, W] ~ codes [T, r] · basis [r, W].
 *
 * The sketch starts from the tokens' side (Z = Ω·A, [k, W]): that needs the fewest random numbers, ends on the basis, and gives codes as the
 * exact projection A·basisᵀ. The rows A are never transposed: Z = Yᵀ·A and Y = A·Zᵀ transpose only k columns.
 *
 * @param rows [T, W], of a magnitude whose square float32 can hold.
 */
export async function randomizedSvd(
  rows: Dense<Float32Array>,
  rank: number,
  single: Products<Float32Array>,
  double: Products<Float64Array>,
  seed: number,
): Promise<RawFactors> {
  const [numTokens, width] = [rows.rows, rows.columns];
  const k = Math.min(rank + oversample(rank), numTokens, width);
  // 1. Sketch, and sharpen it: each iteration multiplies the spectrum by its square.
  let z = await single.times({ values: uniform(new Float32Array(k * numTokens), seed), rows: k, columns: numTokens }, rows); // [k, W]
  for (let iteration = 0; iteration < POWER_ITERATIONS; iteration++) {
    z = await orthogonaliseRows(z, single);
    const y = await orthogonaliseColumns(await single.timesTransposed(rows, z), single); // [T, k]
    z = await single.transposedTimes(y, rows); // [k, W]
  }
  // 2. An orthonormal basis of the sketch, to float32's last bit.
  const frame = await orthonormalFrame(z, double); // [k, W]
  // 3. The codes in it, turned so that columns are uncorrelated and fall in energy.
  const raw = await single.timesTransposed(rows, singles(frame)); // [T, k]
  const exact = doubles(raw);
  const gram = await double.transposedTimes(exact, exact); // [k, k]
  const turn = { values: leadingEigenvectors(gram.values, k, rank), rows: rank, columns: k }; // [r, k]
  return { codes: await double.timesTransposed(exact, turn), basis: await double.times(turn, frame) };
}

/** CholeskyQR twice; where that does not do (rows of a matrix whose rank is below k), Gram-Schmidt row by row. */
async function orthonormalFrame(z: Dense<Float32Array>, products: Products<Float64Array>): Promise<Dense<Float64Array>> {
  const frame = await orthogonaliseRows(await orthogonaliseRows(doubles(z), products), products);
  const gram = await products.timesTransposed(frame, frame);
  const off = gram.values.some((value, i) => Math.abs(value - Number(i % (gram.rows + 1) === 0)) > 1e-9);
  if (off) orthonormaliseRows(frame, Number.POSITIVE_INFINITY);
  return frame;
}

const doubles = (matrix: Dense<Float32Array>): Dense<Float64Array> => ({ ...matrix, values: new Float64Array(matrix.values) });
const singles = (matrix: Dense<Float64Array>): Dense<Float32Array> => ({ ...matrix, values: new Float32Array(matrix.values) });
