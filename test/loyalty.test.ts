import fc from 'fast-check';
import { expect, test } from 'vitest';
import { agreement, argmax, meanAgreement } from '../src/loyalty.ts';

const VOCAB = 5;
const rows = fc
  .integer({ min: 1, max: 6 })
  .chain((tokens) => fc.array(fc.float({ min: -30, max: 30, noNaN: true }), { minLength: tokens * VOCAB, maxLength: tokens * VOCAB }))
  .map((values) => Float32Array.from(values));

/** Straight from the definition, with probabilities; good to 1e-9 for logits this small. */
function plainKl(dense: Float32Array, packed: Float32Array): number {
  const softmax = (logits: Float32Array): number[] => {
    const powers = Array.from(logits, (logit) => Math.exp(logit));
    const sum = powers.reduce((total, power) => total + power, 0);
    return powers.map((power) => power / sum);
  };
  const [p, q] = [softmax(dense), softmax(packed)];
  return p.reduce((sum, share, i) => sum + (share > 0 ? share * Math.log(share / (q[i] as number)) : 0), 0);
}

test('divergence is that of the definition, never negative, and 0 of a model with itself', () => {
  fc.assert(
    fc.property(rows, rows, (dense, other) => {
      const packed = Float32Array.from(dense, (_, i) => other[i % other.length] as number);
      const { kl, tokens } = agreement(dense, packed, VOCAB);
      let wanted = 0;
      for (let n = 0; n < tokens; n++)
        wanted += plainKl(dense.subarray(n * VOCAB, (n + 1) * VOCAB), packed.subarray(n * VOCAB, (n + 1) * VOCAB));
      expect(Math.abs(kl - wanted / tokens)).toBeLessThan(1e-9);
      expect(kl).toBeGreaterThanOrEqual(0);
      expect(agreement(dense, dense, VOCAB)).toEqual({ top1: 1, kl: 0, tokens });
    }),
    { seed: 5 },
  );
});

test('top-1 counts tokens whose first largest logit is the same', () => {
  expect(agreement(Float32Array.of(1, 2, 3, 1), Float32Array.of(0, 1, 0, 5), 2).top1).toBe(0.5);
  expect(argmax([3, 7, 7, 1])).toBe(1);
});

test('logits of a thousand do not overflow', () => {
  expect(agreement(Float32Array.of(1000, 0), Float32Array.of(0, 1000), 2)).toEqual({ top1: 0, kl: 1000, tokens: 1 });
});

test('a mean weighs each part by its tokens, and of nothing is full agreement', () => {
  const parts = [
    { top1: 1, kl: 0, tokens: 3 },
    { top1: 0, kl: 4, tokens: 1 },
  ];
  expect(meanAgreement(parts)).toEqual({ top1: 0.75, kl: 1, tokens: 4 });
  expect(meanAgreement([])).toEqual({ top1: 1, kl: 0, tokens: 0 });
});

test('logits that do not belong together are our own bug', () => {
  expect(() => agreement(new Float32Array(4), new Float32Array(6), 2)).toThrow('attentionpack bug: logits of 4 and 6');
});
