/** What every eviction policy must hold. Called by `test/policies.test.ts` with each of them. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { lowest, POLICIES, type PolicyName, type PolicySettings, type TokenFacts } from '../../src/policies/index.ts';

export const SETTINGS: PolicySettings = { queries: 4, layer: 1, seed: 0 };

/** Few different numbers, so that there are many ties. */
const facts: fc.Arbitrary<TokenFacts> = fc
  .uniqueArray(fc.record({ slot: fc.nat(200), mass: fc.nat(5), norm: fc.nat(5) }), { selector: ({ slot }) => slot, maxLength: 40 })
  .map((tokens) => tokens.sort((a, b) => a.slot - b.slot))
  .map((tokens) => ({
    slots: tokens.map(({ slot }) => slot),
    firstSlot: 0,
    mass: Float32Array.from(tokens, ({ mass }) => mass / 4),
    keyNorms: Float32Array.from(tokens, ({ norm }) => 1 + norm),
  }));

export function describePolicy(name: PolicyName): void {
  const policy = POLICIES[name];
  const gone = (of: TokenFacts, numGone: number): number[] => lowest(policy, of, numGone, SETTINGS);

  describe(name, () => {
    test('evicts exactly as many as asked, in slot order, out of those that may go', () => {
      fc.assert(
        fc.property(facts, fc.nat(50), (of, numGone) => {
          const slots = gone(of, numGone);
          expect(slots).toHaveLength(Math.min(numGone, of.slots.length));
          expect(slots).toEqual(of.slots.filter((slot) => slots.includes(slot)));
          expect(new Set(slots).size).toBe(slots.length);
        }),
      );
    });

    test('gives the same answer to the same question, and leaves the facts alone', () => {
      fc.assert(
        fc.property(facts, fc.nat(40), (of, numGone) => {
          const before = structuredClone(of);
          expect(gone(of, numGone)).toEqual(gone(of, numGone));
          expect(of).toEqual(before);
        }),
      );
    });

    test('keeping fewer keeps a subset', () => {
      fc.assert(
        fc.property(facts, fc.nat(40), fc.nat(40), (of, a, b) => {
          const [few, many] = [gone(of, Math.min(a, b)), gone(of, Math.max(a, b))];
          expect(few.filter((slot) => !many.includes(slot))).toEqual([]);
        }),
      );
    });

    test('of tokens known alike, the earlier goes', () => {
      fc.assert(
        fc.property(facts, fc.nat(40), (of, numGone) => {
          if (name === 'random') return; // draws a lot for each slot
          const alike = { ...of, mass: of.mass.map(() => 1), keyNorms: of.keyNorms.map(() => 1) };
          expect(gone(alike, numGone)).toEqual(of.slots.slice(0, numGone));
        }),
      );
    });

    test('watches what it goes by, and nothing else moves it', () => {
      fc.assert(
        fc.property(facts, fc.nat(40), (of, numGone) => {
          const { mass, keyNorms } = policy.watch(SETTINGS);
          const blind = {
            ...of,
            mass: mass ? of.mass : new Float32Array(of.mass.length),
            keyNorms: keyNorms ? of.keyNorms : new Float32Array(of.keyNorms.length),
          };
          expect(gone(blind, numGone)).toEqual(gone(of, numGone));
        }),
      );
    });
  });
}
