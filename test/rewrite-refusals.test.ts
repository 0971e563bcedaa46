/** What cannot be rewritten is refused with the node and the reason, one by one, and the model is left whole. */
import { describe, expect, test } from 'vitest';
import { DataType, float, floatTensor, type Graph, GraphEditor, type Model, makeAttribute, type Node } from '../src/onnx/index.ts';
import { type RewriteOptions, readShape, rewrite } from '../src/rewrite.ts';
import { type DecoderOptions, tinyDecoder } from './support/decoders.ts';

const NODE = '/layers.1/attention';

interface Case {
  readonly decoder?: DecoderOptions;
  readonly options?: RewriteOptions;
  /** Spoils the model; `node` is the second layer's attention. */
  readonly spoil?: (node: Node, editor: GraphEditor, model: Model) => void;
  readonly node?: string;
  readonly reason: string;
}

const setInput = (node: Node, index: number, value: string): void => {
  const inputs = node.input as string[];
  while (inputs.length <= index) inputs.push('');
  inputs[index] = value;
};
const setAttribute = (node: Node, name: string, value: Parameters<typeof makeAttribute>[1]): void => {
  node.attribute = [...(node.attribute ?? []).filter((known) => known.name !== name), makeAttribute(name, value)];
};
const oneTensor = (editor: GraphEditor, length: number): string =>
  editor.addInitializer(floatTensor('spoiler', [length], Array(length).fill(1)));
const attribute =
  (name: string, value: Parameters<typeof makeAttribute>[1]) =>
  (node: Node): void =>
    setAttribute(node, name, value);
const input =
  (index: number) =>
  (node: Node, editor: GraphEditor): void =>
    setInput(node, index, oneTensor(editor, 4));

