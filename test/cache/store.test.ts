/** CacheStore against its plain twin: random sequences of runs, packing and cropping, over everything a cache can be made of. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { PackedGraph } from '../../src/cache/feeds.ts';
import { isMixed } from '../../src/cache/format.ts';
import {
  codesName,
  codeWidthsName,
  MASS_QUERIES,
  orderName,
  PACKED_POSITIONS,
  PACKED_SLOTS,
  WINDOW_SLOTS,
  windowName,
} from '../../src/contract.ts';
import { fromFloat16 } from '../../src/encode/quantise.ts';
import {
  BASIS_PER,
  COMPACT_AT,
  EVICT_OF,
  EVICT_PER,
  EVICT_WHEN,
  isGrowing,
  type ResolvedCacheOptions,
  type ResolvedEviction,
} from '../../src/options.ts';
import { Tensor } from '../../src/ort.ts';
import { chunkEnds, type Span } from '../../src/prefill.ts';
import { BASIS_TYPES, CODE_TYPES, type ModelShape, packsRawKeys, ROTARY_MODES } from '../../src/shape.ts';
import { CacheStore } from '../../src/store.ts';
import { TIERS_OF } from '../../src/tier-options.ts';
import { withoutTiers } from '../support/plain-tiers.ts';
import { readPlain } from '../support/read-mixed.ts';
import { cell, decoderOutputs, FIRST_COLUMNS, massOutputs, PlainStore } from './plain-store.ts';

/** Layers of different widths, numbered as in a hybrid model. */
const LAYERS = [
  { index: 0, numHeads: 2, numKvHeads: 2, headDim: 2, rotary: 'inside' },
  { index: 3, numHeads: 4, numKvHeads: 1, headDim: 6, rotary: 'inside' },
] as const;

const graphs: fc.Arbitrary<PackedGraph> = fc
  .record({
    shape: fc.constantFrom('float32' as const, 'float16' as const).map((windowType): ModelShape => ({ layers: LAYERS, windowType })),
    rotary: fc.constantFrom(...ROTARY_MODES),
    codes: fc.constantFrom(...CODE_TYPES),
    basis: fc.constantFrom(...BASIS_TYPES),
    mass: fc.constant(true),
    emptyTensors: fc.boolean(),
    tiered: fc.boolean(),
  })
  // Providers without empty tensors refuse mixed ones, and tiers, which neither mixed ones nor m-rope have.
  .map((graph) => (isMixed(graph) ? { ...graph, emptyTensors: true } : graph))
  .map((graph) => ({ ...graph, tiered: graph.tiered && graph.emptyTensors && !isMixed(graph) && graph.rotary !== 'm-rope' }));

/** Policies whose scores the twin counts on its own. */
const rules: fc.Arbitrary<ResolvedEviction> = fc
  .record({
    policy: fc.constantFrom('h2o', 'snapkv', 'fastv', 'streaming-llm', 'key-norm'),
    keep: fc.oneof(fc.integer({ min: 1, max: 12 }), fc.constantFrom(0.25, 0.5, 0.8)),
    when: fc.constantFrom(...EVICT_WHEN),
    of: fc.constantFrom(...EVICT_OF),
    per: fc.constantFrom(...EVICT_PER),
    sink: fc.integer({ min: 0, max: 3 }),
    recent: fc.integer({ min: 0, max: 3 }),
    queries: fc.constant(3),
    layer: fc.constant(2),
    seed: fc.constant(0),
  })
  .filter(({ of, per }) => of === 'images' || per === 'context');

