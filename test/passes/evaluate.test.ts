/** The small evaluator against ONNX Runtime, operator by operator, and what it says when it cannot. */
import * as ort from 'onnxruntime-node';
import { describe, expect, test } from 'vitest';
import { DataType, encodeModel, float, floatTensor, type Graph, GraphEditor, type Model, valueInfo } from '../../src/onnx/index.ts';
import { CannotEvaluate, evaluate } from '../../src/passes/evaluate.ts';

const MASK = [0, 1, 1, 1, 1, 0, 1, 1];
type Build = (editor: GraphEditor) => string;

const toInt = (editor: GraphEditor, value: string): string => editor.add('Cast', [value], 'as_int', { attributes: { to: DataType.INT64 } });
const positions: Build = (editor) => editor.add('CumSum', ['mask', editor.ints(1)], 'positions');

/** Each makes a value from `mask` [2, 4] int64; booleans are cast, since the comparison reads integers. */
const GRAPHS: Readonly<Record<string, Build>> = {
  Cast: (e) => toInt(e, e.add('Cast', ['mask'], 'c', { attributes: { to: DataType.BOOL } })),
  'Add, Sub, Mul': (e) =>
    e.add('Mul', [e.add('Add', ['mask', e.ints([10, 20, 30, 40])], 'a'), e.add('Sub', [e.ints(3), 'mask'], 's')], 'm'),
  'Neg, Min, Max': (e) => e.add('Max', [e.add('Neg', [positions(e)], 'n'), e.add('Min', ['mask', e.ints(0)], 'i')], 'x'),
  Equal: (e) => toInt(e, e.add('Equal', ['mask', e.ints(1)], 'x')),
  Less: (e) => toInt(e, e.add('Less', [positions(e), e.ints(3)], 'x')),
  LessOrEqual: (e) => toInt(e, e.add('LessOrEqual', [positions(e), e.ints(3)], 'x')),
  Greater: (e) => toInt(e, e.add('Greater', [positions(e), e.ints(2)], 'x')),
  GreaterOrEqual: (e) => toInt(e, e.add('GreaterOrEqual', [positions(e), e.ints(2)], 'x')),
  'And, Or, Not': (e) => {
    const [seen, late] = [e.add('Equal', ['mask', e.ints(1)], 's'), e.add('Greater', [positions(e), e.ints(2)], 'l')];
    return toInt(e, e.add('And', [e.add('Or', [seen, late], 'o'), e.add('Not', [late], 'n')], 'x'));
  },
  Where: (e) => e.add('Where', [e.add('Equal', ['mask', e.ints(1)], 's'), positions(e), e.ints(-9)], 'x'),
  'Unsqueeze, Expand': (e) => e.add('Expand', [e.add('Unsqueeze', ['mask', e.ints([1, -1])], 'u'), e.ints([2, 3, 4, 2])], 'x'),
  Squeeze: (e) => e.add('Squeeze', [e.add('Unsqueeze', ['mask', e.ints([0, 2])], 'u'), e.ints([-2])], 'x'),
  'Squeeze of all ones': (e) => e.add('Squeeze', [e.add('Unsqueeze', ['mask', e.ints([0, 2])], 'u')], 'x'),
  Reshape: (e) => e.add('Reshape', ['mask', e.ints([0, 2, -1])], 'x'),
  Concat: (e) => e.add('Concat', ['mask', positions(e), 'mask'], 'x', { attributes: { axis: -1 } }),
  'Shape, Gather': (e) => e.add('Gather', [e.add('Shape', ['mask'], 's'), e.ints([1, 0, -1])], 'x'),
  'Gather of a scalar index': (e) => e.add('Gather', [positions(e), e.ints(-1)], 'x', { attributes: { axis: 1 } }),
  Slice: (e) => e.add('Slice', [positions(e), e.ints([-3, 0]), e.ints([2 ** 31, 1]), e.ints([1, 0])], 'x'),
  Range: (e) => e.add('Range', [e.ints(-2), e.add('Gather', [e.add('Shape', ['mask'], 's'), e.ints(1)], 'n'), e.ints(2)], 'x'),
  ConstantOfShape: (e) =>
    e.add(
      'Cast',
      [e.add('ConstantOfShape', [e.add('Shape', ['mask'], 's')], 'c', { attributes: { value: { tensor: floatTensor('', [1], [-5]) } } })],
      'x',
      {
        attributes: { to: DataType.INT64 },
      },
    ),
  'ConstantOfShape without a value': (e) => toInt(e, e.add('ConstantOfShape', [e.add('Shape', ['mask'], 's')], 'c')),
  Constant: (e) => {
    const one = e.add('Constant', [], 'one', { attributes: { value: { tensor: floatTensor('', [2], [1.5, -1.5]) } } });
    return toInt(e, e.add('Identity', [one], 'i'));
  },
  'CumSum along the batch': (e) => e.add('CumSum', ['mask', e.ints(-2)], 'x'),
  Trilu: (e) => e.add('Trilu', [positions(e), e.ints(1)], 'x', { attributes: { upper: 1 } }),
  'Trilu, lower': (e) => e.add('Trilu', [positions(e)], 'x', { attributes: { upper: 0 } }),
};

