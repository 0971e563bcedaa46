/** The allocator, against trying every split of every side. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Allocation, allocate, type SideCost } from '../../src/encode/allocate.ts';
import { BITS, type Bits, bytesOf, columnsOf, type Widths } from '../../src/encode/widths.ts';

/** Errors that fall with bits and with columns, roughly as measured ones do; parts with levels and without. */
const side = (most: number): fc.Arbitrary<SideCost> =>
  fc
    .record({
      energies: fc.array(fc.double({ min: 1e-4, max: 1, noNaN: true }), { minLength: 1, maxLength: most }),
      noise: fc.array(fc.double({ min: 0.5, max: 2, noNaN: true }), { minLength: 6, maxLength: 6 }),
      kind: fc.constantFrom('both', 'both', 'codes', 'basis', 'neither'),
      tokens: fc.integer({ min: 1, max: 40 }),
      width: fc.integer({ min: 1, max: 40 }),
      columnBytes: fc.constantFrom(0, 12),
    })
    .map(({ energies, noise, kind, tokens, width, columnBytes }) => {
      const dropped = Float64Array.from(energies).sort().reverse();
      const errors = (from: number): Record<Bits, Float64Array> =>
        Object.fromEntries(
          BITS.map((bits, i) => [bits, dropped.map((energy, c) => energy * (noise[(from + i + c) % 6] as number) * 0.3 * 4 ** (1 - bits))]),
        ) as Record<Bits, Float64Array>;
      const part = (length: number, isMixed: boolean, from: number) =>
        isMixed ? { length, errors: errors(from) } : { length, errors: undefined, bytes: 2 };
      return {
        dropped,
        codes: part(tokens, kind === 'both' || kind === 'codes', 0),
        basis: part(width, kind === 'both' || kind === 'basis', 3),
        columnBytes,
      };
    });

interface Tried {
  readonly rank: number;
  readonly codes: Widths;
  readonly basis: Widths;
  readonly bytes: number;
  readonly error: number;
}

function* widthsOf(rank: number): Generator<Widths> {
  for (let n8 = 0; n8 <= rank; n8++)
    for (let n4 = 0; n8 + n4 <= rank; n4 += 2) if ((rank - n8 - n4) % 4 === 0) yield [n8, n4, rank - n8 - n4];
}

/** All there is for one side, priced column by column. */
function* tryAll({ dropped, codes, basis, columnBytes }: SideCost): Generator<Tried> {
  const none: Widths[] = [[0, 0, 0]];
  const error = ({ errors }: SideCost['codes'], widths: Widths): number => {
    let [at, sum] = [0, 0];
    BITS.forEach((bits, i) => {
      for (let n = 0; n < (widths[i] as number); n++) sum += errors?.[bits][at++] ?? 0;
    });
    return sum;
  };
  const bytes = (part: SideCost['codes'], widths: Widths, rank: number): number =>
    part.length * (part.errors ? bytesOf(widths) : rank * (part.bytes ?? 0));
  for (let rank = 1; rank <= dropped.length; rank++) {
    const left = dropped.slice(rank).reduce((sum, x) => sum + x, 0);
    for (const ofCodes of codes.errors ? widthsOf(rank) : none)
      for (const ofBasis of basis.errors ? widthsOf(rank) : none)
        yield {
          rank,
          codes: ofCodes,
          basis: ofBasis,
          bytes: bytes(codes, ofCodes, rank) + bytes(basis, ofBasis, rank) + columnBytes * rank,
          error: left + error(codes, ofCodes) + error(basis, ofBasis),
        };
  }
}

const isStep = (from: Widths, to: Widths): boolean =>
  Math.abs(to[0] - from[0]) <= 4 && Math.abs(to[1] - from[1]) <= 4 && Math.abs(to[2] - from[2]) <= 4;

/** A budget between the least and the most the sides can take. */
function budgetOf(costs: readonly SideCost[], share: number): number {
  const all = costs.map((cost) => [...tryAll(cost)].map(({ bytes }) => bytes));
  const [least, most] = [Math.min, Math.max].map((of) => all.reduce((sum, bytes) => sum + of(...bytes), 0)) as [number, number];
  return Math.floor(least + share * (most - least));
}

const problems = fc.record({
  costs: fc.array(side(6), { minLength: 1, maxLength: 4 }),
  share: fc.double({ min: 0, max: 1.05, noNaN: true }),
});