const settings: fc.Arbitrary<ResolvedCacheOptions> = fc.record({
  rank: fc.record({ keys: fc.integer({ min: 1, max: 4 }), values: fc.integer({ min: 1, max: 4 }) }),
  compactAt: fc.constantFrom(...COMPACT_AT),
  basisPer: fc.constantFrom(...BASIS_PER),
  sink: fc.integer({ min: 0, max: 5 }),
  recent: fc.constantFrom(0, 0, 3, 9),
  chunk: fc.constantFrom(1, 4, 7, 100),
  seed: fc.constant(0),
  // Blocks of at least four tokens have every rank drawn above, however they are cut.
  text: fc.oneof(fc.constant(false as const), fc.record({ every: fc.constantFrom(4, 6, 20), recent: fc.constantFrom(0, 1, 5) })),
  evict: fc.oneof(fc.constant(false as const), rules),
  tiers: fc.option(
    fc.record({
      share: fc.constantFrom(0.01, 0.25, 0.5, 0.9, 1),
      rank: fc.constantFrom({ keys: 1, values: 1 }, { keys: 2, values: 3 }),
      of: fc.constantFrom(...TIERS_OF),
      every: fc.constantFrom(1, 3),
    }),
    { nil: false as const },
  ),
  bits: fc.constant(8),
  // Not by energy: a first segment of one or two tokens is exact in few bits, and later ones would have to do with those.
  spread: fc.constant('even'),
});

/** New tokens of every sequence: gaps of text and images by turns, and how much of the first run is padding. */
interface Run {
  readonly kind: 'run';
  readonly rows: readonly { readonly padding: number; readonly parts: readonly number[] }[];
}
interface Crop {
  readonly kind: 'crop';
  /** Share of the tokens to keep. */
  readonly share: number;
}
/** Eviction by the cache's own rule, but of another number. */
interface Evict {
  readonly kind: 'evict';
  readonly keep: number;
}

const operations = (batch: number): fc.Arbitrary<readonly (Run | Crop | Evict)[]> => {
  const row = fc.record({
    padding: fc.integer({ min: 0, max: 6 }),
    parts: fc.array(fc.integer({ min: 0, max: 7 }), { minLength: 1, maxLength: 5 }),
  });
  const run = fc.record({ kind: fc.constant('run' as const), rows: fc.array(row, { minLength: batch, maxLength: batch }) });
  const crop = fc.record({ kind: fc.constant('crop' as const), share: fc.double({ min: 0.2, max: 1, noNaN: true }) });
  const evict = fc.record({ kind: fc.constant('evict' as const), keep: fc.constantFrom(1, 4, 0.4, 0.7) });
  const some = [
    { weight: 4, arbitrary: run },
    { weight: 1, arbitrary: crop },
    { weight: 1, arbitrary: evict },
  ];
  return fc.array(fc.oneof(...some), { minLength: 1, maxLength: 6 });
};

/** Masks and spans of a run; rows are filled up with text to one length. */
function tokensOf({ rows }: Run, isFirst: boolean): { mask: number[][]; spans: Span[][] } {
  const spans = rows.map(({ padding, parts }) => {
    const found: Span[] = [];
    let at = isFirst ? padding : 0;
    parts.forEach((length, i) => {
      if (i % 2 && length) found.push({ start: at, end: at + length });
      at += length;
    });
    return { found, end: at };
  });
  const numTokens = Math.max(1, ...spans.map(({ end }) => end));
  // Sequences are padded on the left: what is missing at the end moves to the front, in the first run.
  const shifts = spans.map(({ end }) => (isFirst ? numTokens - end : 0));
  return {
    mask: rows.map(({ padding }, b) => Array.from({ length: numTokens }, (_, n) => (isFirst && n < padding + (shifts[b] ?? 0) ? 0 : 1))),
    spans: spans.map(({ found }, b) => found.map(({ start, end }) => ({ start: start + (shifts[b] ?? 0), end: end + (shifts[b] ?? 0) }))),
  };
}

function numbers(tensor: Tensor): Float32Array {
  if (tensor.type === 'float16') {
    const { buffer, byteOffset, length } = tensor.data as Uint16Array;
    return fromFloat16(new Uint16Array(buffer as ArrayBuffer, byteOffset, length));
  }
  return Float32Array.from(tensor.data as Float32Array);
}

