/** Weighted factors against a whole SVD of the weighted rows, in plain loops. */
import fc from 'fast-check';
import { Matrix, SingularValueDecomposition } from 'ml-matrix';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createEncoder, type Encoder, type Factors } from '../../src/encode/index.ts';
import { type Metric, metricOf } from '../../src/encode/weighted.ts';
import { energyOf, errorOf, gaussian, orthonormalityOf, reconstruct, spectrumMatrix } from './matrices.ts';

let encoder: Encoder;
beforeAll(async () => {
  encoder = await createEncoder();
});
afterAll(() => encoder.dispose());

/** [Hkv, D, D]: moments of `numQueries` queries whose columns differ in size by up to `spread`. */
function moments(numKvHeads: number, headDim: number, numQueries: number, spread: number, seed: number): Float32Array {
  const out = new Float32Array(numKvHeads * headDim * headDim);
  for (let h = 0; h < numKvHeads; h++) {
    const queries = gaussian(numQueries * headDim, seed + h);
    for (let n = 0; n < numQueries; n++) {
      const at = (i: number): number => (queries[n * headDim + i] as number) * spread ** (((i * 7 + h) % headDim) / headDim);
      for (let i = 0; i < headDim; i++)
        for (let j = 0; j < headDim; j++)
          out[(h * headDim + i) * headDim + j] = (out[(h * headDim + i) * headDim + j] as number) + at(i) * at(j);
    }
  }
  return out;
}

/** rows · L in plain loops. */
function weigh(rows: ArrayLike<number>, numRows: number, { headDim, roots }: Metric): Float64Array {
  const width = rows.length / Math.max(1, numRows);
  return Float64Array.from({ length: rows.length }, (_, i) => {
    const [t, column] = [Math.floor(i / width), i % width];
    const [h, j] = [Math.floor(column / headDim), column % headDim];
    let sum = 0;
    for (let k = 0; k < headDim; k++)
      sum += (rows[t * width + h * headDim + k] as number) * (roots[(h * headDim + k) * headDim + j] as number);
    return sum;
  });
}

/** ‖(rows - codes · basis)·L‖² / ‖rows·L‖² */
function weightedLost(rows: Float32Array, factors: Factors, numTokens: number, metric: Metric): number {
  const rebuilt = reconstruct(factors, numTokens, rows.length / numTokens);
  const error = weigh(
    rows.map((value, i) => value - (rebuilt[i] as number)),
    numTokens,
    metric,
  );
  const sum = (values: Float64Array): number => values.reduce((total, value) => total + value * value, 0);
  return sum(error) / sum(weigh(rows, numTokens, metric));
}

const shapes = [
  ['more columns than tokens', 24, 2, 16, 5],
  ['more tokens than columns', 60, 3, 8, 7],
  ['one head', 20, 1, 12, 4],
] as const;