describe('an allocation', () => {
  test('is counted as its splits are, within the budget, and leaves no step that fits and helps', () => {
    fc.assert(
      fc.property(problems, ({ costs, share }) => {
        const budget = budgetOf(costs, share);
        const { choices, bytes, error }: Allocation = allocate(costs, budget);
        expect(bytes).toBeLessThanOrEqual(budget);
        expect(choices.reduce((sum, choice) => sum + choice.bytes, 0)).toBe(bytes);
        choices.forEach((choice, i) => {
          const cost = costs[i] as SideCost;
          const same = [...tryAll(cost)].find(
            ({ rank, codes, basis }) => rank === choice.rank && `${codes}/${basis}` === `${choice.codes}/${choice.basis}`,
          );
          expect(same?.bytes).toBe(choice.bytes);
          expect(choice.error).toBeCloseTo(same?.error as number, 9);
          const better = [...tryAll(cost)].filter(
            (other) =>
              other.bytes - choice.bytes <= budget - bytes &&
              other.error < choice.error - 1e-9 &&
              isStep(choice.codes, other.codes) &&
              isStep(choice.basis, other.basis),
          );
          expect(better).toEqual([]);
        });
        expect(choices.reduce((sum, choice) => sum + choice.error, 0)).toBeCloseTo(error, 9);
      }),
      { seed: 4, numRuns: 150 },
    );
  });

  test('is as good as the best of all, but for less than the best there is for the largest step less', () => {
    fc.assert(
      fc.property(
        fc.record({ costs: fc.array(side(5), { minLength: 1, maxLength: 3 }), share: fc.double({ min: 0, max: 1, noNaN: true }) }),
        (of) => {
          const budget = budgetOf(of.costs, of.share);
          const { error } = allocate(of.costs, budget);
          // One side at a time, the least error of all sides so far for every number of bytes.
          let frontier: { bytes: number; error: number }[] = [{ bytes: 0, error: 0 }];
          let largest = 0;
          for (const cost of of.costs) {
            const own = pareto([...tryAll(cost)]);
            own.forEach(({ bytes }, i) => {
              if (i) largest = Math.max(largest, bytes - (own[i - 1] as Tried).bytes);
            });
            const hull = convex(own);
            hull.forEach(({ bytes }, i) => {
              if (i) largest = Math.max(largest, bytes - (hull[i - 1] as { bytes: number }).bytes);
            });
            frontier = pareto(frontier.flatMap((so) => own.map((one) => ({ bytes: so.bytes + one.bytes, error: so.error + one.error }))));
          }
          const best = (within: number): number =>
            frontier.filter(({ bytes }) => bytes <= within).at(-1)?.error ?? (frontier[0] as { error: number }).error;
          expect(error).toBeGreaterThanOrEqual(best(budget) - 1e-9);
          expect(error).toBeLessThanOrEqual(best(budget - largest) + 1e-9);
        },
      ),
      { seed: 5, numRuns: 150 },
    );
  });

  test('takes the fewest bytes there are where the budget is less, and all that helps where it is more', () => {
    const [cost] = fc.sample(side(6), { seed: 6, numRuns: 1 }) as [SideCost];
    const all = [...tryAll(cost)];
    expect(allocate([cost, cost], 0).bytes).toBe(2 * Math.min(...all.map(({ bytes }) => bytes)));
    expect(allocate([cost], Number.MAX_SAFE_INTEGER).error).toBeCloseTo(Math.min(...all.map(({ error }) => error)), 12);
  });

  test('gives bytes to the side whose errors cost more', () => {
    const energies = Float64Array.from({ length: 16 }, (_, c) => 0.7 ** c);
    const errors = (scale: number): Record<Bits, Float64Array> =>
      Object.fromEntries(
        BITS.map((bits) => [bits, energies.map((energy) => scale * energy * { 8: 1e-4, 4: 0.0115, 2: 0.12 }[bits])]),
      ) as Record<Bits, Float64Array>;
    const of = (scale: number): SideCost => ({
      dropped: energies.map((energy) => scale * energy),
      codes: { length: 64, errors: errors(scale) },
      basis: { length: 64, errors: errors(scale) },
      columnBytes: 12,
    });
    const [dear, cheap] = allocate([of(10), of(1)], 3000).choices;
    expect(dear?.bytes).toBeGreaterThan(1.2 * (cheap?.bytes as number));
    expect(columnsOf(dear?.codes as Widths)).toBe(dear?.rank);
  });

  test('takes well under a second for 32 layers of 128 columns', () => {
    const energies = Float64Array.from({ length: 128 }, (_, c) => 0.97 ** c);
    const costs = Array.from({ length: 64 }, (_, i): SideCost => {
      const errors = Object.fromEntries(
        BITS.map((bits) => [bits, energies.map((energy) => (1 + i / 64) * energy * { 8: 1e-4, 4: 0.0115, 2: 0.12 }[bits])]),
      ) as Record<Bits, Float64Array>;
      return {
        dropped: energies.map((energy) => (1 + i / 64) * energy),
        codes: { length: 4608, errors },
        basis: { length: 8 * 4096, errors },
        columnBytes: 96,
      };
    });
    const start = performance.now();
    const budget = 64 * 8 * 590_000;
    const { bytes } = allocate(costs, budget / 4);
    expect(bytes).toBeLessThanOrEqual(budget / 4);
    expect(performance.now() - start).toBeLessThan(2000);
  });
});

/** By rising bytes and falling error; what is beaten in both is left out. */
function pareto<T extends { readonly bytes: number; readonly error: number }>(of: readonly T[]): T[] {
  let least = Number.POSITIVE_INFINITY;
  return [...of]
    .sort((a, b) => a.bytes - b.bytes || a.error - b.error)
    .filter(({ error }) => {
      if (error >= least) return false;
      least = error;
      return true;
    });
}

/** The lower convex hull of what {@link pareto} returns. */
function convex<T extends { readonly bytes: number; readonly error: number }>(of: readonly T[]): T[] {
  const hull: T[] = [];
  for (const point of of) {
    for (;;) {
      const [a, b] = hull.slice(-2);
      if (!a || !b) break;
      if ((b.error - a.error) * (point.bytes - a.bytes) <= (point.error - a.error) * (b.bytes - a.bytes)) break;
      hull.pop();
    }
    hull.push(point);
  }
  return hull;
}
