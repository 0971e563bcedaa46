/** Tables of where tokens stand on each axis, against what their positions say; the choice of width; the bytes and columns of a packed part that has them. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type AxisTables, axisTableBytes, axisTableNumbers, axisTables, cheapestWidth, type Sweep } from '../../src/cache/axis-tables.ts';
import { mostNewByAxes } from '../../src/cache/by-axes.ts';
import { PackedPart } from '../../src/cache/packed.ts';
import type { Factors } from '../../src/encode/factor.ts';
import type { ModelShape } from '../../src/shape.ts';

const AXES = 3;

/** Segments of up to T tokens on few places; some tokens are padding, not always the last. */
const packed = fc
  .record({ segments: fc.integer({ min: 0, max: 4 }), tokens: fc.integer({ min: 0, max: 12 }) })
  .chain(({ segments, tokens }) => {
    const token = fc.record({ real: fc.boolean(), position: fc.tuple(fc.nat(2), fc.nat(3), fc.nat(4)) });
    return fc.record({
      segments: fc.constant(segments),
      tokens: fc.constant(tokens),
      list: fc.array(token, { minLength: segments * tokens, maxLength: segments * tokens }),
    });
  });

test('every token stands once in a line and once in a column, at its own places', () => {
  fc.assert(
    fc.property(packed, ({ segments, tokens, list }) => {
      const slots = BigInt64Array.from(list, ({ real }, i) => (real ? BigInt(i) : -1n));
      const positions = BigInt64Array.from(list.flatMap(({ position }) => position.map(BigInt)));
      const tables = axisTables({ segments, tokens, axes: AXES }, slots, positions);
      const lengths = tables.positions.map(({ length }) => (segments ? length / segments : 0));
      for (const [axis, places] of tables.positions.entries()) {
        for (let segment = 0; segment < segments; segment++) {
          const own = list.slice(segment * tokens, (segment + 1) * tokens).filter(({ real }) => real);
          const wanted = [...new Set(own.map(({ position }) => BigInt(position[axis] as number)))];
          const length = lengths[axis] as number;
          expect([...places.subarray(segment * length, segment * length + wanted.length)]).toEqual(wanted);
        }
      }
      const sweeps: readonly (readonly [Sweep, readonly number[]])[] = [
        [tables.lines, [0, 1]],
        [tables.columns, [2]],
      ];
      for (const [which, [sweep, axes]] of sweeps.entries()) {
        const { width, places } = sweep;
        const numRows = width ? sweep.tokens.length / width : 0;
        expect(places.length).toBe(axes.length * numRows);
        const order = tables.order.subarray(which * list.length, (which + 1) * list.length);
        for (const [t, { real, position }] of list.entries()) {
          if (!real) continue;
          const at = order[t] as number;
          expect(sweep.tokens[at]).toBe(t);
          for (const [i, axis] of axes.entries()) {
            const place = places[i * numRows + Math.floor(at / width)] as number;
            expect(Math.floor(place / (lengths[axis] as number))).toBe(Math.floor(t / tokens)); // its own segment
            expect(tables.positions[axis]?.[place]).toBe(BigInt(position[axis] as number));
          }
        }
        // Padding repeats a token of the row, so that all rows are as wide and nothing else is read.
        for (let k = 0; k < numRows; k++) {
          const row = sweep.tokens.subarray(k * width, (k + 1) * width);
          for (const t of row) expect(list[t]?.real).toBe(true);
        }
      }
      const { positions: eights, indices } = axisTableNumbers(tables);
      expect(8 * eights + 4 * indices).toBe(axisTableBytes(tables));
    }),
    { numRuns: 300, seed: 7 },
  );
});

test('the width of rows is the cheapest of all widths', () => {
  const cost = (width: number, lengths: readonly number[]): number =>
    lengths.reduce((sum, length) => sum + Math.ceil(length / width) * (width + 12), 0);
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 60 }), { minLength: 1, maxLength: 8 }), (lengths) => {
      const all = Array.from({ length: Math.max(...lengths) }, (_, i) => cost(i + 1, lengths));
      expect(cost(cheapestWidth(lengths), lengths)).toBe(Math.min(...all));
    }),
    { numRuns: 200, seed: 3 },
  );
});

