import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { dequantiseRows, quantiseRows } from '../src/convert/quantise.ts';
import { RandomWeights } from '../src/convert/random.ts';
import { ropeTables } from '../src/convert/rope.ts';

const bits = fc.constantFrom(4 as const, 8 as const);
const blockSize = fc.constantFrom(16, 32);
const scale = fc.constantFrom(1e-6, 1, 1e4);

describe('quantiseRows', () => {
  it('leaves no weight further off than half its block scale', () => {
    const numColumns = fc.integer({ min: 1, max: 70 });
    const weights = fc.array(fc.float({ min: -1, max: 1, noNaN: true }), { minLength: 1, maxLength: 300 });
    fc.assert(
      fc.property(weights, numColumns, bits, blockSize, scale, (list, columns, bits, blockSize, scale) => {
        const rows = Math.max(1, Math.floor(list.length / columns));
        const values = Float32Array.from({ length: rows * columns }, (_, i) => (list[i % list.length] as number) * scale);
        const options = { bits, blockSize };
        const quantised = quantiseRows(values, columns, options);
        const back = dequantiseRows(quantised, columns, options);
        const blocks = Math.ceil(columns / blockSize);
        for (let i = 0; i < values.length; i++) {
          const step = quantised.scales[Math.floor(i / columns) * blocks + Math.floor((i % columns) / blockSize)] as number;
          const error = Math.abs((back[i] as number) - (values[i] as number));
          // a scale is rounded to float32, and so is a code times a scale; denormals have no bits to round to
          expect(error).toBeLessThanOrEqual(step / 2 + 1e-5 * step + 1e-37);
        }
      }),
      { numRuns: 150, seed: 4 },
    );
  });

  it('keeps zeros exactly and pads the last block with zeros', () => {
    for (const bits of [4, 8] as const) {
      const options = { bits, blockSize: 32 };
      const values = Float32Array.from({ length: 2 * 40 }, (_, i) => (i % 3 === 0 ? 0 : i / 7 - 2));
      const quantised = quantiseRows(values, 40, options);
      const padded = dequantiseRows(quantised, 64, options);
      for (let row = 0; row < 2; row++)
        expect([...padded.subarray(row * 64 + 40, (row + 1) * 64)].every((value) => value === 0)).toBe(true);
      const back = dequantiseRows(quantised, 40, options);
      for (let i = 0; i < back.length; i += 3) expect(back[i]).toBe(0);
    }
  });

  it('lays 4-bit codes and zero points low nibble first', () => {
    const values = Float32Array.from({ length: 32 }, (_, i) => i % 16); // scale 1, zero point 0
    const { codes, scales, zeroPoints } = quantiseRows(values, 32, { bits: 4, blockSize: 32 });
    expect([...codes.subarray(0, 8)]).toEqual([0x10, 0x32, 0x54, 0x76, 0x98, 0xba, 0xdc, 0xfe]);
    expect([...scales]).toEqual([1]);
    expect([...(zeroPoints ?? [])]).toEqual([0]);
  });

  it('makes less error with more bits', () => {
    const values = new RandomWeights(5, false);
    values.expect('w', [8, 64]);
    const matrix = values.rows('w', 0, 8);
    const error = (bits: 4 | 8): number => {
      const options = { bits, blockSize: 32 };
      const back = dequantiseRows(quantiseRows(matrix, 64, options), 64, options);
      return Math.hypot(...back.map((value, i) => value - (matrix[i] as number)));
    };
    expect(error(8)).toBeLessThan(error(4) / 10);
  });
});

describe('RandomWeights', () => {
  it('gives the same rows whatever was read before, others for another seed or name', () => {
    const source = (seed: number): RandomWeights => {
      const weights = new RandomWeights(seed, false);
      for (const name of ['a.weight', 'b.weight']) weights.expect(name, [4, 32]);
      return weights;
    };
    const first = source(1);
    const rows = first.rows('a.weight', 0, 4);
    first.rows('b.weight', 0, 4);
    expect(first.rows('a.weight', 0, 4)).toEqual(rows);
    expect(source(1).rows('a.weight', 0, 4)).toEqual(rows);
    expect(source(2).rows('a.weight', 0, 4)).not.toEqual(rows);
    expect(first.rows('b.weight', 0, 4)).not.toEqual(rows);
  });

  it('has the deviation 1/sqrt(columns), quantised or not', () => {
    const weights = new RandomWeights(1, false);
    weights.expect('w.weight', [64, 256]);
    const deviation = (values: Float32Array): number => Math.hypot(...values) / Math.sqrt(values.length);
    const options = { bits: 4, blockSize: 32 } as const;
    expect(deviation(weights.rows('w.weight', 0, 64))).toBeCloseTo(1 / 16, 3);
    expect(deviation(dequantiseRows(weights.quantisedRows('w.weight', 0, 64, options), 256, options))).toBeCloseTo(1 / 16, 2);
  });
});

describe('ropeTables', () => {
  it('turns the first pair by one radian a position and the last by theta^(2/D - 1)', () => {
    const { cos, sin } = ropeTables({ type: 'default', theta: 10000 }, 3, 8);
    expect(cos[4]).toBeCloseTo(Math.cos(1), 6);
    expect(sin[2 * 4]).toBeCloseTo(Math.sin(2), 6);
    expect(sin[2 * 4 + 3]).toBeCloseTo(Math.sin(2 * 10000 ** (-6 / 8)), 6);
  });
});