function graphOf(build: Build): { editor: GraphEditor; model: Model; value: string } {
  const model: Model = { irVersion: 9, opsetImport: [{ domain: '', version: 17 }], graph: { name: 'values' } };
  const editor = new GraphEditor(model.graph as Graph);
  editor.addInput('mask', DataType.INT64, [2, 4]);
  return { editor, model, value: build(editor) };
}

const given = {
  values: new Map([['mask', { dims: [2, 4], data: Float64Array.from(MASK) }]]),
  shapes: new Map([['hidden', [2, 3, 24]]]),
};

test.each(Object.entries(GRAPHS))('%s', async (_, build) => {
  const { editor, model, value } = graphOf(build);
  editor.graph.output = [{ ...valueInfo(value, DataType.INT64, []), type: { tensorType: { elemType: DataType.INT64 } } }];
  const session = await ort.InferenceSession.create(encodeModel(model), { graphOptimizationLevel: 'disabled' });
  const mask = new ort.Tensor('int64', BigInt64Array.from(MASK.map(BigInt)), [2, 4]);
  const truth = (await session.run({ mask }))[value] as ort.Tensor;
  const seen = evaluate(editor, value, given);
  expect(seen.dims).toEqual([...truth.dims]);
  expect([...seen.data].map((x) => x + 0)).toEqual([...(truth.data as BigInt64Array)].map(Number));
});

test('the shape of a value may be given without its numbers', () => {
  const { editor } = graphOf(() => '');
  editor.addInput('hidden', DataType.FLOAT, ['b', 'n', 24]);
  expect([...evaluate(editor, editor.add('Shape', ['hidden'], 's'), given).data]).toEqual([2, 3, 24]);
  expect([...evaluate(editor, editor.add('Shape', ['hidden'], 's', { attributes: { start: 1, end: 2 } }), given).data]).toEqual([3]);
});

describe('cannot', () => {
  const CASES: readonly [string, Build, string][] = [
    ['read an input that is not given', (e) => e.add('Neg', [e.addInput('other', DataType.INT64, [1])], 'x'), "'other'"],
    ['run an operator it does not know', (e) => e.add('Einsum', ['mask'], 'x'), 'operator Einsum'],
    ['run an operator of another domain', (e) => e.add('Neg', ['mask'], 'x', { domain: 'com.example' }), 'operator Neg'],
    ['slice in steps', (e) => e.add('Slice', ['mask', e.ints([0]), e.ints([4]), e.ints([1]), e.ints([2])], 'x'), 'Slice with steps'],
    ['count backwards', (e) => e.add('CumSum', ['mask', e.ints(1)], 'x', { attributes: { reverse: 1 } }), 'CumSum with attributes'],
    ['read a constant that is no tensor', (e) => e.add('Constant', [], 'x', { attributes: { value_float: float(1) } }), 'constant'],
    [
      'read numbers that lie elsewhere',
      (e) =>
        e.add('Neg', [e.addInitializer({ name: 'far', dataType: DataType.FLOAT, dims: [300], dataLocation: 1, externalData: [] })], 'x'),
      "'far', whose numbers are not in the graph",
    ],
  ];
  test.each(CASES)('%s', (_, build, message) => {
    const { editor, value } = graphOf(build);
    expect(() => evaluate(editor, value, given)).toThrow(CannotEvaluate);
    expect(() => evaluate(editor, value, given)).toThrow(message);
  });
});
