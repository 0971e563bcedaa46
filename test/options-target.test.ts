/** How many bytes, as users say it. */
import { describe, expect, test } from 'vitest';
import { presetCache, presetGraph } from '../src/options/preset.ts';
import { bytesOf } from '../src/options/target.ts';
import { resolveCacheOptions } from '../src/options.ts';
import type { ModelShape } from '../src/shape.ts';

const layer = (index: number, numKvHeads: number, headDim: number) => ({
  index,
  numHeads: 8,
  numKvHeads,
  headDim,
  rotary: 'inside' as const,
});
const SHAPE: ModelShape = { layers: [layer(0, 2, 64), layer(1, 1, 48)], windowType: 'float32' };
const WIDE: ModelShape = { layers: [layer(0, 32, 128)], windowType: 'float32' };

test.each([
  [1234, 1234],
  ['1234', 1234],
  ['12B', 12],
  ['256MB', 256e6],
  ['1.5GiB', 1.5 * 2 ** 30],
  ['2 kb', 2000],
  ['3 KiB', 3072],
  ['0.5TB', 5e11],
] as const)('%j is %d bytes', (text, bytes) => {
  expect(bytesOf(text)).toBe(bytes);
});

test.each(['', '-1', '1.5.2MB', 'MB', '12 apples', 0, -4, 2.5, Number.NaN, '0.1B'])('%j is no budget', (text) => {
  expect(() => bytesOf(text)).toThrow('budget must be a number of bytes');
});

describe('what bytes are shared out for', () => {
  test('leaves ranks as the most columns there may be', () => {
    expect(resolveCacheOptions({ compression: 8 }, SHAPE)).toMatchObject({
      rank: { keys: 128, values: 128 },
      target: { counted: 'all', compression: 8, spend: 'output' },
    });
    expect(resolveCacheOptions({ budget: '2kB' }, WIDE)).toMatchObject({ rank: { keys: 128 }, target: { counted: 'all', bytes: 2000 } });
    expect(resolveCacheOptions({ compression: 8, counted: 'images', spend: 'share' }, WIDE).target).toEqual({
      counted: 'images',
      compression: 8,
      spend: 'share',
    });
  });

  test('is the model\u2019s own unless a cache says otherwise, and a cache\u2019s ranks are not bound by it', () => {
    const defaults = resolveCacheOptions({ compression: 8 }, SHAPE);
    expect(resolveCacheOptions({}, SHAPE, defaults).target).toEqual(defaults.target);
    expect(resolveCacheOptions({ spend: 'energy' }, SHAPE, defaults).target).toMatchObject({ compression: 8, spend: 'energy' });
    expect(resolveCacheOptions({ rank: 4 }, SHAPE, defaults)).not.toHaveProperty('target');
    expect(resolveCacheOptions({ bits: 4 }, SHAPE, defaults).rank).toEqual({ keys: 48, values: 48 });
    const ranks = resolveCacheOptions({ rank: 7 }, SHAPE);
    expect(resolveCacheOptions({ compression: 3 }, SHAPE, ranks).target).toMatchObject({ compression: 3 });
    expect(resolveCacheOptions({}, SHAPE, ranks).rank).toEqual({ keys: 7, values: 7 });
  });

  test('brings mixed columns and a float16 window along where they can be', () => {
    expect(presetGraph({ compression: 8 }, true)).toEqual({ codes: 'mixed', basis: 'mixed', window: 'float16' });
    expect(presetGraph({ budget: 8 }, false)).toEqual({ codes: 'float16', basis: 'float16', window: 'float16' });
    expect(presetGraph({ rank: 8 }, true)).toEqual({});
  });
});

test('the paper\u2019s preset is its ranks, a basis for each image and float16', () => {
  const options = presetCache({ preset: 'paper' });
  expect(resolveCacheOptions(options, WIDE)).toMatchObject({ rank: { keys: 64, values: 64 }, basisPer: 'image', preset: 'paper' });
  expect(resolveCacheOptions(options, SHAPE).rank).toEqual({ keys: 48, values: 48 });
  expect(presetGraph(options, true)).toEqual({ rotary: 'rotate-late', codes: 'float16', basis: 'float16', window: 'float16' });
});
