/** The encoder against float64 SVD by ml-matrix, on every kind of matrix a span can be. */
import fc from 'fast-check';
import { Matrix, SingularValueDecomposition } from 'ml-matrix';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createEncoder, type Encoder, type Factors } from '../../src/encode/index.ts';
import { AttentionPackError } from '../../src/errors.ts';
import { energyOf, errorOf, gaussian, orthonormalityOf, spectrumMatrix } from './matrices.ts';

let encoder: Encoder;
beforeAll(async () => {
  encoder = await createEncoder();
});
afterAll(() => encoder.dispose());

/** Descending singular values, the slow plain way. */
function singularValues(rows: Float32Array, numTokens: number, width: number): number[] {
  return new SingularValueDecomposition(Matrix.from1DArray(numTokens, width, rows), { autoTranspose: true }).diagonal;
}

/** Share of the energy that no factorisation of this rank can keep. */
function leastLost(rows: Float32Array, numTokens: number, width: number, rank: number): number {
  const energies = singularValues(rows, numTokens, width).map((value) => value ** 2);
  const sum = (list: number[]): number => list.reduce((total, value) => total + value, 0);
  return sum(energies.slice(rank)) / sum(energies);
}

function expectWellFormed(factors: Factors, numTokens: number, width: number): void {
  expect(factors.codes.length).toBe(numTokens * factors.rank);
  expect(factors.basis.length).toBe(factors.rank * width);
  expect(factors.singularValues.length).toBe(factors.rank);
  expect(orthonormalityOf(factors.basis, factors.rank, width)).toBeLessThan(1e-5);
  expect([...factors.singularValues]).toEqual([...factors.singularValues].sort((a, b) => b - a));
  expect(factors.codes.every(Number.isFinite)).toBe(true);
}

const SHAPES: [numTokens: number, width: number, rank: number][] = [
  [64, 512, 8],
  [64, 512, 22],
  [40, 24, 5],
  [24, 40, 24],
  [140, 130, 20],
  [140, 130, 80],
  [1, 48, 1],
  [48, 1, 1],
];

describe('the exact factorisation', () => {
  it.each(SHAPES)('of [%i, %i] at rank %i leaves out exactly what the best one must', async (numTokens, width, rank) => {
    const rows = spectrumMatrix(numTokens, width, (i) => 1 / (1 + i), 7);
    const factors = await encoder.factor(rows, numTokens, width, rank);
    expectWellFormed(factors, numTokens, width);
    expect(factors.lostEnergy).toBeCloseTo(leastLost(rows, numTokens, width, rank), 9);
    expect(errorOf(rows, factors, numTokens, width) ** 2).toBeCloseTo(factors.lostEnergy, 7);
    const best = singularValues(rows, numTokens, width);
    for (const [i, value] of factors.singularValues.entries()) expect(value / (best[i] as number)).toBeCloseTo(1, 5);
  });

  it.each([
    [64, 512],
    [96, 80],
    [7, 7],
    [200, 30],
  ])('gives [%i, %i] back to rounding at full rank', async (numTokens, width) => {
    for (const decay of [1, 0.5]) {
      const rows = spectrumMatrix(numTokens, width, (i) => decay ** i, 11);
      const factors = await encoder.factor(rows, numTokens, width, Math.min(numTokens, width));
      expectWellFormed(factors, numTokens, width);
      expect(errorOf(rows, factors, numTokens, width)).toBeLessThan(1e-6);
    }
  });
});

describe('the randomised factorisation', () => {
  it.each([
    ['a slow decay', (i: number) => 1 / (1 + i) ** 0.5],
    ['a steep decay', (i: number) => 0.8 ** i],
    ['a plateau and a floor', (i: number) => (i < 12 ? 1 : 0.05)],
  ])('is within one per cent of the least error on %s', async (_, spectrum) => {
    const [numTokens, width, rank] = [530, 520, 16];
    const numDirections = 60; // few enough that the least error is known from the spectrum itself
    const rows = spectrumMatrix(numTokens, width, spectrum, 5, numDirections);
    const energies = Array.from({ length: numDirections }, (_, i) => spectrum(i) ** 2);
    const least = energies.slice(rank).reduce((sum, value) => sum + value, 0) / energies.reduce((sum, value) => sum + value, 0);
    const factors = await encoder.factor(rows, numTokens, width, rank);
    expectWellFormed(factors, numTokens, width);
    expect(Math.sqrt(factors.lostEnergy / least)).toBeLessThan(1.01);
    expect(errorOf(rows, factors, numTokens, width) ** 2).toBeCloseTo(factors.lostEnergy, 6);
  });

  it('is right for matrices of lower rank than asked for', async () => {
    const rows = spectrumMatrix(520, 514, () => 1, 9, 3);
    const factors = await encoder.factor(rows, 520, 514, 16);
    expectWellFormed(factors, 520, 514);
    expect(factors.lostEnergy).toBeLessThan(1e-6);
    expect(factors.singularValues[3] as number).toBeLessThan(1e-4);
  });

  it.each([1e-20, 1e10])('does not mind rows of magnitude %d', async (magnitude) => {
    const plain = spectrumMatrix(520, 514, (i) => 0.7 ** i, 9, 40);
    const rows = plain.map((value) => value * magnitude);
    const [expected, factors] = [await encoder.factor(plain, 520, 514, 8), await encoder.factor(rows, 520, 514, 8)];
    expect(factors.lostEnergy).toBeCloseTo(expected.lostEnergy, 6);
    expect((factors.singularValues[0] as number) / magnitude).toBeCloseTo(expected.singularValues[0] as number, 4);
  });
});

