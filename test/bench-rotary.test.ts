/** The benchmark of rotary modes: every mode runs, and contexts that are none are refused. */
import { expect, test } from 'vitest';
import { benchRotary } from '../bench/rotary.ts';
import { ROTARY_MODES } from '../src/shape.ts';

const OPTIONS = { shape: 'small', numNew: 1, layers: 1, steps: 2 } as const;

test('a context is timed in every mode, paired with rotate-late', async () => {
  const rows = await benchRotary({ ...OPTIONS, context: '2x1x3x4' });
  expect(rows.map(({ mode }) => mode)).toEqual([...ROTARY_MODES]);
  for (const { tokens, ms, ratio } of rows) {
    expect(tokens).toBe(24);
    expect(ms).toHaveLength(2);
    expect(Number.isFinite(ratio)).toBe(true);
  }
  expect(rows.find(({ mode }) => mode === 'rotate-late')?.ratio).toBe(1);
  expect(rows.find(({ mode }) => mode === 'm-rope')?.byAxes).toBe(0);
});

test.each(['', '4x4x4', '0x1x2x2', '1x1x2x2x2', '1x1x2.5x2'])('%j is no context', async (context) => {
  await expect(benchRotary({ ...OPTIONS, context })).rejects.toThrow(`such as 4x1x32x32; got '${context}'`);
});