const CASES: Readonly<Record<string, Case>> = {
  'packed QKV': {
    spoil: (node) => {
      setInput(node, 1, '');
      setInput(node, 2, '');
    },
    reason: 'packed QKV: the node has no key and value inputs of its own',
  },
  head_sink: { spoil: input(11), reason: "input head_sink ('spoiler') is not supported" },
  k_scale: { spoil: input(12), reason: "input k_scale ('spoiler') is not supported" },
  v_scale: { spoil: input(13), reason: "input v_scale ('spoiler') is not supported" },
  q_norm_weight: { spoil: input(14), reason: "input q_norm_weight ('spoiler') is not supported" },
  k_norm_weight: { spoil: input(15), reason: "input k_norm_weight ('spoiler') is not supported" },
  'an unknown input': { spoil: input(16), reason: "input 16 ('spoiler') is not supported" },
  'an unknown attribute': { spoil: attribute('spin', 1), reason: "unknown attribute 'spin'" },
  smooth_softmax: { spoil: attribute('smooth_softmax', 1), reason: 'attribute smooth_softmax = 1 is not supported' },
  kv_cache_bit_width: { spoil: attribute('kv_cache_bit_width', 8), reason: 'attribute kv_cache_bit_width = 8 is not supported' },
  k_quant_type: { spoil: attribute('k_quant_type', 'PER_TENSOR'), reason: 'attribute k_quant_type = PER_TENSOR is not supported' },
  v_quant_type: { spoil: attribute('v_quant_type', 'PER_CHANNEL'), reason: 'attribute v_quant_type = PER_CHANNEL is not supported' },
  sliding_window_cache: { spoil: attribute('sliding_window_cache', 1), reason: 'attribute sliding_window_cache = 1 is not supported' },
  'not causal': { spoil: attribute('causal', 0), reason: 'attribute causal = 0 is not supported' },
  qk_output: { spoil: attribute('qk_output', 1), reason: 'attribute qk_output = 1 is not supported' },
  output_qk: { spoil: (node) => void node.output?.push('scores'), reason: "output output_qk ('scores') is not supported" },
  'no window at all': {
    spoil: attribute('local_window_size', 0),
    reason: 'local_window_size 0 means different things on different providers',
  },
  'heads that do not divide': { spoil: attribute('num_heads', 5), reason: 'num_heads 5 is not a multiple of kv_num_heads 2' },
  'no past': { spoil: (node) => setInput(node, 3, ''), reason: 'the node has no past_key and past_value' },
  'a past of another name': {
    spoil: (node, editor) => setInput(node, 3, editor.addInput('cache_k_1', DataType.FLOAT, ['b', 2, 's', 16])),
    reason: "past_key is 'cache_k_1', not the graph input past_key_values.N.key",
  },
  'an int8 past': {
    spoil: (_, editor) => {
      for (const side of ['key', 'value']) {
        editor.removeInput(`past_key_values.1.${side}`);
        editor.addInput(`past_key_values.1.${side}`, DataType.INT8, ['b', 2, 's', 16]);
      }
    },
    reason: `past_key has element type ${DataType.INT8}; only float32 and float16 are supported`,
  },
  'a past of unknown width': {
    spoil: (_, editor) => {
      editor.removeInput('past_key_values.1.key');
      editor.addInput('past_key_values.1.key', DataType.FLOAT, ['b', 2, 's', 'd']);
    },
    reason: "'past_key_values.1.key' does not declare its head dimension",
  },
  'a present that is read': {
    spoil: (_, editor) => void editor.append('Abs', ['present.1.key'], ['logits_of_past'], { name: 'reader' }),
    reason: "'present.1.key', the whole past, is read by 'reader'",
  },
  'a past that something else reads': {
    spoil: (_, editor) => void editor.append('ReduceMax', ['past_key_values.1.key'], ['largest'], { name: 'reader' }),
    node: 'reader',
    reason: "ReduceMax reads 'past_key_values.1.key'; only GroupQueryAttention's past can be packed",
  },
  'other attention on a past': {
    spoil: (node) => {
      node.opType = 'MultiHeadAttention';
    },
    reason: "MultiHeadAttention reads 'past_key_values.1.key'; only GroupQueryAttention's past can be packed",
  },
  'a past shared by two nodes': {
    spoil: (node) => {
      setInput(node, 3, 'past_key_values.0.key');
      setInput(node, 4, 'past_key_values.0.value');
    },
    reason: 'past_key_values.0 is read by two attention nodes',
  },
  'rotary tables that are missing': { spoil: (node) => setInput(node, 7, ''), reason: 'do_rotary = 1 without cos_cache and sin_cache' },
  'rotary tables of unknown width': {
    spoil: (node, editor) => setInput(node, 7, editor.add('Abs', ['cos_cache'], 'cos_abs')),
    reason: "the width of cos_cache 'cos_abs' is not known",
  },
  'rotary tables that are too wide': {
    spoil: (node, editor) => setInput(node, 7, editor.addInitializer(floatTensor('wide', [4, 9], Array(36).fill(1)))),
    reason: "cos_cache 'wide' is 9 wide, more than half a head of 16",
  },
  'rotate-late where keys come rotated': {
    decoder: { rotary: 'none' },
    options: { rotary: 'rotate-late' },
    reason: "keys arrive already rotated, or never are; use rotary: 'post-rope'",
  },
  'm-rope by one axis': {
    options: { rotary: 'm-rope' },
    node: '/layers.0/attention',
    reason: "keys turn by one position a token, not by several axes, so 'm-rope' has nothing to score by; use rotary: 'rotate-late'",
  },
  'm-rope where keys come rotated': {
    decoder: { rotary: 'none' },
    options: { rotary: 'm-rope' },
    reason: "keys arrive already rotated, or never are; use rotary: 'post-rope'",
  },
  'm-rope by tables of their own in each layer': {
    decoder: { rotary: 'axes' },
    options: { rotary: 'm-rope' },
    spoil: (node, editor) => {
      const tables = ['Cos', 'Sin'].map((op) => editor.add('Identity', [`${op}_table`], `${op}_other`));
      for (const side of [0, 1]) {
        const turning = editor.producer(node.input?.[side] ?? '') as Node;
        turning.input = [...(turning.input ?? []).slice(0, 2), ...tables];
      }
    },
    reason: "layers turn their keys by different tables, so 'm-rope' has nothing to score by; use rotary: 'rotate-late'",
  },
  'm-rope where a pair turns by two axes': {
    decoder: { rotary: 'axes' },
    options: { rotary: 'm-rope' },
    node: '/layers.0/attention',
    spoil: (_, editor) => {
      const tensor = editor.initializer('frequencies');
      if (tensor) Object.assign(tensor, floatTensor('frequencies', [3, 1, 1, 8], Array(24).fill(0.5)));
    },
    reason: "rotary pair 0 turns by 3 axes together, so 'm-rope' has nothing to score by; use rotary: 'rotate-late'",
  },
  'm-rope where an axis turns nothing': {
    decoder: { rotary: 'axes' },
    options: { rotary: 'm-rope' },
    node: '/layers.0/attention',
    spoil: (_, editor) => {
      const tensor = editor.initializer('frequencies');
      if (tensor) Object.assign(tensor, floatTensor('frequencies', [3, 1, 1, 8], [...Array(8).fill(0), ...Array(8).fill(0.5), ...Array(8).fill(0)])); // biome-ignore format: axis by axis
    },
    reason: "no rotary pair turns by axis 0, so 'm-rope' has nothing to score by; use rotary: 'rotate-late'",
  },
  'rotate-late by different positions': {
    decoder: { givenPositions: true },
    spoil: (node, editor) => setInput(node, 9, editor.add('Abs', ['position_ids'], 'other_positions')),
    reason: "layers rotate by different positions; use rotary: 'post-rope'",
  },
  'a bias from outside': {
    decoder: { bias: 'foreign' },
    reason: "foreign bias 'bias': it depends on 'bias', not on 'attention_mask' alone",
  },
  'a bias that falls with distance': {
    decoder: { bias: 'mask' },
    spoil: (node, editor) => {
      const counts = editor.add('CumSum', ['attention_mask', editor.ints(1)], 'counts_BA');
      const slope = editor.add('Cast', [editor.add('Unsqueeze', [counts, editor.ints([1, 2])], 'counts_B11A')], 'slope', {
        attributes: { to: 1 },
      });
      setInput(node, 10, editor.add('Add', ['bias_B1NA', slope], 'alibi'));
    },
    reason: "foreign bias 'alibi': it adds 1 between slots 0 and 0, which see each other",
  },
  'a bias with a local window of its own': {
    decoder: { bias: 'mask' },
    spoil: (node, editor) => {
      const slots = editor.add('Range', [editor.ints(0), 'num_slots', editor.ints(1)], 'all_slots');
      const far = editor.add('Less', [slots, editor.add('Sub', ['num_slots', editor.ints(1024)], 'edge')], 'far');
      const hidden = editor.add('Where', [far, editor.scalar(-1e9), editor.scalar(0)], 'far_bias');
      setInput(node, 10, editor.add('Add', ['bias_B1NA', hidden], 'sliding'));
    },
    reason: "foreign bias 'sliding': it adds -1000000000 between slots 131071 and 0, which see each other",
  },
  'attention inside an If node': {
    spoil: (node, editor) => {
      editor.removeNode(node);
      const body = { name: 'body', node: [node], output: [{ name: node.output?.[0] ?? '' }] };
      const condition = editor.add('Greater', ['num_slots', editor.ints(0)], 'condition');
      editor.append('If', [condition], ['unused'], {
        name: 'choice',
        attributes: { then_branch: { graph: body }, else_branch: { graph: body } },
      });
    },
    reason: 'GroupQueryAttention inside a subgraph or function; only the main graph can be packed',
  },
  'attention inside a function': {
    spoil: (node, editor, model) => {
      editor.removeNode(node);
      model.functions = [{ name: 'block', domain: 'local', node: [node] }];
    },
    reason: 'GroupQueryAttention inside a subgraph or function; only the main graph can be packed',
  },
  'no attention': {
    spoil: (_, { graph }) => {
      graph.node = graph.node?.filter(({ opType }) => opType !== 'GroupQueryAttention');
    },
    node: 'tiny-decoder',
    reason: 'no GroupQueryAttention node',
  },
  'an old opset': { decoder: { opset: 12 }, node: 'tiny-decoder', reason: 'ONNX opset 12; at least 13 is needed' },
  'no attention mask': {
    spoil: (_, editor) => editor.removeInput('attention_mask'),
    node: 'tiny-decoder',
    reason: "no input 'attention_mask'",
  },
  'an attention mask for every query': {
    spoil: (_, editor) => {
      editor.removeInput('attention_mask');
      editor.addInput('attention_mask', DataType.INT64, ['b', 1, 'n', 's']);
    },
    node: 'tiny-decoder',
    reason: "'attention_mask' has 4 dimensions, not 2",
  },
  'a float attention mask': {
    spoil: (_, editor) => {
      editor.removeInput('attention_mask');
      editor.addInput('attention_mask', DataType.FLOAT, ['b', 's']);
    },
    node: 'tiny-decoder',
    reason: `'attention_mask' has element type ${DataType.FLOAT}; only int64 is supported`,
  },
};

