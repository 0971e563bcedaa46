/** How text is grouped into segments: never in more bytes than any other number of even pieces takes, as the formula counts them. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { footprint } from '../../src/cache/footprint.ts';
import { openSpan, slotsOf } from '../../src/cache/spans.ts';
import { cheapestCut, dueText, textSpans, withText } from '../../src/cache/text.ts';
import { resolveCacheOptions } from '../../src/options.ts';
import type { ModelShape } from '../../src/shape.ts';
import { CacheStore } from '../../src/store.ts';
import { decoderOutputs, FIRST_COLUMNS } from './plain-store.ts';

const LAYER = { index: 0, numHeads: 2, numKvHeads: 2, rotary: 'inside' } as const;

test('text is cut into as many pieces as take the fewest bytes', () => {
  const held = fc.record({ segments: fc.integer({ min: 0, max: 20 }), tokens: fc.integer({ min: 1, max: 300 }) });
  const format = fc.record({ codes: fc.constantFrom('float32', 'float16', 'int8'), basis: fc.constantFrom('float32', 'float16') });
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 900 }),
      fc.integer({ min: 4, max: 200 }),
      held,
      format,
      fc.integer({ min: 2, max: 200 }),
      (numTokens, least, held, format, headDim) => {
        const shape: ModelShape = { layers: [{ ...LAYER, headDim }], windowType: 'float32' };
        const bytesIn = (numPieces: number): number => {
          const { codes, bases } = footprint(shape, format, {
            batch: 1,
            windowRows: 0,
            segments: held.segments + numPieces,
            segmentTokens: Math.max(held.tokens, Math.ceil(numTokens / numPieces)),
            sides: [{ keys: { rank: 4 }, values: { rank: 4 } }],
            pendingTokens: 0,
            tokenCapacity: 0,
          });
          return codes + bases;
        };
        const chosen = cheapestCut(numTokens, least, held, 2 * headDim, { ...format, bits: 4 });
        for (let other = 1; other <= Math.max(1, numTokens / least); other++) expect(bytesIn(chosen)).toBeLessThanOrEqual(bytesIn(other));
      },
    ),
    { seed: 3 },
  );
});

test('text is what is neither padding, sink nor image; the newest of it stays', () => {
  const shape: ModelShape = { layers: [{ ...LAYER, headDim: 2 }], windowType: 'float32' };
  const options = resolveCacheOptions({ rank: 2, compactAt: 'span', text: { every: 2, recent: 4 } }, shape);
  const mask = [[0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]];
  const spans = textSpans(mask, 10, [{ sequence: 0, start: 15, end: 17 }], [13]);
  expect(spans.flatMap(slotsOf)).toEqual([13, 14, 17, 18, 19, 20, 21]);
  const { due, left } = dueText(shape, spans, { seen: 23, isEnd: false, images: [], open: [], batch: 1 }, options);
  // Whole blocks of two of the five that are old.
  expect(due.flatMap(slotsOf)).toEqual([13, 14, 17, 18]);
  expect(left.flatMap(slotsOf)).toEqual([19, 20, 21]);
  const wait = dueText(shape, spans, { seen: 23, isEnd: false, images: [], open: [], batch: 1 }, { ...options, compactAt: 'context' });
  expect([wait.due, wait.left.length]).toEqual([[], 1]);
});

test('text goes along with the last images of its sequence where those share a basis, and alone where they do not', () => {
  const shape: ModelShape = { layers: [{ ...LAYER, headDim: 2 }], windowType: 'float32' };
  const text = [openSpan(0, 0, 4, 0), openSpan(1, 0, 4, 0)];
  const images = [[openSpan(0, 10, 20, 0)], [openSpan(0, 30, 40, 30)]];
  const none = [0, 1].map(() => ({ segments: 0, tokens: 0 }));
  const format = { codes: 'float32', basis: 'float32', bits: 4 } as const;
  const grouped = (basisPer: 'image' | 'context'): number[][] =>
    withText(shape, images, text, resolveCacheOptions({ rank: 2, basisPer, text: { every: 4 } }, shape), format, none).map((group) => [
      group.images.length,
      group.text.length,
    ]);
  expect(grouped('image')).toEqual([[0, 1], [0, 1], [1, 0], [1, 0]]); // biome-ignore format: pairs
  expect(grouped('context')).toEqual([[0, 1], [1, 0], [1, 1]]); // biome-ignore format: pairs
});

test('beside images whose basis it shares text costs its codes and indices, and frees its rows', async () => {
  const shape: ModelShape = { layers: [{ ...LAYER, headDim: 4 }], windowType: 'float32' };
  const graph = { shape, rotary: 'rotate-late', codes: 'float16', basis: 'float16', emptyTensors: true } as const;
  const held = async (text: 'dense' | 'packed'): Promise<CacheStore> => {
    const options = resolveCacheOptions({ rank: 3, basisPer: 'context', recent: 0, text }, shape);
    const store = new CacheStore(graph, options, () => Promise.resolve(FIRST_COLUMNS));
    const mask = [new Array<number>(200).fill(1)];
    store.begin(1, [[{ start: 100, end: 130 }, { start: 150, end: 180 }]], mask); // biome-ignore format: two images
    for (const [from, to] of [
      [0, 180],
      [180, 200],
    ] as const) {
      // biome-ignore format: two chunks
      store.append(decoderOutputs(shape, 1, from, to - from), [mask[0]?.slice(from, to) ?? []], [new Array<number>(to - from).fill(7)]);
      await store.compact();
    }
    store.endRun();
    return store;
  };
  const [dense, packed] = [await held('dense'), await held('packed')];
  // All text before the last image's end but the sink; what came behind it are too few for a block.
  const numText = 180 - 60 - 4;
  expect([packed.packedText, packed.packedTokens, dense.packedText]).toEqual([numText, 60, 0]);
  const [before, after] = [dense.footprint(), packed.footprint()];
  expect(after.bases).toBe(before.bases);
  expect(after.codes - before.codes).toBe(numText * 2 * 3 * 2);
  // Of 140 and 24 rows, in windows that grew by a quarter when the last twenty came.
  expect([dense, packed].map((store) => store.extents().windowRows)).toEqual([160, 32]);
  expect(before.window - after.window).toBe((160 - 32) * 2 * 8 * 4);
  expect(after.pending - before.pending).toBe(20 * (8 * 4 + 4));
  expect(packed.heldBytes()).toBe(after.total);
});
