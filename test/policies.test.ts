/** Each eviction policy: what all of them hold, and what is its own. */
import { describe, expect, test } from 'vitest';
import { lowest, POLICIES, POLICY_NAMES, type TokenFacts } from '../src/policies/index.ts';
import { describePolicy, SETTINGS } from './suites/policies.ts';

for (const name of POLICY_NAMES) describePolicy(name);

const facts = (mass: readonly number[], keyNorms: readonly number[] = mass): TokenFacts => ({
  slots: mass.map((_, i) => 10 + i),
  firstSlot: 0,
  mass: Float32Array.from(mass),
  keyNorms: Float32Array.from(keyNorms),
});

describe('what is its own', () => {
  test('h2o, importance and fastv let go what got least attention', () => {
    for (const name of ['h2o', 'importance', 'fastv'] as const)
      expect(lowest(POLICIES[name], facts([3, 1, 2, 0.5]), 2, SETTINGS)).toEqual([11, 13]);
    expect(POLICIES.fastv.watch({ ...SETTINGS, layer: 2 }).mass).toMatchObject({ layer: 1 });
  });

  test('snapkv keeps the neighbours of what is voted for', () => {
    expect(lowest(POLICIES.snapkv, facts([0.2, 0, 0, 0, 0, 9, 0, 0, 0]), 4, SETTINGS)).toEqual([10, 11, 12, 18]);
    expect(POLICIES.snapkv.watch({ ...SETTINGS, queries: 7 }).mass).toMatchObject({ queries: 7 });
  });

  test('streaming-llm keeps the newest', () => {
    expect(lowest(POLICIES['streaming-llm'], facts([0, 5, 0, 9]), 3, SETTINGS)).toEqual([10, 11, 12]);
  });

  test('key-norm keeps short keys', () => {
    expect(lowest(POLICIES['key-norm'], facts([0, 0, 0, 0], [4, 1, 3, 2]), 2, SETTINGS)).toEqual([10, 12]);
  });

  test('random draws evenly, by its seed', () => {
    const of = facts(new Array<number>(1000).fill(0));
    const gone = lowest(POLICIES.random, of, 500, SETTINGS);
    // 500 of 1000: the first half of the slots has 250 of them, give or take three deviations of 11.2.
    expect(Math.abs(gone.filter((slot) => slot < 510).length - 250)).toBeLessThan(34);
    const other = lowest(POLICIES.random, of, 500, { ...SETTINGS, seed: 1 });
    expect(Math.abs(gone.filter((slot) => other.includes(slot)).length - 250)).toBeLessThan(34);
  });
});
