/** Importance against a plain twin that keeps the whole history of every token. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Importance, type ImportanceRule } from '../src/importance.ts';

const NUM_LAYERS = 3;
const BATCH = 2;

/** New tokens, whether each sequence's queries count, and a length to crop to behind the run, as a share. */
const runs = fc.array(
  fc.record({
    numTokens: fc.integer({ min: 1, max: 5 }),
    counts: fc.tuple(fc.boolean(), fc.boolean()),
    seed: fc.nat(1000),
    crop: fc.option(fc.double({ min: 0, max: 1, noNaN: true }), { nil: undefined }),
  }),
  { maxLength: 8 },
);

/** Mass of one layer, sequence and slot: any number in quarters, so that sums are exact. */
const cell = (seed: number, l: number, b: number, slot: number): number => ((seed + l * 7 + b * 13 + slot * 5) % 16) / 4;

test.each(['sum', 'average'] as const)(
  '%s is that of the whole history, whatever the order of columns, by layer and over layers',
  (rule) => {
    fc.assert(
      fc.property(runs, fc.boolean(), (steps, byLayer) => {
        const groups = byLayer ? [[0], [1], [2]] : [[0, 1, 2]];
        const importance = new Importance(rule, groups, BATCH);
        /** By group, sequence and slot. */
        const twin: number[][][] = groups.map(() => Array.from({ length: BATCH }, () => []));
        let at = 0;
        for (const { numTokens, counts, seed, crop } of steps) {
          const seen = Array.from({ length: at + numTokens }, (_, slot) => slot);
          // Columns in any order, with unused ones between.
          const columns = [0, 1].map((b) => [-1, ...(b ? [...seen].reverse() : seen), -1]);
          const mass = Array.from({ length: NUM_LAYERS }, (_, l) =>
            Float32Array.from(columns.flatMap((slots, b) => slots.map((slot) => (slot < 0 ? 99 : cell(seed, l, b, slot))))),
          );
          importance.observe({ mass, columns, at, numTokens, numQueries: counts.map((yes) => (yes ? numTokens : 0)) });
          groups.forEach((layers, g) => {
            for (let b = 0; b < BATCH; b++) {
              for (const slot of seen) {
                const history = twin[g]?.[b] as number[];
                const paid = layers.reduce((sum, l) => sum + cell(seed, l, b, slot), 0) / layers.length;
                history[slot] = counts[b] ? next(rule, history[slot], paid, numTokens) : (history[slot] ?? 0);
              }
            }
          });
          at += numTokens;
          if (crop !== undefined) {
            at = Math.floor(crop * at);
            importance.crop(at);
            for (const group of twin) for (const history of group) history.splice(at);
          }
          for (let g = 0; g < groups.length; g++)
            for (let b = 0; b < BATCH; b++) {
              const row = importance.of(g, b);
              const wanted = twin[g]?.[b] as number[];
              for (const [slot, value] of wanted.entries()) expect(row[slot]).toBeCloseTo(value, 5);
              expect([...row.subarray(at)].every((value) => value === 0)).toBe(true);
            }
          expect(importance.bytes).toBe(4 * groups.length * BATCH * importance.capacity);
        }
      }),
      { numRuns: 60 },
    );
  },
);

function next(rule: ImportanceRule, before: number | undefined, paid: number, numQueries: number): number {
  if (rule === 'sum') return (before ?? 0) + paid;
  return before === undefined ? paid / numQueries : before / 2 + paid / numQueries / 2;
}

test('a copy stays as it was', () => {
  const importance = new Importance('sum', [[0]], 1);
  const run = { mass: [Float32Array.of(1)], columns: [[0]], at: 0, numTokens: 1, numQueries: [1] };
  importance.observe(run);
  const copy = importance.copy();
  importance.observe(run);
  expect([copy.of(0, 0)[0], importance.of(0, 0)[0]]).toEqual([1, 2]);
  copy.reset();
  expect([copy.of(0, 0)[0], importance.of(0, 0)[0]]).toEqual([0, 2]);
});
