/**
 * Keys factored by what their error does to scores, not by how large it is: same codes, same bytes, another basis.
 *
 * A score is q·k, so an error e of a key costs e·C·eᵀ on average, C = mean of q·qᵀ over the queries that will come. With C = L·Lᵀ for each
 * key/value head that is ‖e·L‖²: rows·L are factored plainly, and L⁻¹ in the basis undoes the weighting. Nothing changes for who reads the codes.
 */
import { assert } from '../errors.ts';
import type { Encoder, Factors } from './factor.ts';
import type { Products } from './products.ts';

/** What errors of one layer's keys cost: for each key/value head the lower triangle L of C = L·Lᵀ. */
export interface Metric {
  /** D: columns of a head. */
  readonly headDim: number;
  /** [Hkv, D, D], row-major; above the diagonal 0. */
  readonly roots: Float32Array;
}

/**
 * Share of a head's mean variance that every direction is given besides what was seen there: what no query asked for so far may be asked for yet, and
 * C of few queries could not be undone. On the embedded model 0.01 and 0.1 differ by less than 1 % of the error.
 */
const SHRINKAGE = 0.1;

/**
 * @param moment [Hkv, D, D]: a multiple of the mean of q·qᵀ over all queries of the heads that share a key head, in the frame the keys are packed in
 */
export function metricOf(moment: ArrayLike<number>, numKvHeads: number, headDim: number): Metric {
  const size = headDim * headDim;
  assert(moment.length === numKvHeads * size, `${moment.length} numbers for moments [${numKvHeads}, ${headDim}, ${headDim}]`);
  const roots = new Float32Array(numKvHeads * size);
  for (let h = 0; h < numKvHeads; h++) roots.set(cholesky(shrunk(moment, h * size, headDim), headDim), h * size);
  return { headDim, roots };
}

/** C + SHRINKAGE · trace(C) / D · I of one head. */
function shrunk(moment: ArrayLike<number>, at: number, headDim: number): Float64Array {
  const own = Float64Array.from({ length: headDim * headDim }, (_, i) => moment[at + i] as number);
  const mean = Array.from({ length: headDim }, (_, i) => own[i * headDim + i] as number).reduce((sum, value) => sum + value, 0) / headDim;
  assert(mean > 0 && Number.isFinite(mean), `a head's queries have a mean square of ${mean}`);
  for (let i = 0; i < headDim; i++) own[i * headDim + i] = (own[i * headDim + i] as number) + SHRINKAGE * mean;
  return own;
}

/** L of C = L·Lᵀ, in place. C is positive definite by its shrinkage. */
function cholesky(matrix: Float64Array, n: number): Float64Array {
  const at = (i: number, j: number): number => matrix[i * n + j] as number;
  for (let i = 0; i < n; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = at(i, j);
      for (let k = 0; k < j; k++) sum -= at(i, k) * at(j, k);
      assert(i > j || sum > 0, 'moments of queries are not positive definite');
      matrix[i * n + j] = i > j ? sum / at(j, j) : Math.sqrt(sum);
    }
    matrix.fill(0, i * n + i + 1, (i + 1) * n);
  }
  return matrix;
}

/**
 * keys [T, W] ~ codes [T, r] · basis [r, W] with the least ‖error·L‖.
 *
 * `lostEnergy` is the plain share of ‖keys‖², as anywhere; `weightedLostEnergy` the share of ‖keys·L‖² and `singularValues` are those of keys·L. The rows
 * of basis·L are orthonormal, those of the basis are not.
 */
export async function factorWeighted(
  encoder: Pick<Encoder, 'factor'>,
  products: Products<Float32Array>,
  rows: Float32Array,
  numTokens: number,
  rank: number,
  metric: Metric,
  seed?: number,
): Promise<Factors> {
  const width = numTokens ? rows.length / numTokens : 0;
  const weighed = await weighted(rows, numTokens, metric, products);
  const factors = await encoder.factor(weighed, numTokens, width, rank, seed);
  const basis = unweighted(factors.basis, factors.rank, metric);
  const lostEnergy = factors.rank ? lostByProjection(rows, { ...factors, basis }) : factors.lostEnergy;
  return { ...factors, basis, lostEnergy, weightedLostEnergy: factors.lostEnergy };
}

