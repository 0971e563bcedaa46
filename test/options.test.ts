import { describe, expect, test } from 'vitest';
import { AttentionPackError } from '../src/index.ts';
import { type CacheOptions, checkGraphOptions, needsMass, type ResolvedCacheOptions, resolveCacheOptions } from '../src/options.ts';
import { POLICY_NAMES } from '../src/policies/index.ts';
import type { ModelShape } from '../src/shape.ts';

const layer = (index: number, numKvHeads: number, headDim: number) => ({
  index,
  numHeads: 8,
  numKvHeads,
  headDim,
  rotary: 'inside' as const,
});
const shape: ModelShape = { layers: [layer(0, 2, 64), layer(1, 1, 48)], windowType: 'float32' };

describe('eviction', () => {
  const evict = (options: object) => resolveCacheOptions({ evict: options as never }, shape).evict;

  test('has defaults for all but policy and keep', () => {
    expect(evict({ policy: 'h2o', keep: 0.25 })).toEqual({
      policy: 'h2o',
      keep: 0.25,
      when: 'prefill',
      of: 'images',
      per: 'context',
      sink: 4,
      recent: 0,
      queries: 32,
      layer: 2,
      seed: 0,
    });
    expect(evict({ policy: 'fastv', keep: 9, of: 'all' })).toMatchObject({ recent: 32 });
  });

  test('is the model’s own unless a cache says otherwise', () => {
    const defaults = resolveCacheOptions({ evict: { policy: 'random', keep: 3 } }, shape);
    expect(resolveCacheOptions({}, shape, defaults).evict).toMatchObject({ policy: 'random' });
    expect(resolveCacheOptions({ evict: false }, shape, defaults).evict).toBe(false);
  });

  test('tells which policies go by attention', () => {
    const names = POLICY_NAMES.filter((policy) => needsMass({ policy, keep: 1 }));
    expect(names).toEqual(['h2o', 'snapkv', 'fastv', 'importance']);
    expect(needsMass(false)).toBe(false);
  });

  test.each([
    [{ policy: 'h20', keep: 1 }, "evict.policy must be one of h2o, snapkv, streaming-llm, key-norm, fastv, importance, random; got 'h20'"],
    [{ policy: 'h2o' }, 'evict.keep must be a share between 0 and 1 or a whole number of tokens >= 1, got undefined'],
    [{ policy: 'h2o', keep: 0 }, 'evict.keep must be a share between 0 and 1 or a whole number of tokens >= 1, got 0'],
    [{ policy: 'h2o', keep: 2.5 }, 'evict.keep must be a share between 0 and 1 or a whole number of tokens >= 1, got 2.5'],
    [{ policy: 'h2o', keep: '0.5' }, "evict.keep must be a share between 0 and 1 or a whole number of tokens >= 1, got '0.5'"],
    [{ policy: 'fastv', keep: 1, layer: 3 }, "evict.layer 3 exceeds the model's 2 layers; use 1 to 2"],
    [{ policy: 'h2o', keep: 1, of: 'all', per: 'image' }, "evict.per 'image' needs evict.of 'images', got 'all'; text belongs to no image"],
    [{ policy: 'h2o', keep: 1, when: 'decode' }, "evict.when must be one of prefill, packing, always, asked; got 'decode'"],
  ])('refuses %o', (options, message) => {
    expect(() => evict(options)).toThrow(new AttentionPackError(message));
  });
});

describe('tiers', () => {
  const tiers = (options: object, rank = 8) => resolveCacheOptions({ rank, tiers: options as never }, shape).tiers;

  test('have defaults for all but share and rank, and are the model’s own unless a cache says otherwise', () => {
    expect(tiers({ share: 0.25, rank: 2 })).toEqual({ share: 0.25, rank: { keys: 2, values: 2 }, of: 'both', every: 8 });
    expect(tiers({ share: 1, rank: { keys: 99, values: 3 }, of: 'values' })).toMatchObject({ rank: { keys: 99, values: 3 } });
    const defaults = resolveCacheOptions({ rank: 8, tiers: { share: 0.5, rank: 4 } }, shape);
    expect(resolveCacheOptions({}, shape, defaults).tiers).toMatchObject({ share: 0.5 });
    expect(resolveCacheOptions({ tiers: false }, shape, defaults).tiers).toBe(false);
    expect(() => resolveCacheOptions({ rank: 3 }, shape, defaults)).toThrow('tiers.rank 4 exceeds the 3 columns that rank keeps of keys');
  });

  test.each([
    [{ rank: 2 }, 'tiers.share must be a number above 0 and at most 1, got undefined'],
    [{ share: 0, rank: 2 }, 'tiers.share must be a number above 0 and at most 1, got 0'],
    [{ share: '1', rank: 2 }, "tiers.share must be a number above 0 and at most 1, got '1'"],
    [{ share: 0.5 }, 'tiers.rank of keys must be a whole number >= 1, got undefined'],
    [{ share: 0.5, rank: { keys: 1, values: 0 } }, 'tiers.rank of values must be a whole number >= 1, got 0'],
    [{ share: 0.5, rank: 9 }, 'tiers.rank 9 exceeds the 8 columns that rank keeps of keys; use tiers.rank <= 8'],
    [{ share: 0.5, rank: 2, of: 'all' }, "tiers.of must be one of both, keys, values; got 'all'"],
    [{ share: 0.5, rank: 2, every: 0 }, 'tiers.every must be a whole number >= 1, got 0'],
  ])('refuse %o', (options, message) => {
    expect(() => tiers(options)).toThrow(new AttentionPackError(message));
  });
});