/** Slots of sequence b in a feed [B, any]. */
function slotsIn({ data, dims: [, width = 0] }: Tensor, b: number): number[] {
  return Array.from((data as BigInt64Array).subarray(b * width, (b + 1) * width), Number);
}

/** Tokens of a chunk [from, to) of `numTokens` new ones whose attention counts: all, or of SnapKV's the last three. */
function countedBy(rule: ResolvedEviction | false | undefined, from: number, to: number, numTokens: number): number {
  const { policy } = rule || {};
  if (policy !== 'snapkv' || numTokens === 1) return to - from;
  return Array.from({ length: to - from }, (_, n) => from + n).filter((n) => n >= numTokens - 3).length;
}

/** Fails unless every token of the twin is readable from the feeds exactly once, where it belongs, with its numbers. */
function expectSame(store: CacheStore, plain: PlainStore): void {
  const { graph, options } = store;
  const { feeds, seconds } = graph.tiered ? withoutTiers(graph.shape, store.feeds()) : { feeds: store.feeds(), seconds: [] };
  const read = (name: string): Tensor => feeds[name] as Tensor;
  const slots = (name: string, b: number): number[] => slotsIn(read(name), b);
  expect(store.numSlots).toBe(plain.numSlots);
  const evicted = plain.sequences.flatMap((tokens) => tokens.filter(({ isEvicted }) => isEvicted));
  expect(store.numEvicted().tokens).toBe(evicted.length);
  const packed = plain.sequences.flatMap((tokens) => tokens.filter(({ isEvicted, segment }) => segment !== undefined && !isEvicted));
  expect(store.packedTokens).toBe(packed.filter(({ isText }) => !isText).length);
  expect(store.packedText).toBe(packed.filter(({ isText }) => isText).length);
  for (const [b, tokens] of plain.sequences.entries()) {
    const real = tokens.filter((token) => !token.isPadding && !token.isEvicted);
    const [inWindow, inSegments] = [slots(WINDOW_SLOTS, b), slots(PACKED_SLOTS, b)];
    const places = (found: number[]): number[] => found.filter((slot) => slot >= 0).sort((x, y) => x - y);
    expect(places(inWindow)).toEqual(real.filter((token) => token.segment === undefined).map((token) => token.slot));
    expect(places(inSegments)).toEqual(real.filter((token) => token.segment !== undefined).map((token) => token.slot));
    graph.shape.layers.forEach(({ index, numKvHeads, headDim }, l) => {
      for (const side of ['key', 'value'] as const) {
        const dense = numbers(read(windowName(index, side)));
        const { rank, codes, basis } = readPlain(feeds, index, side, graph);
        const [, numSegments = 0, numTokens = 0] = read(codesName(index, side)).dims;
        // Mixed columns are shared out by the first segments packed; what comes later has no more of them.
        const most = isMixed(graph) ? rank : Number.POSITIVE_INFINITY;
        const widths = graph.codes === 'mixed' ? (feeds[codeWidthsName(index, side)]?.data as BigInt64Array | undefined) : undefined;
        const fewBits = widths?.slice(1).some((numBytes) => numBytes > 0n) ?? false;
        const packedKind = side === 'value' ? 'value' : packsRawKeys(graph.rotary) ? 'raw' : 'key';
        for (const { slot, segment, position } of real) {
          const at = segment === undefined ? inWindow.indexOf(slot) : inSegments.indexOf(slot);
          if (segment !== undefined && packsRawKeys(graph.rotary)) expect(slots(PACKED_POSITIONS, b)[at]).toBe(position);
          const alone = segment === undefined ? 0 : (plain.segmentTokens[segment] as number);
          const together = isGrowing(options) ? Number.POSITIVE_INFINITY : alone;
          const of = side === 'key' ? 'keys' : 'values';
          const isSecond = segment !== undefined && seconds[l]?.has(b * inSegments.length + at);
          const lead =
            isSecond && options.tiers && ['both', of].includes(options.tiers.of) ? options.tiers.rank[of] : Number.POSITIVE_INFINITY;
          const kept = Math.min(options.rank[of], together, numKvHeads * headDim, most, lead);
          for (let column = 0; column < numKvHeads * headDim; column++) {
            const [h, d] = [Math.floor(column / headDim), column % headDim];
            if (segment === undefined) {
              const found = dense[((b * numKvHeads + h) * inWindow.length + at) * headDim + d];
              if (found !== cell(l, side, b, slot, column)) expect(found).toBe(cell(l, side, b, slot, column));
              continue;
            }
            const m = b * numSegments + Math.floor(at / numTokens);
            let found = 0;
            for (let r = 0; r < rank; r++) {
              const code = codes[(m * numTokens + (at % numTokens)) * rank + r] as number;
              found += code * (basis[((m * numKvHeads + h) * rank + r) * headDim + d] as number);
            }
            const wanted = column < kept ? cell(l, packedKind, b, slot, column) : 0;
            // int8 steps are at most 99 / 127 and those of 8 bits 198 / 255, so codes are off by half of that; a basis in half precision rounds the step once
            // more. Rows of a 0 or 1 are exact in levels, but for float32 steps and zeros: 99 times some 2^-22.
            const tolerance = fewBits
              ? 70 // A split by energy gives two bits to columns that these hold exactly, as those of two tokens; later ones have to do with it.
              : graph.codes === 'int8' || graph.codes === 'mixed'
                ? 0.5
                : graph.basis === 'int8' || graph.basis === 'mixed'
                  ? 1e-3
                  : 0;
            if (!(Math.abs(found - wanted) <= tolerance)) expect(found, `${side} ${column} of slot ${slot}`).toBe(wanted);
          }
        }
      }
    });
  }
}

