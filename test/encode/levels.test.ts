/** Columns of few levels: what they miss, against plain rounding and against the error known for a normal distribution. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { quantiseColumn } from '../../src/encode/levels.ts';
import { quantiseSymmetric } from '../../src/encode/quantise.ts';
import { BITS, type Bits, bitsOf, bytesOf, columnsOf, fieldsOf, LEVELS, packLevels, type Widths } from '../../src/encode/widths.ts';
import { gaussian } from './matrices.ts';

/** Levels from the least to the largest number, evenly spaced. */
function plainError(numbers: Float32Array, bits: Bits): number {
  const [least, most] = [Math.min(...numbers), Math.max(...numbers)];
  const step = (most - least) / (LEVELS[bits] - 1);
  return numbers.reduce((sum, x) => sum + (step > 0 ? (x - least - step * Math.round((x - least) / step)) ** 2 : 0), 0);
}

const energy = (numbers: Float32Array): number => numbers.reduce((sum, x) => sum + x * x, 0);

const columns = fc.record({
  length: fc.integer({ min: 1, max: 90 }),
  magnitude: fc.constantFrom(1e-20, 1e-3, 1, 1e10),
  offset: fc.constantFrom(0, 0, 5, -300),
  outlier: fc.constantFrom(1, 1, 50),
  seed: fc.nat(1e6),
});

const drawn = ({ length, magnitude, offset, outlier, seed }: typeof columns extends fc.Arbitrary<infer T> ? T : never): Float32Array =>
  gaussian(length, seed).map((x, i) => magnitude * (x * (i === 0 ? outlier : 1) + offset));

describe('a column of levels', () => {
  test('reads as its error says, and never misses more than even levels from end to end do', () => {
    fc.assert(
      fc.property(columns, fc.constantFrom(...BITS), (column, bits) => {
        const numbers = drawn(column);
        const { levels, step, zero, error } = quantiseColumn(numbers, bits);
        expect(levels.every((level) => level < LEVELS[bits])).toBe(true);
        const found = numbers.reduce((sum, x, i) => sum + (x - ((levels[i] as number) - zero) * step) ** 2, 0);
        expect(found).toBeLessThanOrEqual(error * (1 + 1e-6) + 1e-12 * energy(numbers));
        expect(error).toBeLessThanOrEqual(plainError(numbers, bits) * (1 + 1e-6) + 1e-12 * energy(numbers));
      }),
      { seed: 5, numRuns: 300 },
    );
  });

  test('of a normal distribution misses what the best even levels are known to miss', () => {
    // Max 1960, table II: 0.1188 of the variance at 4 levels, 0.01154 at 16; at 256 about 1.04e-4, which takes cutting off the tails.
    const numbers = gaussian(4000, 8);
    const share = (bits: Bits): number => quantiseColumn(numbers, bits).error / energy(numbers);
    expect(share(2)).toBeLessThan(0.1188 * 1.05);
    expect(share(2)).toBeGreaterThan(0.1188 * 0.9);
    expect(share(4)).toBeLessThan(0.01154 * 1.05);
    expect(share(4)).toBeGreaterThan(0.01154 * 0.9);
    expect(share(8)).toBeLessThan(1.04e-4 * 1.5);
  });

  test('of one number is that number, and of zeros nothing', () => {
    for (const value of [0, 3, -7e-9]) {
      const { levels, step, zero, error } = quantiseColumn(new Float32Array(5).fill(value), 2);
      expect([...levels].map((level) => (level - zero) * step)).toEqual(new Array(5).fill(Math.fround(value)));
      expect(error).toBe(0);
    }
    expect(quantiseColumn(new Float32Array(0), 4).levels.length).toBe(0);
  });

  test('around zero, in int8, is off by half a step at most', () => {
    fc.assert(
      fc.property(columns, (column) => {
        const numbers = drawn(column);
        const { numbers: levels, step, error } = quantiseSymmetric(numbers);
        const off = Array.from(numbers, (x, i) => x - step * (levels[i] as number));
        expect(Math.max(...off.map(Math.abs))).toBeLessThanOrEqual((step / 2) * (1 + 1e-6));
        expect(error).toBeCloseTo(
          off.reduce((sum, x) => sum + x * x, 0),
          10 - Math.ceil(Math.log10(Math.max(1, energy(numbers)))),
        );
      }),
      { seed: 6 },
    );
  });
});

const widths: fc.Arbitrary<Widths> = fc
  .tuple(fc.nat(5), fc.nat(4), fc.nat(3))
  .map(([n8, pairs, quads]): Widths => [n8, 2 * pairs, 4 * quads])
  .filter((of) => columnsOf(of) > 0);

test('every column can be read out of its bytes again', () => {
  fc.assert(
    fc.property(widths, fc.nat(1e6), (of, seed) => {
      const random = gaussian(columnsOf(of) * 3, seed);
      const bits = bitsOf(of);
      const levels = bits.map((b, c) =>
        Uint8Array.from({ length: 3 }, (_, i) => Math.abs(Math.floor(1e4 * (random[c * 3 + i] as number))) % LEVELS[b]),
      );
      const bytes = packLevels(levels, of, 3);
      expect(bytes.length).toBe(bytesOf(of));
      expect(8 * bytes.length).toBe(bits.reduce((sum, b) => sum + b, 0));
      fieldsOf(of).forEach(({ byte, shift, factor }, c) => {
        const mask = LEVELS[bits[c] as Bits] - 1;
        const read = Array.from(bytes[byte] as Uint8Array, (value) => (value >> shift) & mask);
        expect(read).toEqual([...(levels[c] as Uint8Array)]);
        expect(factor).toBe(shift ? 1 : 2 ** (8 - (bits[c] as Bits)));
      });
    }),
    { seed: 7 },
  );
});