/** rows · L, head by head: [T, W]. */
export async function weighted(
  rows: Float32Array,
  numTokens: number,
  { headDim, roots }: Metric,
  products: Products<Float32Array>,
): Promise<Float32Array> {
  const out = new Float32Array(rows.length);
  const width = rows.length / Math.max(1, numTokens);
  const head = new Float32Array(numTokens * headDim);
  for (let h = 0; h * headDim < width; h++) {
    for (let t = 0; t < numTokens; t++) {
      const from = t * width + h * headDim;
      head.set(rows.subarray(from, from + headDim), t * headDim);
    }
    const root = { values: roots.subarray(h * headDim * headDim, (h + 1) * headDim * headDim), rows: headDim, columns: headDim };
    const { values } = await products.times({ values: head, rows: numTokens, columns: headDim }, root);
    for (let t = 0; t < numTokens; t++) out.set(values.subarray(t * headDim, (t + 1) * headDim), t * width + h * headDim);
  }
  return out;
}

/** basis · L⁻¹, head by head, by solving from the last column on. */
export function unweighted(basis: Float32Array, rank: number, { headDim, roots }: Metric): Float32Array {
  const out = new Float32Array(basis.length);
  const numHeads = rank ? basis.length / rank / headDim : 0;
  const row = new Float64Array(headDim);
  for (let part = 0; part < rank * numHeads; part++) {
    const [from, root] = [part * headDim, (part % numHeads) * headDim * headDim];
    for (let j = headDim - 1; j >= 0; j--) {
      let sum = basis[from + j] as number;
      for (let i = j + 1; i < headDim; i++) sum -= (row[i] as number) * (roots[root + i * headDim + j] as number);
      row[j] = sum / (roots[root + j * headDim + j] as number);
    }
    out.set(row, from);
  }
  return out;
}

/**
 * ‖rows - codes·basis‖² / ‖rows‖² without building codes·basis, T·r·W multiplications more: codes have orthogonal columns u, and
 * codes·basis = Σ u·uᵀ·rows / ‖u‖² is the rows' projection on them, whatever the weights. Shares under 1e-6 are rounding.
 */
function lostByProjection(rows: Float32Array, { codes, basis, rank }: Pick<Factors, 'codes' | 'basis' | 'rank'>): number {
  const [columns, basisRows] = [new Float64Array(rank), new Float64Array(rank)];
  const width = basis.length / rank;
  for (let i = 0; i < codes.length; i++) columns[i % rank] = (columns[i % rank] as number) + (codes[i] as number) ** 2;
  for (let i = 0; i < basis.length; i++) {
    const row = Math.floor(i / width);
    basisRows[row] = (basisRows[row] as number) + (basis[i] as number) ** 2;
  }
  const energy = rows.reduce((sum, value) => sum + value * value, 0);
  const kept = columns.reduce((sum, square, c) => sum + square * (basisRows[c] as number), 0);
  return energy > 0 ? Math.min(1, Math.max(0, 1 - kept / energy)) : 0;
}

/** ‖rows - codes·basis‖² / ‖rows‖², for any codes and basis. */
export async function lostShare(
  rows: Float32Array,
  { codes, basis, rank }: Pick<Factors, 'codes' | 'basis' | 'rank'>,
  numTokens: number,
  products: Products<Float32Array>,
): Promise<number> {
  const { values } = await products.times(
    { values: codes, rows: numTokens, columns: rank },
    { values: basis, rows: rank, columns: basis.length / rank },
  );
  let [lost, energy] = [0, 0];
  for (let i = 0; i < rows.length; i++) {
    lost += ((rows[i] as number) - (values[i] as number)) ** 2;
    energy += (rows[i] as number) ** 2;
  }
  return energy > 0 ? lost / energy : 0;
}
