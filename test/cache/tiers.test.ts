/** Tiers of a packed part against a plain twin: the tokens that got most, found by sorting, and codes that are only ever moved. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { emptySide, type PackedSide } from '../../src/cache/side.ts';
import { nthLargest, numFirst, type TierPlaces, Tiers } from '../../src/cache/tiers.ts';

interface Part {
  readonly places: TierPlaces;
  /** Tokens in each segment of each sequence; the rest is padding. */
  readonly lengths: readonly number[];
  readonly ranks: { readonly keys: number; readonly values: number };
  readonly leads: { readonly keys: number; readonly values: number };
  readonly share: number;
  readonly numLayers: number;
}

const parts: fc.Arbitrary<Part> = fc
  .record({
    batch: fc.integer({ min: 1, max: 3 }),
    segments: fc.integer({ min: 1, max: 3 }),
    spare: fc.integer({ min: 0, max: 2 }),
    tokens: fc.integer({ min: 1, max: 12 }),
    rank: fc.integer({ min: 1, max: 6 }),
    lead: fc.integer({ min: 1, max: 7 }),
    share: fc.constantFrom(0.01, 0.125, 0.3, 0.5, 0.99),
    gaps: fc.array(fc.integer({ min: 0, max: 12 }), { minLength: 9, maxLength: 9 }),
  })
  .map(({ batch, segments, spare, tokens, rank, lead, share, gaps }) => ({
    // Only a single sequence has room for more segments than it has.
    places: { batch, segments, capacity: batch * segments + (batch === 1 ? spare : 0), tokens },
    lengths: Array.from({ length: batch * segments }, (_, i) => (i ? Math.max(0, tokens - (gaps[i] as number)) : tokens)),
    ranks: { keys: rank, values: rank + 1 },
    leads: { keys: lead, values: 2 },
    share,
    numLayers: 2,
  }));

/** Slots 100·segment + token, so that a segment's are nobody else's. */
const slotsOf = ({ places, lengths }: Part): BigInt64Array =>
  BigInt64Array.from(
    lengths.flatMap((length, s) => Array.from({ length: places.tokens }, (_, t) => (t < length ? BigInt(100 * s + t) : -1n))),
  );

/** Codes that tell layer, side, place and column; Float32Arrays, whatever a format would have. */
function layersOf({ places, ranks, numLayers }: Part): { keys: PackedSide; values: PackedSide }[] {
  const side = (seed: number, rank: number): PackedSide => ({
    ...emptySide({ codes: 'float32', basis: 'float32' }),
    rank,
    codes: Float32Array.from({ length: places.capacity * places.tokens * rank }, (_, i) =>
      i < places.batch * places.segments * places.tokens * rank ? seed * 10_000 + i : 0,
    ),
  });
  return Array.from({ length: numLayers }, (_, l) => ({ keys: side(2 * l, ranks.keys), values: side(2 * l + 1, ranks.values) }));
}

const importances = fc.array(fc.array(fc.integer({ min: 0, max: 5 }), { minLength: 1000, maxLength: 1000 }), {
  minLength: 1,
  maxLength: 4,
});

function opened(part: Part): { tiers: Tiers; layers: ReturnType<typeof layersOf>; slots: BigInt64Array } {
  const tiers = new Tiers({ share: part.share, leads: part.leads });
  tiers.reset(part.places);
  return { tiers, layers: layersOf(part), slots: slotsOf(part) };
}

/** By another number for each layer and sequence. */
const importanceOf = (drawn: readonly number[]) => (l: number, b: number) => Float32Array.from(drawn, (_, slot) => drawn[(slot * 7 + l * 3 + b) % drawn.length] as number); // biome-ignore format: one idea

/** Places of the first tier's real tokens of layer l, sorted. */
function firstTier({ tiers, slots }: ReturnType<typeof opened>, { places }: Part, l: number): number[] {
  const [numInFirst] = tiers.rows;
  const perSequence = places.segments * places.tokens;
  const order = [...tiers.order(l)];
  return order.filter((place, i) => i % perSequence < places.segments * numInFirst && Number(slots[place]) >= 0).sort((x, y) => x - y);
}