describe('any matrix', () => {
  const matrix = fc.record({
    numTokens: fc.integer({ min: 1, max: 20 }),
    width: fc.integer({ min: 1, max: 20 }),
    rank: fc.integer({ min: 1, max: 24 }),
    numDirections: fc.integer({ min: 0, max: 20 }),
    magnitude: fc.constantFrom(1e-20, 1e-6, 1, 1e10),
    seed: fc.nat(),
  });

  it('has an orthonormal basis and an error that is what lostEnergy says and falls as rank grows', async () => {
    await fc.assert(
      fc.asyncProperty(matrix, async ({ numTokens, width, rank, numDirections, magnitude, seed }) => {
        const rows = spectrumMatrix(numTokens, width, (i) => magnitude / (1 + i), seed, numDirections);
        const factors = await encoder.factor(rows, numTokens, width, rank);
        expect(factors.rank).toBe(Math.min(rank, numTokens, width));
        expectWellFormed(factors, numTokens, width);
        expect(Math.abs(errorOf(rows, factors, numTokens, width) ** 2 - factors.lostEnergy)).toBeLessThan(1e-6);
        const fewer = await encoder.factor(rows, numTokens, width, rank - 1);
        expect(fewer.lostEnergy).toBeGreaterThanOrEqual(factors.lostEnergy - 1e-12);
      }),
      { numRuns: 60, seed: 1 },
    );
  });

  it('of zeros has codes of zeros and an orthonormal basis all the same', async () => {
    for (const [numTokens, width] of [
      [6, 9],
      [9, 6],
      [600, 520],
    ] as const) {
      const factors = await encoder.factor(new Float32Array(numTokens * width), numTokens, width, 5);
      expectWellFormed(factors, numTokens, width);
      expect(factors.codes.every((code) => code === 0)).toBe(true);
      expect(factors.lostEnergy).toBe(0);
    }
  });

  it('with equal tokens is one direction and the rest nothing', async () => {
    const token = gaussian(48, 4);
    const rows = Float32Array.from({ length: 30 * 48 }, (_, i) => token[i % 48] as number);
    const factors = await encoder.factor(rows, 30, 48, 6);
    expectWellFormed(factors, 30, 48);
    expect(factors.singularValues[0]).toBeCloseTo(Math.sqrt(energyOf(rows)), 3);
    expect(factors.singularValues[1] as number).toBeLessThan(1e-5);
    expect(errorOf(rows, factors, 30, 48)).toBeLessThan(1e-6);
  });

  it('keeps nothing at rank 0 and says that all was lost', async () => {
    const factors = await encoder.factor(gaussian(12, 1), 3, 4, 0);
    expect(factors).toMatchObject({ rank: 0, lostEnergy: 1 });
    expect(factors.codes.length + factors.basis.length).toBe(0);
  });

  it('with NaN or infinity is refused, naming the token and column', async () => {
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
      const rows = gaussian(6 * 8, 2);
      rows[3 * 8 + 5] = bad;
      const failed = encoder.factor(rows, 6, 8, 2);
      await expect(failed).rejects.toThrow(AttentionPackError);
      await expect(failed).rejects.toThrow('token 3, column 5');
    }
  });
});

it('gives the same bits for the same rows and seed, and a definite sign', async () => {
  for (const [numTokens, width] of [
    [64, 100],
    [130, 120],
    [530, 514],
  ] as const) {
    const rows = spectrumMatrix(numTokens, width, (i) => 0.9 ** i, 13, 50);
    const [first, second] = [await encoder.factor(rows, numTokens, width, 6, 42), await encoder.factor(rows, numTokens, width, 6, 42)];
    expect(second).toEqual(first);
    for (let row = 0; row < 6; row++) {
      const entries = [...first.basis.subarray(row * width, (row + 1) * width)];
      expect(Math.max(...entries)).toBeGreaterThan(-Math.min(...entries) * (1 - 1e-5));
    }
  }
});

it('serves several factorisations at once', async () => {
  const spans = [1, 2, 3, 4, 5].map((seed) => gaussian(20 * 30, seed));
  const together = await Promise.all(spans.map((rows) => encoder.factor(rows, 20, 30, 4)));
  for (const [i, rows] of spans.entries()) expect(together[i]).toEqual(await encoder.factor(rows, 20, 30, 4));
});
