/** Growing bases against their promises: nothing held ever changes, nothing is added in vain, and no image fares worse than alone. */
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createEncoder, type Encoder, fromFloat16, toFloat16 } from '../../src/encode/index.ts';
import { type Metric, metricOf } from '../../src/encode/weighted.ts';
import { energyOf, errorOf, gaussian, orthonormalityOf, spectrumMatrix } from './matrices.ts';

let encoder: Encoder;
beforeAll(async () => {
  encoder = await createEncoder();
});
afterAll(() => encoder.dispose());

const NONE = new Float32Array(0);

/** Rows in a subspace of `width` of `numDirections` dimensions, the same for the same seed, with some noise. */
function image(numTokens: number, width: number, numDirections: number, subspace: number, seed: number, noise = 0): Float32Array {
  const directions = spectrumMatrix(numDirections, width, () => 1, subspace);
  const mix = gaussian(numTokens * numDirections, seed);
  const dust = gaussian(numTokens * width, seed + 1);
  return Float32Array.from({ length: numTokens * width }, (_, i) => {
    const [t, k] = [Math.floor(i / width), i % width];
    let sum = noise * (dust[i] as number);
    for (let d = 0; d < numDirections; d++) sum += (mix[t * numDirections + d] as number) * (directions[d * width + k] as number);
    return sum;
  });
}

function metric(width: number, headDim: number): Metric {
  const moments = new Float32Array(width * headDim);
  for (let h = 0; h < width / headDim; h++)
    for (let i = 0; i < headDim; i++) moments[(h * headDim + i) * headDim + i] = 1 + ((3 * i + h) % headDim);
  return metricOf(moments, width / headDim, headDim);
}

