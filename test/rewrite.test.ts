/** The rewritten decoder against the original, at full rank, in every variant promised: same logits within 2e-5. */
import { describe, expect, test } from 'vitest';
import type { RotaryMode } from '../src/shape.ts';
import { compare, type Trial } from './support/compare.ts';

/** Two sequences, one left-padded; prefill in two chunks; twenty single steps. */
const SEQUENCES = { lengths: [12, 7], chunks: [5, 7], numSteps: 20 } as const;

const VARIANTS: Readonly<Record<string, Trial>> = {
  'grouped queries': {},
  'one head per key head': { decoder: { numHeads: 2, numKvHeads: 2 } },
  'one key head': { decoder: { numHeads: 3, numKvHeads: 1 } },
  'odd half of a head': { decoder: { rotary: 'none', headDim: 24 } },
  'partial rotary': { decoder: { headDim: 32, numTurned: 16 } },
  'interleaved rotary': { decoder: { interleaved: true } },
  'partial and interleaved': { decoder: { headDim: 32, numTurned: 16, interleaved: true } },
  'positions given': { decoder: { givenPositions: true }, firstPosition: 3 },
  'rotary outside': { decoder: { rotary: 'outside' }, firstPosition: 1 },
  'rotary outside, partial and interleaved': { decoder: { rotary: 'outside', headDim: 32, numTurned: 16, interleaved: true } },
  'rotary by three axes': { decoder: { rotary: 'axes' }, firstPosition: 2 },
  'rotary by three axes, partial and interleaved': { decoder: { rotary: 'axes', headDim: 32, numTurned: 16, interleaved: true } },
  'no rotary': { decoder: { rotary: 'none' } },
  scale: { decoder: { scale: 0.4 } },
  softcap: { decoder: { softcap: 1.5 } },
  'local windows': { decoder: { windows: [5, undefined, 9] } },
  'bias of the mask': { decoder: { bias: 'mask' } },
  'If node with a captured value': { decoder: { branch: true } },
  'mixture by three axes': {
    decoder: { rotary: 'axes', numHeads: 6, softcap: 2, scale: 0.3, windows: [4, undefined], bias: 'mask', interleaved: true },
  },
  mixture: { decoder: { numHeads: 6, softcap: 2, scale: 0.3, windows: [4, undefined], bias: 'mask', interleaved: true, branch: true } },
};

/** Modes a decoder can be packed in, by where and how it turns its keys. */
const MODES = {
  none: ['post-rope'],
  inside: ['post-rope', 'rotate-late'],
  outside: ['post-rope', 'rotate-late'],
  axes: ['post-rope', 'rotate-late', 'm-rope'],
} as const satisfies Record<string, readonly RotaryMode[]>;

describe.each(Object.entries(VARIANTS))('%s', (_, variant) => {
  test.each(MODES[variant.decoder?.rotary ?? 'inside'])('%s', async (rotary) => {
    const { maxDifference, maxLogit, report } = await compare({ ...SEQUENCES, ...variant, rewrite: { rotary } });
    expect(maxLogit).toBeGreaterThan(1);
    expect(maxDifference).toBeLessThan(2e-5);
    expect(report.rewritten).toBe(variant.decoder?.windows?.length ?? 2);
  });
});
