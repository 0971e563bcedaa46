/** Heads combined against each alone, the byte formula between them, and the means over images. */
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { float64Products, type Products } from '../../src/encode/products.ts';
import { dealtByEnergy, dealtInTurn, headColumnsFor, headRows, numbersHeld } from '../../src/spectrum/heads.ts';
import { meanOf, spread } from '../../src/spectrum/measure.ts';
import { ranksUpTo, type Spectrum, spectrumOf } from '../../src/spectrum/spectrum.ts';
import { energyOf, gaussian, spectrumMatrix } from '../encode/matrices.ts';
import { plainEnergies } from './plain-energies.ts';

let products: Products<Float64Array>;
beforeAll(async () => {
  products = await float64Products();
});
afterAll(() => products.dispose());

/** Share of energy lost if each head alone keeps its best `rank` columns, the slow plain way. */
function plainHeadsLost(rows: Float32Array, numTokens: number, width: number, headDim: number, rank: number): number {
  let lost = 0;
  for (let h = 0; h < width / headDim; h++) {
    const energies = plainEnergies(headRows(rows, numTokens, width, headDim, h), numTokens, headDim);
    lost += energies.slice(rank).reduce((total, value) => total + value, 0);
  }
  return lost / energyOf(rows);
}

const shapes = fc.record({
  numTokens: fc.integer({ min: 1, max: 24 }),
  heads: fc.integer({ min: 1, max: 4 }),
  headDim: fc.integer({ min: 1, max: 8 }),
  seed: fc.nat({ max: 2 ** 30 }),
});

describe('the spectrum of a matrix', () => {
  it('tells at each rank what the plain SVD loses, combined and for each head alone at no more bytes', async () => {
    await fc.assert(
      fc.asyncProperty(shapes, async ({ numTokens, heads, headDim, seed }) => {
        const width = heads * headDim;
        const rows = gaussian(numTokens * width, seed);
        const { curve, needed } = await spectrumOf(rows, numTokens, width, headDim, products);
        const best = plainEnergies(rows, numTokens, width);
        const lostAt = (rank: number): number => best.slice(rank).reduce((total, value) => total + value, 0) / energyOf(rows);
        for (const at of curve) {
          expect(at.combined).toBeCloseTo(lostAt(at.rank), 9);
          expect(at.held).toBeCloseTo((at.rank * (numTokens + width)) / (numTokens * width), 12);
          expect(at.headsBest).toBeLessThanOrEqual(at.heads + 1e-12);
          const columns = headColumnsFor(at.rank, numTokens, width, headDim);
          // So many columns of single heads are an approximation of at most that rank: the best one of that rank loses no more.
          expect(lostAt(columns)).toBeLessThanOrEqual(at.headsBest + 1e-9);
          if (columns % heads === 0) expect(at.heads).toBeCloseTo(plainHeadsLost(rows, numTokens, width, headDim, columns / heads), 9);
          // A mean token and `rank` columns are an approximation of rank + 1.
          expect(at.centred).toBeLessThanOrEqual(at.combined + 1e-9);
          expect(lostAt(at.rank + 1)).toBeLessThanOrEqual(at.centred + 1e-9);
        }
        for (const { lost, rank, held } of needed) {
          expect(lostAt(rank)).toBeLessThanOrEqual(lost + 1e-9);
          expect(lostAt(rank - 1)).toBeGreaterThan(lost - 1e-9);
          expect(held).toBeCloseTo(numbersHeld(rank, numTokens, width) / (numTokens * width), 12);
        }
      }),
      { numRuns: 60, seed: 5 },
    );
  });

  it('of heads that say the same is that of one of them; alone each has to say it again', async () => {
    const [numTokens, headDim, heads] = [40, 8, 4];
    const one = spectrumMatrix(numTokens, headDim, (i) => 0.5 ** i, 11);
    const rows = Float32Array.from({ length: numTokens * headDim * heads }, (_, i) => {
      const [t, k] = [Math.floor(i / (headDim * heads)), i % headDim];
      return one[t * headDim + k] as number;
    });
    const [all, single] = [
      await spectrumOf(rows, numTokens, headDim * heads, headDim, products),
      await spectrumOf(one, numTokens, headDim, headDim, products),
    ];
    expect(all.needed.map(({ rank }) => rank)).toEqual(single.needed.map(({ rank }) => rank));
    expect(all.effectiveRank).toBeCloseTo(single.effectiveRank, 6);
    for (const { held, headsHeld, rank } of all.needed) {
      expect(held).toBeLessThan(headsHeld);
      // The last turn need not reach every head.
      const [turnBefore, turn] = [rank - 1, rank].map((r) => numbersHeld(heads * r, numTokens, headDim) / (numTokens * headDim * heads));
      expect(headsHeld).toBeGreaterThan(turnBefore as number);
      expect(headsHeld).toBeLessThanOrEqual(turn as number);
    }
  });

  it('of heads that have nothing in common is better taken head by head', async () => {
    // Head h speaks in tokens 8·h to 8·h + 7 only.
    const [numTokens, headDim, heads] = [32, 8, 4];
    const rows = gaussian(numTokens * headDim * heads, 3).map((value, i) => {
      const [t, h] = [Math.floor(i / (headDim * heads)), Math.floor((i % (headDim * heads)) / headDim)];
      return Math.floor(t / 8) === h ? value : 0;
    });
    const { needed } = await spectrumOf(rows, numTokens, headDim * heads, headDim, products);
    for (const { held, headsBestHeld } of needed) expect(headsBestHeld).toBeLessThan(held);
  });
});

