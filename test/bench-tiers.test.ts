/** The benchmark of tiers: every form runs, and contexts that are none are refused. */
import { expect, test } from 'vitest';
import { benchTiers } from '../bench/tiers.ts';
import { TIERS_OF } from '../src/tier-options.ts';

const OPTIONS = { shape: 'gqa', codes: 'int8', rank: 8, lead: 2, share: 0.25, every: 1, layers: 1, steps: 2 } as const;

test.each(['post-rope', 'rotate-late'] as const)('a context is timed in every form, paired with none: %s', async (rotary) => {
  const rows = await benchTiers({ ...OPTIONS, rotary, context: '2x12' });
  expect(rows.map(({ of }) => of)).toEqual(['none', ...TIERS_OF]);
  for (const { ms, ratio } of rows) {
    expect(ms).toHaveLength(2);
    expect(Number.isFinite(ratio)).toBe(true);
  }
  expect(rows[0]?.ratio).toBe(1);
});

test.each(['', '4', '0x1', '2x2x2', '1x2.5'])('%j is no context', async (context) => {
  await expect(benchTiers({ ...OPTIONS, rotary: 'post-rope', context })).rejects.toThrow(`such as 1x8192; got '${context}'`);
});
