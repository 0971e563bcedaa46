/** Random decoders, batches, chunks and splits of the past: same logits as the original, whatever is packed how. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { compare, type Trial } from './support/compare.ts';

const decoder = fc
  .record({
    numKvHeads: fc.constantFrom(1, 2, 3),
    groups: fc.constantFrom(1, 2, 3),
    headDim: fc.constantFrom(16, 32),
    half: fc.boolean(),
    windows: fc.array(fc.constantFrom(undefined, 3, 7), { minLength: 1, maxLength: 3 }),
    rotary: fc.constantFrom('inside', 'inside', 'outside', 'axes', 'none'),
    interleaved: fc.boolean(),
    givenPositions: fc.boolean(),
    scale: fc.constantFrom(undefined, 0.1, 0.5),
    softcap: fc.constantFrom(undefined, 1, 5),
    branch: fc.boolean(),
    bias: fc.constantFrom(undefined, 'mask'),
    seed: fc.nat(1000),
  })
  .map(({ groups, half, ...rest }) => ({ ...rest, numHeads: rest.numKvHeads * groups, numTurned: half ? 16 : rest.headDim }));

const trial = fc
  .record({
    decoder,
    seed: fc.nat(1000),
    lengths: fc.array(fc.integer({ min: 1, max: 14 }), { minLength: 1, maxLength: 3 }),
    cuts: fc.array(fc.integer({ min: 1, max: 13 }), { maxLength: 3 }),
    rotary: fc.constantFrom('post-rope', undefined),
    provider: fc.constantFrom('cpu', 'wasm', 'webgpu'),
    maxSegments: fc.integer({ min: 0, max: 3 }),
  })
  .map(({ cuts, lengths, rotary, provider, maxSegments, ...rest }): Trial => {
    const longest = Math.max(...lengths);
    const ends = [...new Set(cuts.filter((cut) => cut < longest)), longest].sort((a, b) => a - b);
    const chunks = ends.map((end, i) => end - (ends[i - 1] ?? 0));
    const deal = { maxSegments, dummyRows: provider === 'webgpu' };
    return { ...(rest as Trial), lengths, chunks, numSteps: 4, rewrite: { rotary, provider: provider as 'cpu' }, deal };
  });

test('any decoder, any batch, any split', async () => {
  await fc.assert(
    fc.asyncProperty(trial, async (drawn) => {
      const { maxDifference } = await compare(drawn);
      expect(maxDifference).toBeLessThan(2e-5);
    }),
    { numRuns: 15, seed: 20260323 },
  );
});