describe('dealing tokens to tiers', () => {
  test('the first tier is the share of each segment that got most; the first of equals', () => {
    fc.assert(
      fc.property(parts, importances, (part, [drawn]) => {
        const held = opened(part);
        const given = importanceOf(drawn as number[]);
        held.tiers.split(held.layers, held.slots, given);
        for (let l = 0; l < part.numLayers; l++) {
          const wanted = part.lengths.flatMap((length, s) => {
            const numbers = given(l, Math.floor(s / part.places.segments));
            const tokens = Array.from({ length }, (_, t) => t).sort(
              (x, y) => (numbers[100 * s + y] as number) - (numbers[100 * s + x] as number) || x - y,
            );
            return tokens.slice(0, Math.ceil(part.share * length - 1e-9)).map((t) => s * part.places.tokens + t);
          });
          expect(firstTier(held, part, l)).toEqual(wanted.sort((x, y) => x - y));
        }
      }),
      { seed: 1, numRuns: 200 },
    );
  });

  test('dealing again and again is dealing once, moves only tokens that change tier, and all codes are still there', () => {
    fc.assert(
      fc.property(parts, importances, (part, drawn) => {
        const [again, once] = [opened(part), opened(part)];
        let before: number[][] = [];
        for (const numbers of drawn) {
          const { movedBytes } = again.tiers.moves;
          again.tiers.split(again.layers, again.slots, importanceOf(numbers));
          const now = Array.from({ length: part.numLayers }, (_, l) => firstTier(again, part, l));
          const numChanged = before.reduce((sum, places, l) => sum + 2 * places.filter((place) => !now[l]?.includes(place)).length, 0);
          const rowBytes = 4 * (part.ranks.keys + part.ranks.values);
          expect(again.tiers.moves.movedBytes - movedBytes).toBe(numChanged * rowBytes);
          before = now;
        }
        once.tiers.split(once.layers, once.slots, importanceOf(drawn.at(-1) as number[]));
        expect(Array.from({ length: part.numLayers }, (_, l) => firstTier(once, part, l))).toEqual(before);
        expect(again.tiers.indices).toBe(part.numLayers * again.slots.length);
        // Row by row: the first tier's are whole, the second's leading columns.
        for (const { tiers, layers } of [again, once]) {
          const [numInFirst, numInSecond] = tiers.rows;
          const whole = layersOf(part);
          layers.forEach((layer, l) => {
            for (const side of ['keys', 'values'] as const) {
              const { first, lead, leadRank } = tiers.views(layer[side], side);
              expect(leadRank).toBe(Math.min(part.ranks[side], part.leads[side]));
              tiers.order(l).forEach((place, i) => {
                const perSequence = part.places.segments * part.places.tokens;
                const [b, inRow] = [Math.floor(i / perSequence), i % perSequence];
                const isFirst = inRow < part.places.segments * numInFirst;
                const row = isFirst
                  ? b * part.places.segments * numInFirst + inRow
                  : b * part.places.segments * numInSecond + inRow - part.places.segments * numInFirst;
                const [data, width] = isFirst ? [first, part.ranks[side]] : [lead, leadRank];
                const rank = part.ranks[side];
                expect([...data.subarray(row * width, (row + 1) * width)]).toEqual([
                  ...(whole[l]?.[side].codes.subarray(place * rank, place * rank + width) ?? []),
                ]);
              });
            }
          });
          tiers.join(layers);
          expect(tiers.isSplit).toBe(false);
          expect(layers.map(({ keys, values }) => [keys.codes, values.codes])).toEqual(
            whole.map(({ keys, values }) => [keys.codes, values.codes]),
          );
        }
      }),
      { seed: 2, numRuns: 100 },
    );
  });

  test('a share of 1 deals nothing', () => {
    const tiers = new Tiers({ share: 1, leads: { keys: 1, values: 1 } });
    tiers.reset({ batch: 1, segments: 1, capacity: 1, tokens: 3 });
    tiers.split([], BigInt64Array.of(0n, 1n, 2n), () => new Float32Array(3));
    expect(tiers.isSplit).toBe(false);
    expect([...tiers.order(5)]).toEqual([0, 1, 2]);
  });
});

test('a share of tokens is rounded up, but not by what floating point adds', () => {
  expect([numFirst(0.1, 30), numFirst(0.25, 5), numFirst(0.01, 1), numFirst(1, 7), numFirst(0.5, 0)]).toEqual([3, 2, 1, 7, 0]);
});

test('the n-th largest is the one that sorting finds', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 20 }), { minLength: 1, maxLength: 60 }), fc.nat(), (numbers, at) => {
      const n = (at % numbers.length) + 1;
      expect(nthLargest(Float32Array.from(numbers), n)).toBe([...numbers].sort((a, b) => b - a)[n - 1]);
    }),
    { seed: 3, numRuns: 500 },
  );
});
