/** Buffers of an album packed image by image: they get the room the prompt announced at once, and rows stay what they were. */
import { describe, expect, test } from 'vitest';
import { type NewSegment, PackedPart } from '../../src/cache/packed.ts';
import { DenseWindow, type Rows } from '../../src/cache/window.ts';
import type { ModelShape } from '../../src/shape.ts';

const SHAPE: ModelShape = { layers: [{ index: 0, numHeads: 2, numKvHeads: 2, headDim: 3, rotary: 'inside' }], windowType: 'float32' };

/** Row of slot s, head h is filled with 10·s + h. */
function rows(at: number, numTokens: number): Rows[] {
  const keys = Float32Array.from({ length: 2 * numTokens * 3 }, (_, i) => {
    const head = Math.floor(i / 3 / numTokens);
    return 10 * (at + (Math.floor(i / 3) % numTokens)) + head;
  });
  return [{ keys, values: keys.map((value) => -value) }];
}

const range = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, i) => from + i);

describe('a window that knows what comes', () => {
  test('takes an image in chunks into buffers laid out once, and keeps them for the next image', () => {
    const window = new DenseWindow(SHAPE, 1);
    window.append(rows(0, 20), 20, [range(0, 20)], 60);
    const { keys } = window.layer(0);
    expect(window.capacity).toBe(80);
    for (let at = 20; at < 80; at += 20) window.append(rows(at, 20), 20, [range(at, at + 20)]);
    expect(window.layer(0).keys).toBe(keys);
    window.remove([range(4, 80)], 76);
    expect(window.layer(0).keys).toBe(keys);
    window.append(rows(80, 76), 76, [range(80, 156)]);
    expect(window.layer(0).keys).toBe(keys);
    const kept = window.rowsIn(0, 0, 1000);
    const wanted = [...range(0, 4), ...range(80, 156)].flatMap((slot) => [0, 1].flatMap((head) => [1, 2, 3].map(() => 10 * slot + head)));
    expect([...window.gather(0, 'keys', 0, kept)]).toEqual(wanted);
  });

  test('gives back what the last image took, and never grows by removing', () => {
    const window = new DenseWindow(SHAPE, 1);
    window.append(rows(0, 80), 80, [range(0, 80)]);
    window.remove([range(4, 80)]);
    expect(window.capacity).toBe(16);
    window.remove([[0]], 1000);
    expect(window.capacity).toBe(16);
  });
});

describe('a packed part that knows what comes', () => {
  const segment = (at: number): NewSegment => {
    const factors = { codes: new Float32Array(8).fill(at), basis: new Float32Array(12).fill(at), rank: 2, lostEnergy: 0 };
    const full = { ...factors, singularValues: new Float32Array(2) };
    return { sequence: 0, slots: range(at, at + 4), positions: range(at, at + 4), layers: [{ keys: full, values: full }] };
  };

  test('has room for exactly the announced segments, then grows by half', () => {
    const packed = new PackedPart(SHAPE, 1, { codes: 'float32', basis: 'float32' });
    const capacities = [4, 3, 2, 1, 0, 0].map((numComing, i) => {
      packed.add([segment(4 * i)], numComing);
      return packed.capacity;
    });
    expect(capacities).toEqual([5, 5, 5, 5, 5, 8]);
    expect([...packed.layer(0).keys.codes.subarray(8, 16)]).toEqual(new Array(8).fill(4));
  });
});
