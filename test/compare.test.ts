/** Parts of the comparison that need no model. */
import { Tensor } from '@huggingface/transformers';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { largestDifference, proves } from '../src/compare/held.ts';
import { beginQuantised, type Magnitudes, widen } from '../src/compare/quantised.ts';
import { halfPixels } from '../src/eval/half-resolution.ts';
import { scaleName } from '../src/passes/quantised-cache.ts';

test('teacher forcing proves an answer whose every token leads by more than the noise', () => {
  const logits = Float32Array.of(5, 1, 0, /**/ 0, 2, 1.5);
  expect(proves(logits, [0n, 1n], 0.4)).toBe(true);
  expect(proves(logits, [0n, 1n], 0.6)).toBe(false); // too close to say
  expect(proves(logits, [0n, 2n], 0)).toBe(false);
  expect(proves(Float32Array.of(1, 1), [0n], 0)).toBe(false); // a tie
  expect(proves(logits, [0n, 1n], Number.NaN)).toBe(false); // scores that cannot be compared prove nothing
  expect(proves(logits, [0n, 1n], Number.POSITIVE_INFINITY)).toBe(false);
});

test('a proven answer is the one greedy choice would make, whatever moves the logits within the noise', () => {
  const rows = fc
    .array(fc.float({ min: -9, max: 9, noNaN: true }), { minLength: 6, maxLength: 6 })
    .map((values) => Float32Array.from(values));
  const shifts = fc.array(fc.float({ min: Math.fround(-0.25), max: Math.fround(0.25), noNaN: true }), { minLength: 6, maxLength: 6 });
  fc.assert(
    fc.property(rows, shifts, (logits, shift) => {
      const best = (row: ArrayLike<number>): bigint => BigInt(Array.from(row).indexOf(Math.max(...Array.from(row))));
      const answer = [best(logits.subarray(0, 3)), best(logits.subarray(3))];
      if (!proves(logits, answer, 0.5 + 1e-5)) return;
      const moved = logits.map((logit, i) => logit + (shift[i] as number));
      expect([best(moved.subarray(0, 3)), best(moved.subarray(3))]).toEqual(answer);
    }),
    { seed: 11 },
  );
});

test('the largest difference is found wherever it is', () => {
  expect(largestDifference(Float32Array.of(1, 2, 3), Float32Array.of(1, 4, 2.5))).toBe(2);
});

test('halved pictures are the means of two by two pixels, odd edges of what is there', () => {
  const plane = Float32Array.of(0, 4, 8, 2, 6, 10, 1, 3, 5);
  const halved = halfPixels(new Tensor('float32', Float32Array.of(...plane, ...plane.map((value) => -value)), [1, 2, 3, 3]));
  const wanted = [3, 3, 9, 3, 3, 9, 2, 2, 5];
  expect([...(halved.data as Float32Array)]).toEqual([...wanted, ...wanted.map((value) => -value)]);
  expect(halved.dims).toEqual([1, 2, 3, 3]);
});

const numbers = (tensor: Tensor | undefined): number[] => [...((tensor?.data ?? []) as Float32Array)];

test('scales hold the largest magnitude of each column, of every row seen', () => {
  const name = 'past_key_values.3.key';
  const rows = (values: number[], slots: number): Record<string, Tensor> => ({
    [name]: new Tensor('float32', Float32Array.from(values), [1, 2, slots, 2]),
  });
  const magnitudes: Magnitudes = new Map();
  const dense = rows([1, 0, -3, 0, /* head 1 */ 0.5, 2, 0.25, -1], 2);
  widen(magnitudes, dense);
  expect([...(magnitudes.get(name) ?? [])]).toEqual([3, 0, 0.5, 2]);
  widen(magnitudes, rows([9, 9, -4, 0, /* head 1 */ 9, 9, 0, 1], 2), 1); // only from slot 1 on
  expect([...(magnitudes.get(name) ?? [])]).toEqual([4, 0, 0.5, 2]);

  const channel = beginQuantised(magnitudes, dense, { bits: 8, scales: 'channel' });
  // The column that was always 0 gets the layer's scale.
  expect(numbers(channel[scaleName(3, 'key')])).toEqual([4, 4, 0.5, 2].map((size) => Math.fround(size / 127)));
  expect(channel[scaleName(3, 'key')]?.dims).toEqual([1, 2, 1, 2]);
  expect(channel[name]).toMatchObject({ type: 'int8', dims: [1, 2, 0, 2] });
  const tensor = beginQuantised(magnitudes, dense, { bits: 4, scales: 'tensor' });
  expect(numbers(tensor[scaleName(3, 'key')])).toEqual([Math.fround(4 / 7)]);
  expect(tensor[name]).toMatchObject({ type: 'uint8', dims: [1, 2, 0, 1] });
});