describe('columns of single heads', () => {
  it('take at most the bytes of the combined rank, and one more would not fit', () => {
    fc.assert(
      fc.property(fc.nat({ max: 64 }), shapes, (rank, { numTokens, heads, headDim }) => {
        const width = heads * headDim;
        const columns = headColumnsFor(rank, numTokens, width, headDim);
        const bytes = numbersHeld(rank, numTokens, width);
        expect(numbersHeld(columns, numTokens, headDim)).toBeLessThanOrEqual(bytes);
        expect(numbersHeld(columns + 1, numTokens, headDim)).toBeGreaterThan(bytes);
      }),
      { seed: 6 },
    );
  });

  it('are dealt head by head, or to whoever has the most energy left', () => {
    const heads = [Float64Array.of(9, 8, 1), Float64Array.of(5, 4), Float64Array.of(7)];
    expect([...dealtInTurn(heads)]).toEqual([9, 7, 5, 8, 4, 1]);
    expect([...dealtByEnergy(heads)]).toEqual([9, 8, 7, 5, 4, 1]);
    expect([...dealtInTurn([])]).toEqual([]);
  });
});

describe('the mean over images', () => {
  const alone = (tokens: number, seed: number): Promise<Spectrum> => spectrumOf(gaussian(tokens * 12, seed), tokens, 12, 4, products);

  it('of one is itself', async () => {
    const { singularValues, ...rest } = await alone(9, 1);
    expect(meanOf([await alone(9, 1)])).toEqual({ ...rest, matrices: 1, singularValues: [singularValues] });
  });

  it('goes up to the full rank of the largest, where small ones have nothing more to lose', async () => {
    const parts = [await alone(5, 1), await alone(30, 2), await alone(7, 3)];
    for (const order of [parts, [...parts].reverse()]) {
      const mean = meanOf(order);
      expect(mean.curve.map(({ rank }) => rank)).toEqual(ranksUpTo(12));
      expect(mean.tokens).toBe(14);
      const at = (rank: number): number => mean.curve.find((point) => point.rank === rank)?.combined ?? Number.NaN;
      const of = (part: Spectrum | undefined, rank: number): number => part?.curve.find((point) => point.rank === rank)?.combined ?? 0;
      expect(at(4)).toBeCloseTo((of(parts[0], 4) + of(parts[1], 4) + of(parts[2], 4)) / 3, 12);
      expect(at(8)).toBeCloseTo(of(parts[1], 8) / 3, 12);
      expect(at(12)).toBe(0);
      for (const [i, { rank }] of mean.needed.entries()) {
        expect(rank).toBeCloseTo(parts.reduce((total, part) => total + (part.needed[i]?.rank ?? 0), 0) / 3, 12);
      }
    }
  });
});

describe('small things', () => {
  it('ranks are 1, 2, 3, 4, 6, 8, ... and the last one', () => {
    expect(ranksUpTo(1)).toEqual([1]);
    expect(ranksUpTo(7)).toEqual([1, 2, 3, 4, 6, 7]);
    expect(ranksUpTo(16)).toEqual([1, 2, 3, 4, 6, 8, 12, 16]);
    expect(ranksUpTo(0)).toEqual([]);
  });

  it('a sample is spread evenly, in order, each token once', () => {
    expect(spread([5, 6, 7, 8, 9, 10], 3)).toEqual([5, 7, 9]);
    expect(spread([5, 6], 3)).toEqual([5, 6]);
    fc.assert(
      fc.property(fc.nat({ max: 200 }), fc.nat({ max: 200 }), (length, count) => {
        const tokens = Array.from({ length }, (_, i) => i);
        const sample = spread(tokens, count);
        expect(sample.length).toBe(Math.min(length, count));
        expect(new Set(sample).size).toBe(sample.length);
        expect(sample).toEqual([...sample].sort((a, b) => a - b));
      }),
      { seed: 7 },
    );
  });
});
