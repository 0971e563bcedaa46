/**
 * The leading eigenvectors of a symmetric matrix, in float64.
 *
 * Packing an image wants 8 to 22 directions of 64 tokens in every layer. ml-matrix has no partial decomposition, and three quarters of
 * its whole one go into turning vectors nobody asked for (n = 64: 2 ms of a factorisation's 2.5). So: Householder tridiagonalisation,
 * eigenvalues by QL without vectors, and inverse iteration for those wanted (as LAPACK's dsyevx). Every answer is checked, and ml-matrix
 * steps in where one is not good: eigenvalues so close that inverse iteration cannot tell them apart.
 */
import { EigenvalueDecomposition, Matrix } from 'ml-matrix';
import { uniform } from './random.ts';
import { eigenvaluesOf, reflect, solveShifted, type Tridiagonal, tridiagonalise } from './tridiagonal.ts';

/**
 * @param matrix [n, n], symmetric.
 * @returns [count, n]; orthonormal rows in falling order of eigenvalue.
 */
export function leadingEigenvectors(matrix: Float64Array, n: number, count: number): Float64Array {
  const few = 2 * count <= n ? byInverseIteration(matrix, n, count) : undefined;
  return few ?? byMlMatrix(matrix, n, count);
}

/** The slow true version, and the quicker one if most vectors are wanted. */
export function byMlMatrix(matrix: Float64Array, n: number, count: number): Float64Array {
  const { realEigenvalues, eigenvectorMatrix } = new EigenvalueDecomposition(Matrix.from1DArray(n, n, matrix), { assumeSymmetric: true });
  const order = realEigenvalues.map((_, i) => i).sort((a, b) => (realEigenvalues[b] as number) - (realEigenvalues[a] as number) || a - b);
  const vectors = new Float64Array(count * n);
  for (let i = 0; i < count; i++) for (let k = 0; k < n; k++) vectors[i * n + k] = eigenvectorMatrix.get(k, order[i] as number);
  return vectors;
}

/** Share of the largest eigenvalue that ‖A·v - λ·v‖ may come to: energies are wrong by its square. */
const GOOD = 1e-9;

/** Undefined if a vector does not come out well. */
function byInverseIteration(matrix: Float64Array, n: number, count: number): Float64Array | undefined {
  const tridiagonal = tridiagonalise(matrix.slice(), n);
  const { diagonal, offDiagonal } = tridiagonal;
  const eigenvalues = eigenvaluesOf(diagonal.slice(), offDiagonal.slice(), n).sort((a, b) => b - a);
  const largest = Math.max(Math.abs(eigenvalues[0] as number), Math.abs(eigenvalues[n - 1] as number));
  const vectors = uniform(new Float64Array(count * n), 1);
  let before = Number.POSITIVE_INFINITY;
  for (let i = 0; i < count; i++) {
    // Equal eigenvalues are set apart by a rounding, or the second solve would find the first vector again.
    before = Math.min(eigenvalues[i] as number, before - 4 * Number.EPSILON * largest);
    const vector = vectors.subarray(i * n, (i + 1) * n);
    for (let turn = 0; turn < 2; turn++) {
      if (!leaveOut(vector, vectors, i)) return undefined;
      solveShifted(tridiagonal, before, largest, vector);
      normalise(vector);
    }
    if (!leaveOut(vector, vectors, i) || !leaveOut(vector, vectors, i)) return undefined;
    if (error(tridiagonal, eigenvalues[i] as number, vector) > GOOD * largest) return undefined;
  }
  for (let i = 0; i < count; i++) reflect(tridiagonal, vectors.subarray(i * n, (i + 1) * n));
  return vectors;
}

/** Takes the first `count` rows' share out of a vector and makes it a unit again; false if nothing is left. */
function leaveOut(vector: Float64Array, rows: Float64Array, count: number): boolean {
  const n = vector.length;
  for (let other = 0; other < count * n; other += n) {
    let dot = 0;
    for (let k = 0; k < n; k++) dot += (vector[k] as number) * (rows[other + k] as number);
    for (let k = 0; k < n; k++) vector[k] = (vector[k] as number) - dot * (rows[other + k] as number);
  }
  return normalise(vector) > 1e-6;
}

/** Returns the length it had. */
function normalise(vector: Float64Array): number {
  let sum = 0;
  for (let k = 0; k < vector.length; k++) sum += (vector[k] as number) ** 2;
  const length = Math.sqrt(sum);
  if (length > 0) for (let k = 0; k < vector.length; k++) vector[k] = (vector[k] as number) / length;
  return length;
}

/** ‖T·v - λ·v‖ */
function error({ diagonal, offDiagonal }: Tridiagonal, eigenvalue: number, v: Float64Array): number {
  let sum = 0;
  for (let k = 0; k < v.length; k++) {
    const below = k > 0 ? (offDiagonal[k - 1] as number) * (v[k - 1] as number) : 0;
    const above = k < v.length - 1 ? (offDiagonal[k] as number) * (v[k + 1] as number) : 0;
    sum += (((diagonal[k] as number) - eigenvalue) * (v[k] as number) + below + above) ** 2;
  }
  return Math.sqrt(sum);
}
