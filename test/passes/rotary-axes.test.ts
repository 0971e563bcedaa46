/** Which axis turns each rotary pair is told by the tables' numbers, however sections lie and pairs are spelled. */
import { describe, expect, test } from 'vitest';
import { floatTensor, type Graph, GraphEditor, type Model } from '../../src/onnx/index.ts';
import { rewrite } from '../../src/rewrite.ts';
import { columnsByAxis } from '../../src/shape.ts';
import { type DecoderOptions, tinyDecoder } from '../support/decoders.ts';

const HALF = 8;

/** A decoder whose pair j turns by `axisOf[j]`. */
function decoder(axisOf: readonly number[], options: DecoderOptions = {}): Model {
  const model = tinyDecoder({ ...options, rotary: 'axes' });
  const frequencies = Array.from({ length: 3 * HALF }, (_, i) =>
    axisOf[i % HALF] === Math.floor(i / HALF) ? 10000 ** (-(i % HALF) / HALF) : 0,
  );
  const tensor = new GraphEditor(model.graph as Graph).initializer('frequencies');
  Object.assign(tensor as object, floatTensor('frequencies', [3, 1, 1, HALF], frequencies));
  return model;
}

const columns = (model: Model): readonly (readonly number[])[] | undefined => rewrite({ model, path: 'tiny.onnx' }).shape.axisColumns;
const SECTIONS = [0, 0, 1, 1, 1, 2, 2, 2];

describe('columns of a head by axis', () => {
  test('sections side by side, as in Qwen2-VL, stay in order', () => {
    const found = columns(decoder(SECTIONS)) ?? [];
    expect(found).toEqual([[0, 8, 1, 9], [2, 10, 3, 11, 4, 12], [5, 13, 6, 14, 7, 15]]); // biome-ignore format: axis by axis
    expect(columnsByAxis(found)).toEqual(Array.from({ length: 16 }, (_, i) => i));
  });

  test('sections in turns, as in Qwen3-VL', () => {
    const found = columns(decoder([0, 1, 2, 0, 1, 2, 0, 1])) ?? [];
    expect(found).toEqual([[0, 8, 3, 11, 6, 14], [1, 9, 4, 12, 7, 15], [2, 10, 5, 13]]); // biome-ignore format: axis by axis
    expect(columnsByAxis(found)).toEqual([0, 3, 6, 1, 4, 7, 2, 5, 8, 11, 14, 9, 12, 15, 10, 13]);
  });

  test('pairs that are neighbours, and columns that are not turned', () => {
    expect(columns(decoder(SECTIONS, { interleaved: true }))).toEqual([[0, 1, 2, 3], [4, 5, 6, 7, 8, 9], [10, 11, 12, 13, 14, 15]]); // biome-ignore format: axis by axis
    const partial = columns(decoder(SECTIONS, { headDim: 20, numTurned: 16 })) ?? [];
    expect(partial[2]).toEqual([5, 13, 6, 14, 7, 15, 16, 17, 18, 19]);
    expect([...columnsByAxis(partial)].sort((a, b) => a - b)).toEqual(Array.from({ length: 20 }, (_, i) => i));
  });

  test('are not said where another mode is asked for', () => {
    expect(rewrite({ model: decoder(SECTIONS), path: 'tiny.onnx' }, { rotary: 'rotate-late' }).shape.axisColumns).toBeUndefined();
    expect(columns(tinyDecoder())).toBeUndefined();
  });
});

test('a table that turns a pair by more than its own axis is not taken for m-rope', () => {
  const model = decoder(SECTIONS);
  const editor = new GraphEditor(model.graph as Graph);
  // Cosines of one axis times those of another: each alone turns a pair, and both together do otherwise.
  const cos = editor.producer('Cos_table');
  const moved = editor.add('Mul', [cos?.input?.[0] as string, cos?.input?.[0] as string], 'cos_squared');
  if (cos) cos.input = [editor.add('Add', [moved, cos.input?.[0] as string], 'cos_mixed')];
  editor.sort();
  // Still one axis a pair: any function of it is. What is mixed is refused:
  expect(columns(model)).toBeDefined();
  const tensor = editor.initializer('frequencies');
  const both = Array.from({ length: 3 * HALF }, (_, i) => (i % HALF === 3 || SECTIONS[i % HALF] === Math.floor(i / HALF) ? 0.1 : 0));
  Object.assign(tensor as object, floatTensor('frequencies', [3, 1, 1, HALF], both));
  const { report } = rewrite({ model, path: 'tiny.onnx' }, { rotary: 'm-rope' });
  expect(report.refused[0]?.reason).toMatch(/^rotary pair 3 turns by 3 axes together/);
  expect(rewrite({ model, path: 'tiny.onnx' }).report).toMatchObject({ rotary: 'rotate-late', refused: [] });
});
