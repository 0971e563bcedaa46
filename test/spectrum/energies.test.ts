/** The energy spectrum against ml-matrix's SVD, and what must hold of it whatever the matrix. */
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { float64Products, type Products } from '../../src/encode/products.ts';
import { centred, columnsFor, effectiveRank, energiesOf, lostByColumns, sum } from '../../src/spectrum/energies.ts';
import { energyOf, gaussian, spectrumMatrix } from '../encode/matrices.ts';
import { plainEnergies } from './plain-energies.ts';

let products: Products<Float64Array>;
beforeAll(async () => {
  products = await float64Products();
});
afterAll(() => products.dispose());

/** rows · (I - 2·u·uᵀ) for a random unit vector u: a reflection of the columns, which changes no length and no angle. */
function reflected(rows: Float32Array, width: number, seed: number): Float64Array {
  const u = new Float64Array(gaussian(width, seed));
  const norm2 = u.reduce((total, value) => total + value * value, 0);
  const out = new Float64Array(rows);
  for (let at = 0; at < rows.length; at += width) {
    let dot = 0;
    for (let k = 0; k < width; k++) dot += (u[k] as number) * (rows[at + k] as number);
    for (let k = 0; k < width; k++) out[at + k] = (out[at + k] as number) - ((2 * dot) / norm2) * (u[k] as number);
  }
  return out;
}

function expectEqual(own: Float64Array, other: ArrayLike<number>): void {
  expect(own.length).toBe(other.length);
  const largest = Math.max(own[0] ?? 0, Number.MIN_VALUE);
  // Eigenvalues are right to a rounding of the largest, times a small count for the sums behind them.
  for (const [i, energy] of own.entries()) expect(Math.abs(energy - (other[i] as number)) / largest).toBeLessThan(1e-12);
}

const shape = { numTokens: fc.integer({ min: 1, max: 30 }), width: fc.integer({ min: 1, max: 30 }), seed: fc.nat({ max: 2 ** 30 }) };

describe('the energies of a matrix', () => {
  it('are the squares of its singular values, falling, and sum to its squared Frobenius norm', async () => {
    await fc.assert(
      fc.asyncProperty(fc.record(shape), async ({ numTokens, width, seed }) => {
        const rows = gaussian(numTokens * width, seed);
        const energies = await energiesOf(rows, numTokens, width, products);
        expectEqual(energies, plainEnergies(rows, numTokens, width));
        expect([...energies]).toEqual([...energies].sort((a, b) => b - a));
        expect(sum(energies) / energyOf(rows)).toBeCloseTo(1, 12);
      }),
      { numRuns: 80, seed: 1 },
    );
  });

  it('do not change when the columns are turned or the tokens stand in another order', async () => {
    await fc.assert(
      fc.asyncProperty(fc.record(shape), async ({ numTokens, width, seed }) => {
        const rows = gaussian(numTokens * width, seed);
        const energies = await energiesOf(rows, numTokens, width, products);
        expectEqual(await energiesOf(reflected(rows, width, seed + 1), numTokens, width, products), energies);
        const backwards = Float32Array.from(rows, (_, i) => rows[(numTokens - 1 - Math.floor(i / width)) * width + (i % width)] as number);
        expectEqual(await energiesOf(backwards, numTokens, width, products), energies);
      }),
      { numRuns: 40, seed: 2 },
    );
  });

  it.each([
    [64, 200],
    [200, 64],
  ])('of a known spectrum, [%i, %i], are found', async (numTokens, width) => {
    const energies = await energiesOf(
      spectrumMatrix(numTokens, width, (i) => 0.7 ** i, 3, 12),
      numTokens,
      width,
      products,
    );
    for (let i = 0; i < 12; i++) expect(energies[i]).toBeCloseTo(0.49 ** i, 6);
    // Of the other directions float32 rounding is left: 6e-8 of the largest entry, squared.
    expect(sum(energies.subarray(12))).toBeLessThan(1e-12);
  });

  it('of nothing and of zeros are nothing', async () => {
    expect(await energiesOf(new Float32Array(0), 0, 8, products)).toEqual(new Float64Array(0));
    expect(await energiesOf(new Float32Array(24), 3, 8, products)).toEqual(new Float64Array(3));
    expect([...lostByColumns(new Float64Array(3))]).toEqual([0, 0, 0, 0]);
    expect(effectiveRank(new Float64Array(3))).toBe(0);
    expect(centred(new Float32Array(24), 3, 8).meanShare).toBe(0);
  });
});

const energyList = fc.array(fc.double({ min: 1e-9, max: 1e9, noNaN: true }), { minLength: 1, maxLength: 40 });
const falling = (values: readonly number[]): Float64Array => Float64Array.from(values).sort((a, b) => b - a);

describe('lost energy', () => {
  it('falls from all to nothing as columns are added, and columnsFor finds the fewest', () => {
    fc.assert(
      fc.property(energyList, fc.double({ min: 0, max: 1, noNaN: true }), (values, share) => {
        const lost = lostByColumns(falling(values));
        expect(lost[0]).toBeCloseTo(1, 12);
        expect(lost.at(-1)).toBe(0);
        for (let c = 1; c < lost.length; c++) expect(lost[c]).toBeLessThanOrEqual(lost[c - 1] as number);
        const columns = columnsFor(lost, share);
        expect(lost[columns]).toBeLessThanOrEqual(share);
        if (columns > 0) expect(lost[columns - 1]).toBeGreaterThan(share);
      }),
      { seed: 3 },
    );
  });

  it('keeps small shares behind large energies', () => {
    expect(lostByColumns(Float64Array.of(1e18, 1, 1))[1]).toBeCloseTo(2e-18, 24);
  });
});

describe('effective rank', () => {
  it('counts equal directions, and lies between one and their number', () => {
    expect(effectiveRank(new Float64Array(17).fill(3))).toBeCloseTo(17, 9);
    expect(effectiveRank(Float64Array.of(5, 0, 0))).toBeCloseTo(1, 12);
    fc.assert(
      fc.property(energyList, (values) => {
        const rank = effectiveRank(falling(values));
        expect(rank).toBeGreaterThan(1 - 1e-9);
        expect(rank).toBeLessThan(values.length + 1e-9);
        expect(effectiveRank(falling(values.map((value) => 7 * value)))).toBeCloseTo(rank, 9);
      }),
      { seed: 4 },
    );
  });
});

describe('the mean token', () => {
  it('is all there is where tokens are equal, and energy splits into it and the rest', async () => {
    const same = Float32Array.from({ length: 40 }, (_, i) => (i % 8) - 3.25);
    const equal = centred(same, 5, 8);
    expect(equal.meanShare).toBeCloseTo(1, 12);
    expect(Math.max(...equal.rows.map(Math.abs))).toBeLessThan(1e-12);
    const rows = gaussian(20 * 8, 5).map((value) => value + 0.5);
    const { rows: rest, meanShare } = centred(rows, 20, 8);
    expect(sum(await energiesOf(rest, 20, 8, products)) / energyOf(rows)).toBeCloseTo(1 - meanShare, 12);
    for (let k = 0; k < 8; k++) expect(rest.reduce((total, value, i) => total + (i % 8 === k ? value : 0), 0)).toBeCloseTo(0, 10);
  });
});
