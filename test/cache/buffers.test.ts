/** Where a cache's numbers lie: buffers grow in place, are counted to the byte and given back. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { footprint } from '../../src/cache/footprint.ts';
import { type NewSegment, PackedPart } from '../../src/cache/packed.ts';
import { TokenLog } from '../../src/cache/tokens.ts';
import { DenseWindow, type Rows } from '../../src/cache/window.ts';
import type { Factors } from '../../src/encode/factor.ts';
import type { ModelShape } from '../../src/shape.ts';

const SHAPE: ModelShape = {
  layers: [
    { index: 0, numHeads: 2, numKvHeads: 2, headDim: 3, rotary: 'inside' },
    { index: 1, numHeads: 2, numKvHeads: 1, headDim: 4, rotary: 'inside' },
  ],
  windowType: 'float32',
};

/** Rows whose numbers say where they belong: layer, side, sequence, head and slot. */
function rows(batch: number, at: number, numTokens: number): Rows[] {
  return SHAPE.layers.map(({ numKvHeads, headDim }, l) => {
    const side = (sign: number): Float32Array =>
      Float32Array.from({ length: batch * numKvHeads * numTokens * headDim }, (_, i) => {
        const n = Math.floor(i / headDim) % numTokens;
        return sign * (1 + i - n * headDim + (at + n) * 1000 + l * 7);
      });
    return { keys: side(1), values: side(-1) };
  });
}

function slotsOf(window: DenseWindow, b: number): number[] {
  return Array.from(window.slots.subarray(b * window.capacity, (b + 1) * window.capacity), Number).filter((slot) => slot >= 0);
}

describe('a window', () => {
  test('keeps its buffers on most steps of a long answer and copies ever more rarely', () => {
    const window = new DenseWindow(SHAPE, 1);
    window.append(rows(1, 0, 100), 100, [Array.from({ length: 100 }, (_, n) => n)]);
    let moves = 0;
    for (let slot = 100; slot < 1100; slot++) {
      const before = window.layer(0).keys;
      window.append(rows(1, slot, 1), 1, [[slot]]);
      if (window.layer(0).keys !== before) moves++;
    }
    // From 112 rows to 1100 by a quarter each: log(1100 / 112) / log(1.25) = 10.2 moves, and rounding up to 16 saves none of them.
    expect(moves).toBeLessThanOrEqual(11);
    expect(window.capacity).toBeLessThanOrEqual(Math.ceil((1100 * 1.25) / 16) * 16);
    expect(slotsOf(window, 0)).toEqual(Array.from({ length: 1100 }, (_, slot) => slot));
  });

  test('removing then appending is appending then removing', () => {
    const plans = fc.record({
      lengths: fc.array(fc.integer({ min: 0, max: 30 }), { minLength: 2, maxLength: 2 }),
      gone: fc.array(fc.integer({ min: 0, max: 29 }), { maxLength: 20 }),
      added: fc.integer({ min: 1, max: 20 }),
    });
    fc.assert(
      fc.property(plans, ({ lengths, gone, added }) => {
        const numTokens = Math.max(1, ...lengths);
        const first = lengths.map((length) => Array.from({ length: numTokens }, (_, n) => (n < numTokens - length ? -1 : n)));
        const more = lengths.map(() => Array.from({ length: added }, (_, n) => numTokens + n));
        const [a, b] = [new DenseWindow(SHAPE, 2), new DenseWindow(SHAPE, 2)];
        const remove = (window: DenseWindow): void =>
          window.remove([0, 1].map((s) => [...new Set(gone)].filter((row) => row < (lengths[s] ?? 0))));
        for (const window of [a, b]) window.append(rows(2, 0, numTokens), numTokens, first);
        remove(a);
        a.append(rows(2, numTokens, added), added, more);
        b.append(rows(2, numTokens, added), added, more);
        remove(b);
        for (const sequence of [0, 1]) {
          expect(slotsOf(a, sequence)).toEqual(slotsOf(b, sequence));
          const all = slotsOf(a, sequence).map((_, row) => row);
          for (const l of [0, 1]) {
            expect(a.gather(l, 'keys', sequence, all)).toEqual(b.gather(l, 'keys', sequence, all));
            expect(a.gather(l, 'values', sequence, all)).toEqual(b.gather(l, 'values', sequence, all));
          }
        }
      }),
      { seed: 3, numRuns: 60 },
    );
  });

  test('gives memory back when rows leave it', () => {
    const window = new DenseWindow(SHAPE, 1);
    window.append(rows(1, 0, 500), 500, [Array.from({ length: 500 }, (_, n) => n)]);
    window.remove([Array.from({ length: 490 }, (_, row) => row)]);
    expect(window.capacity).toBe(16);
    // 16 rows: keys and values of 6 and 4 columns in fp32, and a slot of 8 bytes
    expect(window.bytes).toBe(16 * (2 * (6 + 4) * 4 + 8));
    expect(slotsOf(window, 0)).toEqual([490, 491, 492, 493, 494, 495, 496, 497, 498, 499]);
  });
});

/** Codes and bases that say which segment, layer and side they are of. */
function segment(sequence: number, at: number, numTokens: number, rank = 2): NewSegment {
  const factors = (width: number, of: number): Factors => ({
    rank,
    codes: new Float32Array(numTokens * rank).fill(of),
    basis: new Float32Array(rank * width).fill(-of),
    lostEnergy: 0,
    singularValues: new Float32Array(rank),
  });
  return {
    sequence,
    slots: Array.from({ length: numTokens }, (_, t) => at + t),
    positions: Array.from({ length: numTokens }, (_, t) => at + t + 5),
    layers: SHAPE.layers.map(({ numKvHeads, headDim }, l) => ({
      keys: factors(numKvHeads * headDim, at + l + 1),
      values: factors(numKvHeads * headDim, at + l + 1000),
    })),
  };
}

