import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { chunkEnds, imageSpans, type Span } from '../src/prefill.ts';

const IMAGE = 3;
const ids = fc.array(fc.constantFrom(IMAGE, IMAGE, IMAGE, 1), { maxLength: 40 });

describe('imageSpans', () => {
  test('covers every image token once, in runs that end where the run ends', () => {
    fc.assert(
      fc.property(ids, fc.constantFrom(undefined, 1, 2, 3), (row, perImage) => {
        const spans = imageSpans(row, IMAGE, perImage);
        const covered = spans.flatMap(({ start, end }) => Array.from({ length: end - start }, (_, i) => start + i));
        expect(covered).toEqual(row.flatMap((id, i) => (id === IMAGE ? [i] : [])));
        for (const { start, end } of spans) {
          const [isFirst, isLast] = [row[start - 1] !== IMAGE, row[end] !== IMAGE];
          if (perImage === undefined) expect([isFirst, isLast]).toEqual([true, true]);
          else expect(end - start === perImage || (isFirst && isLast)).toBe(true);
        }
      }),
      { seed: 2 },
    );
  });

  test('splits images that stand side by side only into whole ones', () => {
    expect(imageSpans([1, 3, 3, 3, 3, 1], IMAGE, 2)).toEqual([
      { start: 1, end: 3 },
      { start: 3, end: 5 },
    ]);
    expect(imageSpans([3, 3, 3], IMAGE, 2)).toEqual([{ start: 0, end: 3 }]);
  });
});

describe('chunkEnds', () => {
  const cases = fc.record({
    rows: fc.array(ids, { minLength: 1, maxLength: 3 }),
    chunk: fc.integer({ min: 1, max: 50 }),
    compactAt: fc.constantFrom('span' as const, 'context' as const),
  });

  test('cuts every prompt into chunks no longer than asked that stop where images are packed', () => {
    fc.assert(
      fc.property(cases, ({ rows, chunk, compactAt }) => {
        const numTokens = Math.max(1, ...rows.map((row) => row.length));
        const spans: Span[][] = rows.map((row) => imageSpans(row, IMAGE));
        const ends = chunkEnds(numTokens, spans, chunk, compactAt);
        expect(ends.at(-1)).toBe(numTokens);
        const starts = [0, ...ends.slice(0, -1)];
        ends.forEach((end, i) => {
          expect(end - (starts[i] as number)).toBeGreaterThan(0);
          expect(end - (starts[i] as number)).toBeLessThanOrEqual(chunk);
        });
        const stops = spans.flatMap((row) =>
          compactAt === 'span' ? row.map((span) => span.end) : row.length ? [Math.max(...row.map((span) => span.end))] : [],
        );
        for (const stop of stops) expect(ends).toContain(stop);
        // No more chunks than stops and length ask for.
        expect(ends.length).toBeLessThanOrEqual(Math.ceil(numTokens / chunk) + new Set(stops).size);
      }),
      { seed: 2 },
    );
  });

  test('runs a prompt without images in as few chunks as there can be', () => {
    expect(chunkEnds(10, [[]], 4, 'context')).toEqual([4, 8, 10]);
    expect(chunkEnds(10, [[]], 100, 'span')).toEqual([10]);
  });
});
