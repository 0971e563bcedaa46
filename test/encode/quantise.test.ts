/** int8 codes and half precision against plain arithmetic. */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { columnSteps, fromFloat16, quantiseCodes, toFloat16 } from '../../src/encode/index.ts';
import { gaussian, reconstruct } from './matrices.ts';

const [numTokens, width] = [17, 12];

const factors = fc
  .record({ rank: fc.integer({ min: 1, max: 9 }), magnitude: fc.constantFrom(1e-20, 1e-3, 1, 1e10), seed: fc.nat() })
  .map(({ rank, magnitude, seed }) => ({
    rank,
    codes: gaussian(numTokens * rank, seed).map((code, i) => (magnitude * code) / (1 + (i % rank))),
    basis: gaussian(rank * width, seed + 1),
  }));

it('int8 codes are off by at most half a step of their column', () => {
  fc.assert(
    fc.property(factors, ({ rank, codes, basis }) => {
      const steps = columnSteps(codes, rank);
      const quantised = quantiseCodes(codes, basis, rank);
      // In steps; one assertion over all, since thousands would be slow.
      const worst = codes.reduce((most, code, i) => {
        const step = steps[i % rank] as number;
        return Math.max(most, step > 0 ? Math.abs(code / step - (quantised.codes[i] as number)) : Math.abs(code));
      }, 0);
      expect(worst).toBeLessThanOrEqual(0.5 * (1 + 1e-9));
    }),
    { seed: 1 },
  );
});

it('the folded basis gives what dequantising codes first would give', () => {
  fc.assert(
    fc.property(factors, ({ rank, codes, basis }) => {
      const steps = columnSteps(codes, rank);
      const quantised = quantiseCodes(codes, basis, rank);
      const dequantised = Float64Array.from(quantised.codes, (code, i) => code * (steps[i % rank] as number));
      const expected = reconstruct({ codes: dequantised, basis, rank }, numTokens, width);
      const folded = reconstruct({ ...quantised, rank }, numTokens, width);
      const largest = Math.max(...expected.map(Math.abs));
      const worst = folded.reduce((most, value, i) => Math.max(most, Math.abs(value - (expected[i] as number))), 0);
      expect(worst).toBeLessThanOrEqual(1e-6 * largest);
    }),
    { seed: 1 },
  );
});

it('a column of zeros stays zeros, and rank 0 stays empty', () => {
  const quantised = quantiseCodes(Float32Array.of(3, 0, -6, 0), Float32Array.of(1, 2, 3, 4), 2);
  expect([...quantised.codes]).toEqual([64, 0, -127, 0]);
  expect([...quantised.basis.subarray(2)]).toEqual([0, 0]);
  expect(quantiseCodes(new Float32Array(0), new Float32Array(0), 0)).toEqual({ codes: new Int8Array(0), basis: new Float32Array(0) });
});

it('half precision comes back within 2⁻¹¹ of each number, and exactly where it fits', () => {
  const values = gaussian(1000, 3);
  const back = fromFloat16(toFloat16(values));
  for (const [i, value] of values.entries())
    expect(Math.abs((back[i] as number) - value)).toBeLessThanOrEqual(Math.abs(value) * 2 ** -11 + 2 ** -25);
  const exact = Float32Array.of(0, 1, -2, 0.5, 65504, 2 ** -24, Number.POSITIVE_INFINITY);
  expect(fromFloat16(toFloat16(exact))).toEqual(exact);
  expect(toFloat16(Float32Array.of(1, -2))).toEqual(Uint16Array.of(0x3c00, 0xc000));
});

it('half precision reads a view into the middle of a buffer', () => {
  const bits = Uint16Array.of(0, 0x3c00, 0xc000).subarray(1);
  expect(fromFloat16(bits)).toEqual(Float32Array.of(1, -2));
});
