/** The pure parts of the benchmark: order of the rounds, rows, promises, and formulas held against the cache's own byte count. */
import { describe, expect, test } from 'vitest';
import { makeCard } from '../bench/card.ts';
import { OPPONENTS } from '../bench/opponents/index.ts';
import { denseBytes } from '../bench/opponents/opponent.ts';
import { IMAGE_TOKENS, spansOf } from '../bench/opponents/packed.ts';
import { plan, type Run, secondsLeft, toRows, verdicts } from '../bench/plan.ts';
import { footprint } from '../src/cache/footprint.ts';
import type { BasisType, CodeType, ModelShape, WindowType } from '../src/shape.ts';

const SHAPE: ModelShape = {
  windowType: 'float32',
  layers: [0, 1, 2].map((index) => ({ index, numHeads: 9, numKvHeads: 3, headDim: 64, rotary: 'inside' })),
};

const run = (opponent: string, context: number, round: number, stepMs: number[], peakBytes: number): Run => ({
  opponent,
  context,
  round,
  stepMs,
  peakBytes,
  peakOpenBytes: peakBytes,
  cacheBytes: 1,
  compactMs: 0,
  openMs: 0,
  totalMs: 1000,
});

describe('plan', () => {
  test('the order of opponents is reversed in each round, contexts stay together, short ones first', () => {
    const jobs = plan(['a', 'b', 'c'], [2048, 512], 3);
    expect(jobs.map(({ opponent, context, round }) => `${context}${opponent}${round}`).join(' ')).toBe(
      '512a0 512b0 512c0 512c1 512b1 512a1 512a2 512b2 512c2 2048a0 2048b0 2048c0 2048c1 2048b1 2048a1 2048a2 2048b2 2048c2',
    );
  });

  test('time left follows the same row of earlier rounds, else the mean', () => {
    const runs = [run('a', 512, 0, [1], 1), { ...run('b', 512, 0, [1], 1), totalMs: 5000 }];
    expect(secondsLeft(plan(['a', 'b'], [512], 1), runs)).toBe(6);
    expect(secondsLeft(plan(['c'], [512], 1), runs)).toBe(3);
  });
});

describe('rows', () => {
  test('steps of all rounds make one median, held against stock of the same context', () => {
    const rows = toRows([
      run('stock', 8192, 0, [40, 44, 42], 1000),
      run('packed', 8192, 0, [2, 2, 9], 200),
      run('packed', 8192, 1, [2, 3, 2], 240),
      run('packed', 512, 0, [1], 100),
    ]);
    const row = rows.find(({ opponent, context }) => opponent === 'packed' && context === 8192);
    expect(row).toMatchObject({ steps: 6, medianMs: 2, minMs: 2, maxMs: 9, roundMs: [2, 2], timesFaster: 21, peakShare: 0.24 });
    expect(rows.find(({ context }) => context === 512)?.timesFaster).toBeUndefined();
    expect(verdicts('mha-1.7b', rows).map(({ kept }) => kept)).toEqual([true, true]);
    expect(verdicts('mha-1.7b-4l', rows)).toEqual([]);
  });
});

describe('card', () => {
  test('spans cover all tokens but 64, whatever the context', () => {
    for (const context of [80, 512, 2048, 8192]) {
      for (const kind of ['image', 'context'] as const) {
        const spans = spansOf(kind, context);
        expect(spans.reduce((sum, { start, end }) => sum + end - start, 0)).toBe(context - 64);
        expect(Math.max(...spans.map(({ start, end }) => end - start))).toBeLessThanOrEqual(kind === 'image' ? IMAGE_TOKENS : context);
      }
    }
    expect(spansOf('none', 512)).toEqual([]);
  });

  interface Held {
    readonly span?: 'context';
    readonly keys?: number;
    readonly values?: number;
    readonly codes?: CodeType;
    readonly basis?: BasisType;
    readonly window?: WindowType;
  }
  const VARIANTS: readonly (readonly [string, Held])[] = [
    ['packed', {}],
    ['packed-int8', { codes: 'int8' }],
    ['packed-half', { codes: 'float16', basis: 'float16', window: 'float16' }],
    ['packed-span', { span: 'context', keys: 96, values: 48 }],
    ['packed-late', {}],
    ['packed-context', {}],
  ];
  test('every opponent that packs is held against the formula', () => {
    const packing = OPPONENTS.map(({ name }) => name).filter((name) => name.startsWith('packed'));
    expect(VARIANTS.map(([name]) => name).sort()).toEqual(packing.sort());
  });

  test.each(VARIANTS)('bytes read by %s equal the footprint of its extents', (name, held) => {
    const { span = 'image', keys = 64, values = 64, codes = 'float32', basis = 'float32', window = 'float32' } = held;
    const shape = { ...SHAPE, windowType: window };
    for (const context of [512, 2048, 8192]) {
      const spans = spansOf(span, context);
      const extents = {
        batch: 1,
        windowRows: 64,
        segments: spans.length,
        segmentTokens: Math.max(...spans.map(({ start, end }) => end - start)),
        sides: SHAPE.layers.map(() => ({ keys: { rank: keys }, values: { rank: values } })),
        pendingTokens: 0,
        tokenCapacity: 0,
      };
      const cost = OPPONENTS.find((opponent) => opponent.name === name)?.cost(SHAPE, context);
      expect(cost?.cacheBytes).toBe(footprint(shape, { codes, basis }, extents).total);
    }
  });

  test('the dense rows count every token in float32', () => {
    const [stock, window] = ['stock', 'dense-window'].map((name) =>
      OPPONENTS.find((opponent) => opponent.name === name)?.cost(SHAPE, 1000),
    );
    expect(stock?.cacheBytes).toBe(3 * 2 * 4 * 1000 * 192);
    expect(window?.cacheBytes).toBe(denseBytes(SHAPE, 1000) + 8 * 1000);
  });

  test('the floor is set by whatever takes longer, reading or computing', () => {
    const facts = { shape: SHAPE, weightBytes: 1e9, weightFlops: 1e9, fileBytes: 1e9 };
    const [stock] = OPPONENTS;
    const floor = (bandwidth: number, gemmRate: number): number | undefined =>
      makeCard(facts, { bandwidth, gemmRate }, stock ? [stock] : [], [0]).floors[0]?.floorMs;
    expect(floor(1e10, 1e12)).toBeCloseTo(100);
    expect(floor(1e12, 1e9)).toBeCloseTo(1000);
  });
});
