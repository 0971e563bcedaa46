/** Peak memory while a prompt is read: with `compactAt: 'span'` what is dense does not grow with the prompt, be it images or text. */
import { describe, expect, test } from 'vitest';
import type { PackedGraph } from '../../src/cache/feeds.ts';
import { roundUp } from '../../src/cache/window.ts';
import { PACKED_SLOTS, WINDOW_SLOTS } from '../../src/contract.ts';
import { BASIS_PER, type CacheOptions, COMPACT_AT, resolveCacheOptions } from '../../src/options.ts';
import { chunkEnds, type Span } from '../../src/prefill.ts';
import { ROTARY_MODES, type RotaryMode } from '../../src/shape.ts';
import { CacheStore } from '../../src/store.ts';
import { decoderOutputs, FIRST_COLUMNS } from './plain-store.ts';

const LAYER = { numHeads: 2, numKvHeads: 2, headDim: 4, rotary: 'inside' } as const;
const IMAGE = 40;
const CHUNK = 32;
const SINK = 4;
const TEXT = { every: 24, recent: 16 };
/** Bytes of a token in the window, both sides of two layers and its slot; and of its raw keys and position. */
const ROW = 2 * 2 * 8 * 4 + 8;
const RAW = 2 * 8 * 4 + 4;

const graph = (rotary: RotaryMode): PackedGraph => ({
  shape: {
    layers: [
      { index: 0, ...LAYER },
      { index: 1, ...LAYER },
    ],
    windowType: 'float32',
  },
  rotary,
  codes: 'float32',
  basis: 'float32',
  emptyTensors: true,
});

interface Peaks {
  /** Window and raw keys. */
  readonly dense: number;
  readonly total: number;
  readonly final: number;
}

/** Reads a prompt in chunks and looks at every buffer before and after each time something is packed. */
async function read(options: CacheOptions, spans: readonly Span[], numTokens: number, rotary: RotaryMode, steps = 0): Promise<Peaks> {
  const of = graph(rotary);
  const store = new CacheStore(of, resolveCacheOptions({ chunk: CHUNK, sink: SINK, rank: 2, ...options }, of.shape), () =>
    Promise.resolve(FIRST_COLUMNS),
  );
  let [dense, total] = [0, 0];
  const look = (): void => {
    const bytes = store.footprint();
    expect(store.heldBytes()).toBe(bytes.total);
    const rows = bytes.window + 8 * store.extents().windowRows + bytes.pending;
    [dense, total] = [Math.max(dense, rows), Math.max(total, bytes.total)];
  };
  const run = async (spans: readonly Span[], numNew: number): Promise<void> => {
    const mask = [new Array<number>(numNew).fill(1)];
    store.begin(1, [spans], mask);
    look();
    let from = 0;
    for (const to of chunkEnds(numNew, [spans], store.options.chunk, store.options.compactAt)) {
      const part = [mask[0]?.slice(from, to) ?? []];
      store.append(decoderOutputs(of.shape, 1, store.numSlots, to - from), part, [part[0]?.map(() => 7) ?? []]);
      look();
      await store.compact();
      look();
      from = to;
    }
    store.endRun();
  };
  await run(spans, numTokens);
  for (let n = 0; n < steps; n++) await run([], 1);
  return { dense, total, final: store.heldBytes() };
}

/** Images with three tokens of text between them. */
function album(numImages: number): { spans: Span[]; numTokens: number } {
  const spans = Array.from({ length: numImages }, (_, i) => ({ start: 10 + i * (IMAGE + 3), end: 10 + i * (IMAGE + 3) + IMAGE }));
  return { spans, numTokens: 10 + numImages * (IMAGE + 3) };
}

/** What may be dense at once, in bytes: `tokens` rows in a window that grows by a quarter, and raw keys of as many. */
const bound = (tokens: number, rotary: RotaryMode): number => roundUp(1.25 * tokens) * ROW + (rotary === 'post-rope' ? 0 : tokens * RAW);

