import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { interval, pairedDifference, wilson } from '../../src/eval/metrics.ts';

interface Goldens {
  wilson: [successes: number, n: number, low: number, high: number][];
  mean: [scores: number[], low: number, high: number][];
  clusters: [scores: number[], contexts: string[], low: number, high: number][];
}

const goldens = JSON.parse(readFileSync(new URL('../fixtures/metrics/goldens.json', import.meta.url), 'utf8')) as Goldens;
const shares = fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: 1, maxLength: 30 });
const bits = fc.array(fc.constantFrom(0, 1), { minLength: 1, maxLength: 40 });

test("Wilson's bounds are those of scipy", () => {
  for (const [successes, n, low, high] of goldens.wilson) {
    expect(wilson(successes, n).low).toBeCloseTo(low, 12);
    expect(wilson(successes, n).high).toBeCloseTo(high, 12);
    const scores = Array.from({ length: n }, (_, i) => (i < successes ? 1 : 0));
    expect(interval(scores)).toMatchObject({ mean: successes / n, ...wilson(successes, n), n, numContexts: n });
  }
  expect(wilson(0, 0)).toEqual({ low: 0, high: 1 });
});

test('a mean of graded scores has the bounds of scipy to 0.2 % of their width', () => {
  for (const [scores, low, high] of goldens.mean) {
    const tolerance = 0.002 * (high - low);
    expect(Math.abs(interval(scores).low - low)).toBeLessThanOrEqual(tolerance);
    expect(Math.abs(interval(scores).high - high)).toBeLessThanOrEqual(tolerance);
  }
});

test('questions about one context widen the interval as the cluster-robust error says', () => {
  for (const [scores, contexts, low, high] of goldens.clusters) {
    const got = interval(scores, contexts);
    expect(got.numContexts).toBe(new Set(contexts).size);
    expect(Math.abs(got.low - low)).toBeLessThanOrEqual(0.001 * (high - low));
    expect(Math.abs(got.high - high)).toBeLessThanOrEqual(0.001 * (high - low));
  }
});

test('five copies of each answer in one context know little more than one copy', () => {
  const once = [1, 0, 1, 1, 0, 1, 1, 1, 0, 1, 1, 1];
  const five = once.flatMap((score) => Array(5).fill(score) as number[]);
  const contexts = once.flatMap((_, i) => Array(5).fill(`c${i}`) as string[]);
  const [single, copied, naive] = [interval(once), interval(five, contexts), interval(five)];
  const width = ({ low, high }: { low: number; high: number }): number => high - low;
  // C / (C - 1) makes it a little wider than the single one.
  expect(width(copied)).toBeGreaterThanOrEqual(width(single));
  expect(width(copied)).toBeLessThan(1.05 * width(single));
  expect(width(naive)).toBeLessThan(0.55 * width(single));
});

test('bounds enclose the mean within [0, 1], whatever the contexts', () => {
  fc.assert(
    fc.property(fc.oneof(shares, bits), fc.integer({ min: 1, max: 8 }), (scores, numContexts) => {
      const contexts = scores.map((_, i) => `c${i % numContexts}`);
      for (const { mean, low, high } of [interval(scores), interval(scores, contexts)]) {
        expect(low).toBeGreaterThanOrEqual(0);
        expect(high).toBeLessThanOrEqual(1);
        expect(low).toBeLessThanOrEqual(mean + 1e-12);
        expect(high).toBeGreaterThanOrEqual(mean - 1e-12);
      }
    }),
    { seed: 3 },
  );
});

test('all right in a few contexts is not certainty', () => {
  expect(interval([1, 1, 1, 1, 1, 1], ['a', 'a', 'a', 'b', 'b', 'b']).low).toBeCloseTo(wilson(2, 2).low, 12);
  expect(interval([1, 1], ['a', 'a'])).toMatchObject({ mean: 1, low: 0, high: 1, numContexts: 1 });
  expect(interval([0.5])).toMatchObject({ low: 0, high: 1 });
  expect(interval([])).toMatchObject({ mean: Number.NaN, low: 0, high: 1, n: 0 });
});

test('a paired difference turns its sign with the pair and is far tighter than two intervals', () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.constantFrom(0, 0.5, 1), fc.constantFrom(0, 0.5, 1)), { minLength: 1, maxLength: 30 }), (pairs) => {
      const [a, b] = [pairs.map(([x]) => x), pairs.map(([, y]) => y)];
      const [forth, back] = [pairedDifference(a, b), pairedDifference(b, a)];
      expect(forth.mean).toBeCloseTo(-back.mean, 12);
      expect(forth.low).toBeCloseTo(-back.high, 12);
      expect([forth.better, forth.worse]).toEqual([back.worse, back.better]);
    }),
    { seed: 4 },
  );
  const dense = Array.from({ length: 400 }, (_, i) => (i % 2 ? 1 : 0));
  const packed = dense.map((score, i) => (i < 4 ? 1 - score : score));
  const { mean, low, high, better, worse } = pairedDifference(packed, dense);
  expect({ mean, better, worse }).toEqual({ mean: 0, better: 2, worse: 2 });
  expect(high - low).toBeLessThan(0.04);
  expect(interval(dense).high - interval(dense).low).toBeGreaterThan(0.09);
});

test('no difference among few contexts is no proof of none', () => {
  const { mean, low, high } = pairedDifference([1, 0, 1], [1, 0, 1]);
  expect(mean).toBe(0);
  expect(high).toBeCloseTo(wilson(0, 3).high, 12);
  expect(low).toBe(-high);
});
