/** Leading eigenvectors against ml-matrix's whole decomposition, above all where eigenvalues coincide. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { byMlMatrix, leadingEigenvectors } from '../../src/encode/eigenvectors.ts';
import { gaussian, orthonormalityOf } from './matrices.ts';

/** directionsᵀ · diag(eigenvalues) · directions for random directions; [n, n]. */
function symmetric(n: number, eigenvalues: readonly number[], seed: number): Float64Array {
  const directions = gaussian(eigenvalues.length * n, seed);
  const matrix = new Float64Array(n * n);
  for (const [i, eigenvalue] of eigenvalues.entries()) {
    const row = directions.subarray(i * n, (i + 1) * n);
    for (let j = 0; j < n; j++) {
      for (let k = 0; k < n; k++) matrix[j * n + k] = (matrix[j * n + k] as number) + eigenvalue * (row[j] as number) * (row[k] as number);
    }
  }
  return matrix;
}

/** vectors · matrix · vectorsᵀ: how much of the matrix the vectors hold, one by one. */
function energies(matrix: Float64Array, vectors: Float64Array, n: number): number[] {
  return Array.from({ length: vectors.length / n }, (_, i) => {
    const v = vectors.subarray(i * n, (i + 1) * n);
    let sum = 0;
    for (let j = 0; j < n; j++) for (let k = 0; k < n; k++) sum += (v[j] as number) * (matrix[j * n + k] as number) * (v[k] as number);
    return sum;
  });
}

function expectLeading(matrix: Float64Array, n: number, count: number): void {
  const vectors = leadingEigenvectors(matrix, n, count);
  expect(vectors).toHaveLength(count * n);
  expect(orthonormalityOf(vectors, count, n)).toBeLessThan(1e-12);
  const [own, best] = [energies(matrix, vectors, n), energies(matrix, byMlMatrix(matrix, n, count), n)];
  const largest = Math.max(...best.map(Math.abs), Number.MIN_VALUE);
  for (const [i, energy] of own.entries()) expect(Math.abs(energy - (best[i] as number)) / largest).toBeLessThan(1e-12);
}

describe('leading eigenvectors', () => {
  it('are those of ml-matrix for any spectrum, and leave the matrix as it is', () => {
    const spectrum = fc.array(fc.constantFrom(1, 1 - 1e-13, 0.5, 1e-3, 1e-9, 0), { minLength: 0, maxLength: 24 });
    fc.assert(
      fc.property(spectrum, fc.integer({ min: 1, max: 24 }), fc.integer({ min: 1, max: 24 }), fc.nat(), (values, n, count, seed) => {
        const matrix = symmetric(n, values, seed);
        const before = matrix.slice();
        expectLeading(matrix, n, Math.min(n, count));
        expect(matrix).toEqual(before);
      }),
      { numRuns: 150, seed: 1 },
    );
  });

  it.each([
    ['the identity', 40, (i: number, j: number) => Number(i === j)],
    ['zeros', 12, () => 0],
    ['ones', 30, () => 1],
    ['two equal blocks', 32, (i: number, j: number) => (i < 16 === j < 16 ? 1 / (1 + Math.abs((i % 16) - (j % 16))) : 0)],
    // Its largest eigenvalues come in pairs that agree to fourteen digits.
    ["Wilkinson's tridiagonal matrix", 41, (i: number, j: number) => (i === j ? Math.abs(i - 20) : Number(Math.abs(i - j) === 1))],
    ['a matrix of tiny numbers', 20, (i: number, j: number) => 1e-40 / (1 + i + j)],
    ['a matrix of huge numbers', 20, (i: number, j: number) => 1e24 / (1 + i + j)],
    ['one of negative eigenvalues', 20, (i: number, j: number) => (i === j ? -1 - i : 0)],
  ])('of %s are right', (_, n, entry) => {
    const matrix = Float64Array.from({ length: n * n }, (_, at) => entry(Math.floor(at / n), at % n));
    for (const count of [1, Math.floor(n / 2), n]) expectLeading(matrix, n, count);
  });

  it('of 64 tokens in a smooth spectrum are right', () => {
    for (const count of [8, 22, 32])
      expectLeading(
        symmetric(
          64,
          Array.from({ length: 64 }, (_, i) => 0.8 ** i),
          count,
        ),
        64,
        count,
      );
  });
});