test.each(COMPACT_AT.flatMap((compactAt) => BASIS_PER.map((basisPer) => ({ compactAt, basisPer }))))(
  'a prompt that fails half-way leaves none of its tokens behind, be they packed or not: %o',
  async (options) => {
    const of = graph('rotate-late');
    const open = (): CacheStore =>
      new CacheStore(of, resolveCacheOptions({ sink: SINK, rank: 2, text: { every: 6, recent: 5 }, ...options }, of.shape), () =>
        Promise.resolve(FIRST_COLUMNS),
      );
    const run = async (store: CacheStore, numNew: number, spans: readonly Span[], upTo = numNew): Promise<void> => {
      const mask = [new Array<number>(numNew).fill(1)];
      store.begin(1, [spans], mask);
      for (let at = 0; at < upTo; at += 10) {
        store.append(decoderOutputs(of.shape, 1, store.numSlots, 10), [new Array<number>(10).fill(1)], [new Array<number>(10).fill(7)]);
        await store.compact();
      }
      if (upTo === numNew) store.endRun();
    };
    const slotsOf = (store: CacheStore): number[] =>
      [PACKED_SLOTS, WINDOW_SLOTS]
        .flatMap((name) => Array.from(store.feeds()[name]?.data as BigInt64Array, Number))
        .filter((slot) => slot >= 0)
        .sort((a, b) => a - b);
    const store = open();
    await run(store, 40, [{ start: 10, end: 25 }]);
    const before = store.footprint();
    const spans = [
      { start: 5, end: 20 },
      { start: 33, end: 60 },
    ];
    await run(store, 90, spans, 50);
    store.abandon(40);
    expect(slotsOf(store)).toEqual(Array.from({ length: 40 }, (_, slot) => slot));
    expect([store.numSlots, store.packedSpans, store.packedTokens, store.numImages(0)]).toEqual([40, 1, 15, 1]);
    expect(store.heldBytes()).toBe(store.footprint().total);
    // Older text may have been packed meanwhile, which is no loss; but nothing waits that did not wait before.
    expect(store.footprint().pending).toBeLessThanOrEqual(before.pending);
    await run(store, 90, spans);
    expect(slotsOf(store)).toEqual(Array.from({ length: 130 }, (_, slot) => slot));
    expect(store.packedSpans).toBe(3);
    expect(store.heldBytes()).toBe(store.footprint().total);
    store.crop(0);
    expect(slotsOf(store)).toEqual([]);
    expect(store.footprint().codes + store.footprint().bases + store.footprint().pending).toBe(0);
  },
);

describe.each(ROTARY_MODES)('in %s', (rotary) => {
  test.each([{ basisPer: 'image' }, { basisPer: 'context', tolerance: 0 }] as const)(
    'of many images one is dense at a time, as of few, with text packed: %o',
    async (options) => {
      const dense: number[] = [];
      for (const numImages of [16, 64]) {
        const { spans, numTokens } = album(numImages);
        const peaks = await read({ ...options, compactAt: 'span', text: TEXT }, spans, numTokens, rotary);
        // One image, a chunk, text not old enough or not enough of it, and the sink.
        expect(peaks.dense).toBeLessThanOrEqual(bound(IMAGE + CHUNK + TEXT.recent + TEXT.every + SINK, rotary));
        expect(peaks.total).toBeLessThanOrEqual(peaks.final + peaks.dense);
        dense.push(peaks.dense);
      }
      expect(dense[1]).toBe(dense[0]);
    },
  );

  test('with dense text only that text grows', async () => {
    const { spans, numTokens } = album(64);
    const peaks = await read({ compactAt: 'span' }, spans, numTokens, rotary);
    const numText = numTokens - 64 * IMAGE;
    expect(peaks.dense).toBeLessThanOrEqual(bound(numText + IMAGE + CHUNK, 'post-rope') + (rotary === 'post-rope' ? 0 : IMAGE * RAW));
  });

  test('a prompt and an answer of text alone are packed block by block', async () => {
    for (const basisPer of ['image', 'context'] as const) {
      const dense: number[] = [];
      for (const numTokens of [200, 800]) {
        const peaks = await read({ basisPer, compactAt: 'span', text: TEXT }, [], numTokens, rotary, 200);
        expect(peaks.dense).toBeLessThanOrEqual(bound(CHUNK + TEXT.recent + TEXT.every + SINK, rotary));
        expect(peaks.total).toBeLessThanOrEqual(peaks.final + peaks.dense);
        dense.push(peaks.dense);
      }
      expect(dense[1]).toBe(dense[0]);
    }
  });

  test('with compactAt context all images of a prompt are dense at once, and then none', async () => {
    const { spans, numTokens } = album(16);
    const peaks = await read({ text: TEXT }, spans, numTokens, rotary);
    expect(peaks.dense).toBeGreaterThan(16 * IMAGE * ROW);
    expect(peaks.final).toBeLessThan(peaks.dense / 2);
  });
});