/** Attention as a graph with tiers tells it: packed columns in each layer's own order. */
function inOrder(graph: PackedGraph, feeds: Record<string, Tensor>, masses: Record<string, Tensor>): Record<string, Tensor> {
  if (!graph.tiered) return masses;
  return Object.fromEntries(
    Object.entries(masses).map(([name, { data, dims }]) => {
      const order = feeds[orderName(Number(name.split('.').at(-1)))]?.data as Int32Array;
      const [batch = 1, width = 0] = dims;
      const perSequence = order.length / batch;
      const told = (data as Float32Array).map((value, i) => {
        const [b, column] = [Math.floor(i / width), i % width];
        if (column >= perSequence) return value;
        return data[b * width + (order[b * perSequence + column] as number) - b * perSequence] as number;
      });
      return [name, new Tensor('float32', told, dims)];
    }),
  );
}

/** Fails unless formula, the cache's own count and a count of the buffers behind the feeds agree. */
function expectBytes(store: CacheStore, plain: PlainStore): void {
  const { graph } = store;
  const formula = store.footprint();
  expect(store.heldBytes()).toBe(formula.total);
  expect(formula.pending).toBe(packsRawKeys(graph.rotary) ? plain.pendingTokens * ((4 + 6) * 4 + 4) : 0);
  if (!graph.emptyTensors) return; // stand-ins for empty tensors are not the cache's
  const { segments: numPlaces } = store.extents();
  const own = Object.entries(store.feeds()).filter(([name]) => (numPlaces || !name.endsWith('_widths')) && !name.endsWith('_lead_rank')); // the widths of nothing are nobody's
  const buffers = new Set(own.map(([, tensor]) => (tensor.data as Float32Array).buffer));
  let fed = [...buffers].reduce((sum, buffer) => sum + buffer.byteLength, 0);
  const { batch, segments, segmentTokens, tokenCapacity } = store.extents();
  if (graph.rotary === 'post-rope') fed += 8 * batch * segments * segmentTokens; // positions are held, not fed
  expect(fed + 5 * batch * tokenCapacity + formula.pending + formula.watched).toBe(formula.total);
}