describe('a packed part', () => {
  test('of one sequence takes images one by one without moving the earlier ones each time', () => {
    const packed = new PackedPart(SHAPE, 1, { codes: 'float32', basis: 'float32' });
    let moves = 0;
    for (let m = 0; m < 64; m++) {
      const before = packed.layer(0).keys.codes.buffer;
      packed.add([segment(0, 10 * m, 4)]);
      if (packed.layer(0).keys.codes.buffer !== before) moves++;
      expect(packed.layer(0).keys.codes.length).toBe((m + 1) * 4 * 2);
    }
    // Room for half as many again each time: 1, 2, 3, 5, 8, 12, 18, 27, 41, 62, 93.
    expect(moves).toBe(11);
    expect(packed.layer(1).values.codes[63 * 8]).toBe(630 + 1001);
  });

  test('reads the same whether images come together or one by one, in any element type', () => {
    for (const [codes, basis] of [
      ['float32', 'float16'],
      ['float16', 'float16'],
      ['int8', 'float16'],
      ['float32', 'int8'],
      ['int8', 'int8'],
    ] as const) {
      const [together, single] = [0, 1].map(() => new PackedPart(SHAPE, 2, { codes, basis })) as [PackedPart, PackedPart];
      const segments = [segment(0, 0, 3, 2), segment(1, 0, 5, 3), segment(0, 8, 1, 1)];
      together.add(segments);
      for (const one of segments) single.add([one]);
      expect(single.slots).toEqual(together.slots);
      expect(single.positions).toEqual(together.positions);
      for (const l of [0, 1]) expect(single.layer(l)).toEqual(together.layer(l));
      expect(single.bytes).toBe(together.bytes);
    }
  });

  test('cropped where one sequence loses nothing forgets what the others lose', () => {
    const packed = new PackedPart(SHAPE, 2, { codes: 'float32', basis: 'float32' });
    packed.add([segment(0, 0, 2), segment(1, 4, 2)]);
    packed.crop(4);
    expect(Array.from(packed.slots, Number)).toEqual([0, 1, -1, -1]);
    expect(packed.layer(0).keys.codes.subarray(4)).toEqual(new Float32Array(4));
  });

  test('cropped to nothing holds nothing', () => {
    const packed = new PackedPart(SHAPE, 2, { codes: 'int8', basis: 'float32' });
    packed.add([segment(0, 4, 3), segment(1, 5, 3)]);
    packed.crop(4);
    expect(packed.bytes).toBe(0);
    expect(packed.numSegments).toBe(0);
    packed.add([segment(1, 4, 3)]);
    expect(Array.from(packed.slots, Number)).toEqual([-1, -1, -1, 4, 5, 6]);
  });
});

test('a log of tokens reads as a plain list does, and doubles', () => {
  fc.assert(
    fc.property(fc.array(fc.oneof(fc.integer({ min: 1, max: 9 }), fc.integer({ min: -9, max: -1 })), { maxLength: 20 }), (steps) => {
      const log = new TokenLog(2);
      const plain: number[][] = [[], []];
      for (const step of steps) {
        if (step < 0) {
          const length = Math.max(0, (plain[0] as number[]).length + step);
          log.crop(length);
          for (const row of plain) row.length = length;
          continue;
        }
        const ids = [0, 1].map((b) => Array.from({ length: step }, (_, n) => 100 * b + n + (plain[0] as number[]).length));
        log.append(
          ids,
          ids.map((row) => row.map((id) => id % 2)),
        );
        plain.forEach((row, b) => {
          row.push(...(ids[b] as number[]));
        });
        expect(log.capacity).toBeLessThanOrEqual(2 * Math.max(...[log.capacity / 2, log.length]));
      }
      plain.forEach((row, b) => {
        expect(Array.from(log.ids(b))).toEqual(row);
        expect(Array.from(log.mask(b))).toEqual(row.map((id) => id % 2));
      });
      expect(log.bytes).toBe(2 * 5 * log.capacity);
    }),
    { seed: 1 },
  );
});

test('the footprint of the paper’s case is what its own count gives', () => {
  // LLaVA-1.5-7B, one image of 576 tokens, rank 64, 32 layers of width 4096: (576 + 4096)·64 elements a side.
  const shape: ModelShape = {
    layers: Array.from({ length: 32 }, (_, index) => ({ index, numHeads: 32, numKvHeads: 32, headDim: 128, rotary: 'inside' as const })),
    windowType: 'float16',
  };
  const sides = shape.layers.map(() => ({ keys: { rank: 64 }, values: { rank: 64 } }));
  const extents = { batch: 1, windowRows: 0, segments: 1, segmentTokens: 576, sides, pendingTokens: 0, tokenCapacity: 0 };
  const bytes = footprint(shape, { codes: 'float16', basis: 'float16' }, extents);
  expect(bytes.codes + bytes.bases).toBe(32 * 2 * (576 + 4096) * 64 * 2);
  expect((32 * 4 * 4096 * 576) / (bytes.codes + bytes.bases)).toBeCloseTo(7.89, 2);
  expect(bytes.indices).toBe(576 * 16);
});