describe('a basis that grows', () => {
  it('never fills up with rounding, however many small blocks come and however little may be lost', async () => {
    // 48 of 64 dimensions, as keys of a model have whose hidden size is smaller than their width. Once a direction of noise was kept, later blocks lost several times their energy.
    const [numTokens, width, numDirections] = [5, 64, 48];
    for (const seed of [1, 2, 3]) {
      let held: Float32Array = NONE;
      for (let block = 0; block < 30; block++) {
        const rows = image(block % 4 ? numTokens : 13, width, numDirections, seed, 100 * seed + block);
        const size = rows.length / width;
        const factors = await encoder.extend(rows, size, width, held, { rank: width, tolerance: 0 });
        expect(factors.lostEnergy).toBeLessThan(1e-11);
        expect(errorOf(rows, factors, size, width)).toBeLessThan(1e-5);
        expect(orthonormalityOf(factors.basis, factors.rank, width)).toBeLessThan(2e-5);
        held = factors.basis;
      }
      expect(held.length / width).toBe(numDirections);
    }
  });

  it('needs nothing new for rows of the same directions, and only the others for rows of some more', async () => {
    const [numTokens, width] = [20, 32];
    const growth = { rank: 16, tolerance: 1e-6 };
    const first = await encoder.extend(image(numTokens, width, 4, 1, 5), numTokens, width, NONE, growth);
    expect(first.rank).toBe(4);
    const same = await encoder.extend(image(numTokens, width, 4, 1, 6), numTokens, width, first.basis, growth);
    expect(same.rank).toBe(4);
    const other = image(numTokens, width, 3, 2, 7);
    const mixed = image(numTokens, width, 4, 1, 8).map((value, i) => value + (other[i] as number));
    const more = await encoder.extend(mixed, numTokens, width, first.basis, growth);
    expect(more.rank).toBe(7);
    expect(errorOf(mixed, more, numTokens, width)).toBeLessThan(1e-3);
    expect(orthonormalityOf(more.basis, more.rank, width)).toBeLessThan(1e-5);
  });

  it('stops at its rank, and tells what is lost by that', async () => {
    const [numTokens, width] = [20, 32];
    const full = await encoder.extend(image(numTokens, width, 6, 1, 5), numTokens, width, NONE, { rank: 4, tolerance: 0 });
    expect(full.rank).toBe(4);
    const rows = image(numTokens, width, 6, 2, 9);
    const factors = await encoder.extend(rows, numTokens, width, full.basis, { rank: 4, tolerance: 0 });
    expect(factors.rank).toBe(4);
    expect(factors.lostEnergy).toBeGreaterThan(0.5);
    expect(factors.lostEnergy).toBeCloseTo(errorOf(rows, factors, numTokens, width) ** 2, 6);
  });

  it('reads rows well through directions that were rounded to half precision', async () => {
    const [numTokens, width] = [20, 32];
    const rows = image(numTokens, width, 5, 1, 5);
    const first = await encoder.extend(rows, numTokens, width, NONE, { rank: 5, tolerance: 0 });
    const held = fromFloat16(toFloat16(first.basis));
    const again = await encoder.extend(image(numTokens, width, 5, 1, 6), numTokens, width, held, { rank: 5, tolerance: 0 });
    // Half a step of float16 is 2.4e-4 of a number; a single pass would leave as much again.
    expect(Math.sqrt(again.lostEnergy)).toBeLessThan(3e-4);
    expect(again.basis).toEqual(held);
  });

  it('of zeros, and for zeros, stays as it is', async () => {
    const zeros = await encoder.extend(new Float32Array(6 * 8), 6, 8, NONE, { rank: 4, tolerance: 0 });
    expect(zeros).toMatchObject({ rank: 0, lostEnergy: 0 });
    const first = await encoder.extend(gaussian(6 * 8, 3), 6, 8, NONE, { rank: 3, tolerance: 0 });
    const then = await encoder.extend(new Float32Array(6 * 8), 6, 8, first.basis, { rank: 8, tolerance: 0 });
    expect(then.rank).toBe(3);
    expect(then.codes.every((code) => code === 0)).toBe(true);
  });

  it('keeps what is held bit for bit, adds no more than it must, and serves no image worse than a basis of its own', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.record({
          sizes: fc.array(fc.integer({ min: 1, max: 18 }), { minLength: 1, maxLength: 4 }),
          heads: fc.integer({ min: 1, max: 3 }),
          headDim: fc.integer({ min: 2, max: 8 }),
          rank: fc.integer({ min: 1, max: 12 }),
          tolerance: fc.constantFrom(0.3, 0.05, 0.01),
          isWeighted: fc.boolean(),
          seed: fc.integer({ min: 1, max: 500 }),
        }),
        async ({ sizes, heads, headDim, rank, tolerance, isWeighted, seed }) => {
          const width = heads * headDim;
          const weights = isWeighted ? metric(width, headDim) : undefined;
          let held: Float32Array = NONE;
          for (const [i, numTokens] of sizes.entries()) {
            const rows = spectrumMatrix(numTokens, width, (c) => 0.7 ** c, seed + 3 * i);
            fc.pre(energyOf(rows) > 0);
            const numHeld = held.length / width;
            const growth = { rank: Math.min(width, numHeld + rank), tolerance };
            const grown = await encoder.extend(rows, numTokens, width, held, growth, 1, weights);
            expect(grown.basis.subarray(0, held.length)).toEqual(held);
            expect(grown.rank).toBeLessThanOrEqual(growth.rank);
            const lost = grown.weightedLostEnergy ?? grown.lostEnergy;
            const alone = await encoder.factor(rows, numTokens, width, rank, 1, weights);
            const lostAlone = alone.weightedLostEnergy ?? alone.lostEnergy;
            expect(lost).toBeLessThanOrEqual(Math.max(tolerance, lostAlone) + 1e-6);
            expect(Math.abs(errorOf(rows, grown, numTokens, width) ** 2 - grown.lostEnergy)).toBeLessThan(1e-5);
            if (grown.rank > numHeld) {
              const fewer = await encoder.extend(rows, numTokens, width, held, { rank: grown.rank - 1, tolerance: 0 }, 1, weights);
              expect(fewer.weightedLostEnergy ?? fewer.lostEnergy).toBeGreaterThan(tolerance - 1e-6);
            }
            held = grown.basis;
          }
        },
      ),
      { numRuns: 40 },
    );
  });
});