describe('weighted factors', () => {
  it.each(shapes)('leave out as little as a whole SVD of the weighted rows: %s', async (_, numTokens, numKvHeads, headDim, rank) => {
    const width = numKvHeads * headDim;
    const rows = spectrumMatrix(numTokens, width, (i) => 0.8 ** i, 5);
    const metric = metricOf(moments(numKvHeads, headDim, 40, 8, 3), numKvHeads, headDim);
    const factors = await encoder.factor(rows, numTokens, width, rank, 1, metric);
    // The best approximation keeps the leading left singular vectors U of rows·L; undoing L gives U·Uᵀ·rows.
    const svd = new SingularValueDecomposition(Matrix.from1DArray(numTokens, width, weigh(rows, numTokens, metric)), {
      autoTranspose: true,
    });
    const values = [...svd.diagonal].sort((a, b) => b - a);
    const total = values.reduce((sum, value) => sum + value * value, 0);
    const least = values.slice(rank).reduce((sum, value) => sum + value * value, 0) / total;
    expect(factors.weightedLostEnergy).toBeCloseTo(least, 7);
    expect(weightedLost(rows, factors, numTokens, metric)).toBeCloseTo(least, 7);
    const left = svd.leftSingularVectors.subMatrix(0, numTokens - 1, 0, rank - 1);
    const best = left
      .mmul(left.transpose())
      .mmul(Matrix.from1DArray(numTokens, width, rows))
      .to1DArray();
    const rebuilt = reconstruct(factors, numTokens, width);
    expect(Math.max(...best.map((value, i) => Math.abs(value - (rebuilt[i] as number))))).toBeLessThan(1e-5);
    expect(errorOf(rows, factors, numTokens, width) ** 2).toBeCloseTo(factors.lostEnergy, 6);
    expect(orthonormalityOf(Float32Array.from(weigh(factors.basis, rank, metric)), rank, width)).toBeLessThan(1e-4);
  });

  it('of many tokens and columns, by the randomised way, are within 1 % of the least error', async () => {
    const [numTokens, numKvHeads, headDim, rank] = [530, 16, 32, 24];
    const width = numKvHeads * headDim;
    const rows = spectrumMatrix(numTokens, width, (i) => 1 / (1 + i), 9, 120);
    const metric = metricOf(moments(numKvHeads, headDim, 80, 4, 2), numKvHeads, headDim);
    const quick = await encoder.factor(rows, numTokens, width, rank, 1, metric);
    const whole = await encoder.factor(rows, numTokens, width, 132, 1, metric); // exact: more than a quarter of the columns
    const least = whole.singularValues.subarray(rank).reduce((sum, value) => sum + value * value, 0);
    const total = whole.singularValues.reduce((sum, value) => sum + value * value, 0);
    expect(Math.sqrt((quick.weightedLostEnergy as number) / (least / total))).toBeLessThan(1.01);
    expect(weightedLost(rows, quick, numTokens, metric)).toBeCloseTo(quick.weightedLostEnergy as number, 6);
  });

  it('are exact at full rank, even of moments that only few queries made', async () => {
    for (const [, numTokens, numKvHeads, headDim] of shapes) {
      const width = numKvHeads * headDim;
      const rows = gaussian(numTokens * width, 8);
      const metric = metricOf(moments(numKvHeads, headDim, 2, 30, 4), numKvHeads, headDim);
      const factors = await encoder.factor(rows, numTokens, width, width, 1, metric);
      expect(errorOf(rows, factors, numTokens, width)).toBeLessThan(2e-6);
      expect(factors.lostEnergy).toBeLessThan(1e-6);
    }
  });

  it('are the plain ones where all directions cost the same', async () => {
    const rows = spectrumMatrix(20, 24, (i) => 0.7 ** i, 3);
    const equal = new Float32Array(2 * 144);
    for (let h = 0; h < 2; h++) for (let i = 0; i < 12; i++) equal[h * 144 + i * 13] = 5;
    const [weighted, plain] = [await encoder.factor(rows, 20, 24, 5, 1, metricOf(equal, 2, 12)), await encoder.factor(rows, 20, 24, 5)];
    const [a, b] = [reconstruct(weighted, 20, 24), reconstruct(plain, 20, 24)];
    expect(Math.max(...a.map((value, i) => Math.abs(value - (b[i] as number))))).toBeLessThan(1e-6);
    expect(weighted.lostEnergy).toBeCloseTo(plain.lostEnergy, 6);
    expect(plain.weightedLostEnergy).toBeUndefined();
  });

  it('lose no more weighted energy than plain ones do, less with each column, and never more plain energy than there is', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.record({
          numTokens: fc.integer({ min: 1, max: 30 }),
          numKvHeads: fc.integer({ min: 1, max: 3 }),
          headDim: fc.integer({ min: 1, max: 10 }),
          rank: fc.integer({ min: 0, max: 12 }),
          numQueries: fc.integer({ min: 1, max: 20 }),
          seed: fc.integer({ min: 1, max: 1000 }),
        }),
        async ({ numTokens, numKvHeads, headDim, rank, numQueries, seed }) => {
          const width = numKvHeads * headDim;
          const rows = spectrumMatrix(numTokens, width, (i) => 0.75 ** i, seed);
          fc.pre(energyOf(rows) > 0);
          const metric = metricOf(moments(numKvHeads, headDim, numQueries, 6, seed), numKvHeads, headDim);
          const weighted = await encoder.factor(rows, numTokens, width, rank, 1, metric);
          const plain = await encoder.factor(rows, numTokens, width, rank);
          const more = await encoder.factor(rows, numTokens, width, rank + 1, 1, metric);
          const lost = weightedLost(rows, weighted, numTokens, metric);
          expect(lost).toBeLessThanOrEqual(weightedLost(rows, plain, numTokens, metric) + 1e-9);
          expect(weightedLost(rows, more, numTokens, metric)).toBeLessThanOrEqual(lost + 1e-9);
          expect(weighted.lostEnergy).toBeGreaterThanOrEqual(plain.lostEnergy - 1e-6);
          expect(Math.abs(lost - (weighted.weightedLostEnergy as number))).toBeLessThan(1e-6);
        },
      ),
      { numRuns: 40 },
    );
  });

  it('name the token of a key that is not finite', async () => {
    const rows = gaussian(5 * 8, 2);
    rows[3 * 8 + 1] = Number.NaN;
    await expect(encoder.factor(rows, 5, 8, 2, 1, metricOf(moments(2, 4, 9, 2, 1), 2, 4))).rejects.toThrow('token 3');
  });
});