describe('refused', () => {
  test.each(Object.entries(CASES))('%s', (_, { decoder, options, spoil, node = NODE, reason }) => {
    const model = tinyDecoder(decoder);
    const graph = model.graph as Graph;
    const attention = graph.node?.find(({ name }) => name === NODE) as Node;
    spoil?.(attention, new GraphEditor(graph), model);
    const file = { model, path: 'tiny.onnx' };
    const { model: returned, report } = rewrite(file, options);
    expect(report.refused).toContainEqual({ node, reason });
    expect(report.rewritten).toBe(0);
    expect(returned).toBe(file);
  });
});

test('every node that cannot be packed is named, not only the first', () => {
  const model = tinyDecoder();
  for (const node of model.graph?.node ?? []) if (node.opType === 'GroupQueryAttention') setAttribute(node, 'smooth_softmax', 1);
  expect(rewrite({ model, path: 'tiny.onnx' }).report.refused.map(({ node }) => node)).toEqual(['/layers.0/attention', NODE]);
});

test('a packed decoder is not packed again', () => {
  const { model } = rewrite({ model: tinyDecoder(), path: 'tiny.onnx' });
  expect(rewrite(model).report.refused).toEqual([{ node: 'tiny-decoder', reason: "it has an input 'window.slots': it is packed already" }]);
});

test('attributes in their neutral setting are no reason', () => {
  const model = tinyDecoder();
  for (const node of model.graph?.node ?? []) {
    if (node.opType !== 'GroupQueryAttention') continue;
    setAttribute(node, 'smooth_softmax', -1);
    setAttribute(node, 'k_quant_type', 'NONE');
    setAttribute(node, 'qk_output', 0);
    setAttribute(node, 'qk_norm_epsilon', float(1e-6));
  }
  expect(rewrite({ model, path: 'tiny.onnx' }).report).toMatchObject({ rewritten: 2, refused: [] });
});

test('readShape throws the refusals', () => {
  expect(() => readShape({ model: tinyDecoder({ bias: 'foreign' }), path: 'tiny.onnx' })).toThrow(
    /tiny.onnx cannot be packed: \/layers.0\/attention: foreign bias/,
  );
});

test('an unknown option is the caller’s mistake', () => {
  expect(() => rewrite({ model: tinyDecoder(), path: 'tiny.onnx' }, { rotary: 'early' as 'post-rope' })).toThrow(
    "rotary: 'early' is not known; use one of rotate-late, m-rope, post-rope",
  );
});