test('rows of one length are left whole, and a long one is cut where short ones would be padded', () => {
  expect(cheapestWidth([24, 24, 24])).toBe(24);
  expect(cheapestWidth([])).toBe(0);
  expect(cheapestWidth([...Array<number>(100).fill(4), 40])).toBe(4);
});

/** Like Qwen2-VL 2B: 12 heads for 2 of keys, 128 wide, pairs of 16, 24 and 24. */
const QWEN: ModelShape = {
  layers: Array.from({ length: 28 }, (_, index) => ({ index, numHeads: 12, numKvHeads: 2, headDim: 128, rotary: 'outside' as const })),
  positionAxes: AXES,
  axisColumns: [32, 48, 48].map((width) => Array.from({ length: width }, (_, i) => i)),
  windowType: 'float32',
};

/** The most new tokens by axes with `images` of `frames` x `rows` x `columns` tokens, each with a basis of its own. */
function mostNew(images: number, frames: number, rows: number, columns: number, rank = 128): number {
  const tokens = frames * rows * columns;
  const slots = BigInt64Array.from({ length: images * tokens }, (_, t) => BigInt(t));
  const places = Array.from({ length: images * tokens }, (_, t) => {
    const [image, i] = [Math.floor(t / tokens), t % tokens];
    return [Math.floor(i / (rows * columns)), Math.floor(i / columns) % rows, i % columns].map((place) => BigInt(place + 100 * image));
  });
  const tables = axisTables({ segments: images, tokens, axes: AXES }, slots, BigInt64Array.from(places.flat()));
  return mostNewByAxes(QWEN, tables, { segments: images, tokens, ranks: QWEN.layers.map(() => Math.min(rank, tokens)) });
}

test('large pictures and clips are scored by axes one token at a time, small pictures and prompts by keys rebuilt', () => {
  expect(mostNew(0, 1, 1, 1)).toBe(0);
  expect(mostNew(1, 1, 4, 4)).toBe(0);
  expect(mostNew(64, 1, 4, 4)).toBe(0);
  expect(mostNew(1, 1, 32, 32)).toBeGreaterThanOrEqual(1);
  expect(mostNew(1, 1, 64, 64)).toBeGreaterThanOrEqual(1);
  expect(mostNew(1, 16, 16, 16)).toBeGreaterThanOrEqual(1);
  expect(mostNew(1, 1, 64, 64, 2)).toBe(8); // where it would seem cheaper for any number, it is not
});

test('a packed part holds the key bases’ columns by axis, and counts the tables', () => {
  const axisColumns = [[1, 3], [0, 2]]; // biome-ignore format: axis by axis
  const layer = { index: 0, numHeads: 2, numKvHeads: 2, headDim: 4, rotary: 'outside' as const };
  const shape: ModelShape = { layers: [layer], positionAxes: 2, axisColumns, windowType: 'float32' };
  const part = new PackedPart(shape, 1, { codes: 'float32', basis: 'float32' }, 2);
  const before = part.bytes;
  const factors = (): Factors => ({
    rank: 1,
    codes: Float32Array.of(1, 1),
    basis: Float32Array.of(0, 1, 2, 3, 10, 11, 12, 13),
    lostEnergy: 0,
    singularValues: Float32Array.of(1),
  });
  part.add([{ sequence: 0, slots: [4, 5], positions: [7, 8, 7, 9], layers: [{ keys: factors(), values: factors() }] }]);
  const { keys, values } = part.layer(0);
  // First columns of the pairs (1, 3) and (0, 2), then their second ones; values as they were.
  expect([...keys.basis]).toEqual([1, 0, 3, 2, 11, 10, 13, 12]);
  expect([...values.basis]).toEqual([0, 1, 2, 3, 10, 11, 12, 13]);
  const tables = part.axisTables as AxisTables;
  expect(tables.positions.map((places) => [...places])).toEqual([[7n], [8n, 9n]]); // biome-ignore format: axis by axis
  // Codes and bases of two sides, slots and two numbers a position, and the tables.
  expect(part.bytes - before).toBe(2 * 4 * (2 + 8) + 8 * 2 * 3 + axisTableBytes(tables));
  part.crop(0);
  expect(part.bytes).toBe(before);
});
