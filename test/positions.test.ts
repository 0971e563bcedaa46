/** Positions on three axes against PyTorch's, of whole conversations and a turn at a time. */
import { Tensor } from '@huggingface/transformers';
import { describe, expect, test } from 'vitest';
import { conversationSpans } from '../src/images/grid.ts';
import { tokenPositions } from '../src/positions.ts';
import { type Span, stepsOf } from '../src/prefill.ts';
import { type GoldenCase, readCases } from './support/qwen2vl.ts';

const IMAGE = 3;
const MERGE = 2;
const cases = [...readCases('tied-v5')];

function spansOf({ inputIds, grids }: GoldenCase): Span[][] {
  return conversationSpans(inputIds, IMAGE, MERGE, new Tensor('int64', BigInt64Array.from(grids.flat().map(BigInt)), [grids.length, 3]));
}

/** [3][B][N] */
const listed = (tensor: Tensor): number[][][] => (tensor.tolist() as bigint[][][]).map((rows) => rows.map((row) => row.map(Number)));

describe.each(cases)('%s', (_, golden) => {
  test('is numbered as PyTorch numbers it', () => {
    const spans = spansOf(golden);
    const positions = tokenPositions(golden.mask.map((mask, b) => ({ start: 0, mask, spans: spans[b] ?? [] })));
    // PyTorch numbers padding 0 or 1; nobody reads it
    const unpadded = (all: readonly (readonly (readonly number[])[])[]): number[][][] =>
      all.map((rows) => rows.map((row, b) => row.filter((_, n) => golden.mask[b]?.[n])));
    expect(unpadded(listed(positions))).toEqual(unpadded(golden.positions));
  });

  test('goes on behind any token that is not inside an image', () => {
    const [mask = []] = golden.mask;
    const [spans = []] = spansOf(golden);
    const whole = listed(tokenPositions([{ start: 0, mask, spans }]));
    for (let cut = 1; cut < mask.length; cut++) {
      if (spans.some(({ start, end }) => start < cut && cut < end)) continue;
      const seen = spans.filter(({ end }) => end <= cut);
      const tokens = mask.slice(0, cut).reduce((sum, visible) => sum + visible, 0);
      const start = tokens - seen.reduce((sum, span) => sum + span.end - span.start - stepsOf(span), 0);
      const rest = spans.filter((span) => span.start >= cut).map((span) => ({ ...span, start: span.start - cut, end: span.end - cut }));
      const behind = listed(tokenPositions([{ start, mask: mask.slice(cut), spans: rest }]));
      expect(behind).toEqual(whole.map((rows) => rows.map((row) => row.slice(cut))));
    }
  });
});

test('runs of image tokens that no pictures make are refused', () => {
  const grids = new Tensor('int64', BigInt64Array.from([1n, 4n, 4n]), [1, 3]);
  expect(() => conversationSpans([[1, 3, 3, 3, 2]], IMAGE, MERGE, grids)).toThrow('3 image tokens stand side by side');
  expect(conversationSpans([[1, 3, 3, 3, 3, 2]], IMAGE, MERGE, grids)).toEqual([[{ start: 1, end: 5, grid: [1, 2, 2] }]]);
});