test('whatever is run, packed, evicted and cropped, a cache feeds each past token once, where and as its plain twin has it', {
  timeout: 60_000,
}, async () => {
  const cases = fc.integer({ min: 1, max: 3 }).chain((batch) => fc.tuple(fc.constant(batch), graphs, settings, operations(batch)));
  await fc.assert(
    fc.asyncProperty(cases, async ([batch, graph, drawn, steps]) => {
      const { bits: _, spread: __, ...unmixed } = drawn;
      const ofGraph = { ...(isMixed(graph) ? drawn : unmixed), tiers: graph.tiered && drawn.tiers };
      // Bases of levels do not grow.
      const isFloat = ![graph.codes, graph.basis].some((type) => type === 'int8' || type === 'mixed');
      const options = isGrowing(ofGraph) && !isFloat ? { ...ofGraph, basisPer: 'image' as const } : ofGraph;
      const store = new CacheStore(graph, options, () => Promise.resolve(FIRST_COLUMNS));
      const plain = new PlainStore(batch, options);
      for (const step of steps) {
        if (step.kind === 'crop') {
          const length = Math.ceil(step.share * plain.numSlots);
          if (plain.cuts(length)) expect(() => store.crop(length)).toThrow('packed together');
          else {
            store.crop(length);
            plain.crop(length);
          }
          if (store.batch === 0) continue;
        } else if (step.kind === 'evict') {
          if (!options.evict || store.batch === 0) continue;
          const rule = { ...options.evict, keep: step.keep };
          plain.evict(rule);
          const before = store.numEvicted().tokens;
          expect(store.evict(rule)).toBe(plain.sequences.flat().filter(({ isEvicted }) => isEvicted).length - before);
          expect(store.evict(rule)).toBe(0);
        } else {
          const { mask, spans } = tokensOf(step, plain.numSlots === 0);
          const numTokens = mask[0]?.length ?? 0;
          store.begin(batch, spans, mask);
          plain.begin(spans, mask);
          let from = 0;
          for (const to of chunkEnds(numTokens, spans, options.chunk, options.compactAt)) {
            const part = mask.map((row) => row.slice(from, to));
            const [at, feeds] = [store.numSlots, { ...store.feeds(), ...store.massQueries(to - from) }];
            const counted = Number(feeds[MASS_QUERIES]?.data[0] ?? 0);
            const columns = part.map((_, b) => [
              ...[PACKED_SLOTS, WINDOW_SLOTS].flatMap((name) => slotsIn(feeds[name] as Tensor, b)),
              ...Array.from({ length: to - from }, (_, n) => at + n),
            ]);
            const numQueries = part.map((row) => row.slice(row.length - counted).reduce((sum, visible) => sum + visible, 0));
            store.append(
              {
                ...decoderOutputs(graph.shape, batch, at, to - from),
                ...inOrder(graph, feeds, massOutputs(graph.shape, columns, at, numQueries)),
              },
              part,
              part.map((row) => row.map(() => 7)),
            );
            await store.compact();
            plain.append(part);
            plain.watch(graph.shape, at, countedBy(options.evict, from, to, numTokens), from === 0 && numTokens > 1);
            plain.compact(to === numTokens);
            from = to;
          }
          const isPrompt = plain.numSlots === numTokens || spans.some((row) => row.length);
          store.endRun();
          if (options.evict && (options.evict.when === 'always' || (options.evict.when === 'prefill' && isPrompt)))
            plain.evict(options.evict);
        }
        expectSame(store, plain);
        expectBytes(store, plain);
      }
      store.clear();
      expect(store.heldBytes()).toBe(0);
      expect(store.footprint().total).toBe(0);
    }),
    { numRuns: 120, seed: 4 },
  );
});