describe('options of a cache', () => {
  test('left out are the paper’s, with the rank of the narrowest layer where that is less', () => {
    expect(resolveCacheOptions({}, shape)).toEqual({
      rank: { keys: 48, values: 48 },
      compactAt: 'context',
      basisPer: 'image',
      bases: 'plain',
      tolerance: 0.02,
      sink: 4,
      recent: 0,
      chunk: 256,
      seed: 0,
      text: false,
      evict: false,
      tiers: false,
    });
    expect(resolveCacheOptions({}, { ...shape, layers: [layer(0, 32, 128)] }).rank).toEqual({ keys: 64, values: 64 });
  });

  test('left out or undefined are the model’s own, where it has some', () => {
    const defaults = resolveCacheOptions({ rank: 7, chunk: 9, sink: 0, compactAt: 'span' }, shape);
    expect(resolveCacheOptions({ rank: undefined as never, recent: 3 }, shape, defaults)).toEqual({ ...defaults, recent: 3 });
  });

  test('pack text with 128 newest tokens dense, or as many as are said of text or of all', () => {
    const textOf = (options: CacheOptions, defaults?: ResolvedCacheOptions): unknown => resolveCacheOptions(options, shape, defaults).text;
    expect(textOf({ text: 'packed' })).toEqual({ every: 128, recent: 128 });
    expect(textOf({ text: 'packed', recent: 16 })).toEqual({ every: 128, recent: 16 });
    expect(textOf({ text: { every: 32 }, recent: 0 })).toEqual({ every: 32, recent: 0 });
    expect(textOf({ text: { recent: 9 }, recent: 16 })).toEqual({ every: 128, recent: 9 });
    const defaults = resolveCacheOptions({ text: { every: 5 } }, shape);
    expect(textOf({ recent: 3 }, defaults)).toEqual({ every: 5, recent: 128 });
    expect(textOf({ text: 'dense' }, defaults)).toBe(false);
  });

  test('take one rank for both sides, or one each', () => {
    expect(resolveCacheOptions({ rank: 5 }, shape).rank).toEqual({ keys: 5, values: 5 });
    expect(resolveCacheOptions({ rank: { keys: 48, values: 1 } }, shape).rank).toEqual({ keys: 48, values: 1 });
  });

  test.each([
    [{ rank: 49 }, "rank 49 exceeds the 48 columns of layer 1's keys; use rank <= 48"],
    [{ rank: { keys: 1, values: 200 } }, "rank 200 exceeds the 128 columns of layer 0's values; use rank <= 128"],
    [{ rank: Number.NaN }, 'rank of keys must be a whole number >= 1, got NaN'],
    [{ rank: '64' as never }, "rank of keys must be a whole number >= 1, got '64'"],
    [{ rank: { keys: 3 } as never }, 'rank of values must be a whole number >= 1, got undefined'],
    [{ sink: 0.5 }, 'sink must be a whole number >= 0, got 0.5'],
    [{ recent: -2 }, 'recent must be a whole number >= 0, got -2'],
    [{ chunk: Number.POSITIVE_INFINITY }, 'chunk must be a whole number >= 1, got Infinity'],
    [{ bits: 9 }, 'bits must be a number from 1 to 8, got 9'],
    [{ bits: '4' as never }, "bits must be a number from 1 to 8, got '4'"],
    [{ bits: 3, spread: 'even' } as const, "bits must be 8, 4 or 2 where spread is 'even', got 3"],
    [{ bits: 3, rank: 2 }, '3 bits a column of rank 2 are less than a byte a token; use bits >= 4 or a higher rank'],
    [{ spread: 'flat' as never }, "spread must be one of energy, even; got 'flat'"],
    [{ text: 'all' as never }, "text must be one of dense, packed; got 'all'"],
    [{ text: null as never }, "text must be one of dense, packed; got 'null'"],
    [{ text: { every: 0 } }, 'text.every must be a whole number >= 1, got 0'],
    [{ text: { recent: -1 } }, 'text.recent must be a whole number >= 0, got -1'],
    [{ seed: -1 }, 'seed must be a whole number >= 0, got -1'],
    [{ compactAt: 'image' as never }, "compactAt must be one of context, span; got 'image'"],
    [{ bases: 'best' as never }, "bases must be one of plain, weighted; got 'best'"],
    [{ basisPer: 'context', compactAt: 'span', tolerance: 1 } as const, 'tolerance must be a share from 0 to below 1, got 1'],
    [
      { tolerance: 0.1 },
      "tolerance is of a basis that grows, which needs basisPer 'context' and compactAt 'span'; got 'image' and 'context'",
    ],
  ])('refuse %o with the value and what is allowed', (options, message) => {
    expect(() => resolveCacheOptions(options, shape)).toThrow(new AttentionPackError(message));
  });
});

test.each([
  [{ rotary: 'late' }, "rotary must be one of rotate-late, m-rope, post-rope; got 'late'"],
  [{ codes: 'int4' }, "codes must be one of float32, float16, int8, mixed; got 'int4'"],
  [{ basis: 'int4' }, "basis must be one of float32, float16, int8, mixed; got 'int4'"],
  [{ tiered: 1 }, "tiered must be true or false; got '1'"],
  [{ window: 'int8' }, "window must be one of float32, float16; got 'int8'"],
])('graph options refuse %o', (options, message) => {
  expect(() => checkGraphOptions(options as never)).toThrow(new AttentionPackError(message));
});
