/** Biases that repeat what the attention does anyway are dropped, and the logits stay. */
import { expect, test } from 'vitest';
import { DataType, type Graph, GraphEditor, type Model } from '../../src/onnx/index.ts';
import { compareModel } from '../support/compare.ts';
import { tinyDecoder } from '../support/decoders.ts';

/** Makes a bias [B, 1, N, slots] in the graph. `num_slots` is the attention mask's width. */
type Build = (editor: GraphEditor, lowest: string) => string;

const queryAndKeySlots = (e: GraphEditor): [string, string] => {
  const numNew = e.add('Gather', [e.add('Shape', ['inputs_embeds'], 'embeds_shape'), e.ints(1)], 'num_new');
  const queries = e.add('Range', [e.add('Sub', ['num_slots', numNew], 'num_past'), 'num_slots', e.ints(1)], 'query_slots');
  const keys = e.add('Range', [e.ints(0), 'num_slots', e.ints(1)], 'key_slots');
  return [
    e.add('Unsqueeze', [queries, e.ints([0, 1, 3])], 'query_slots_11N1'),
    e.add('Unsqueeze', [keys, e.ints([0, 1, 2])], 'key_slots_111A'),
  ];
};

const BIASES: Readonly<Record<string, Build>> = {
  'causal mask and padding, by comparison': (e, lowest) => {
    const [query, key] = queryAndKeySlots(e);
    const real = e.add('Cast', [e.add('Unsqueeze', ['attention_mask', e.ints([1, 2])], 'mask_B11A')], 'real', {
      attributes: { to: DataType.BOOL },
    });
    const visible = e.add('And', [real, e.add('LessOrEqual', [key, query], 'causal')], 'visible');
    return e.add('Where', [visible, e.scalar(0), lowest], 'bias_where');
  },
  'causal mask by Trilu, as older exporters make it': (e, lowest) => {
    const numNew = e.add('Gather', [e.add('Shape', ['inputs_embeds'], 'embeds_shape'), e.ints([1])], 'num_new_1');
    const slots = e.add('Unsqueeze', ['num_slots', e.ints([0])], 'num_slots_1');
    const shape = e.add('Concat', [numNew, slots], 'bias_shape', { attributes: { axis: 0 } });
    const full = e.add('Expand', [lowest, shape], 'bias_full');
    const past = e.add('Sub', [slots, numNew], 'num_past_1');
    const above = e.add('Add', [e.add('Squeeze', [past], 'num_past'), e.ints(1)], 'above');
    return e.add('Unsqueeze', [e.add('Trilu', [full, above], 'bias_NA', { attributes: { upper: 1 } }), e.ints([0, 1])], 'bias_11NA');
  },
  'the node’s own local window': (e, lowest) => {
    const [query, key] = queryAndKeySlots(e);
    const near = e.add('Greater', [key, e.add('Sub', [query, e.ints(5)], 'edge')], 'near');
    return e.add('Where', [near, e.scalar(0), lowest], 'bias_near');
  },
};

test.each(Object.entries(BIASES))('%s', async (_, build) => {
  const model: Model = tinyDecoder({ windows: [5, 5] });
  const editor = new GraphEditor(model.graph as Graph);
  const bias = build(editor, editor.scalar(-1e9));
  for (const node of editor.nodes) if (node.opType === 'GroupQueryAttention') node.input = [...(node.input ?? []), '', bias];
  editor.sort();
  const { maxDifference } = await compareModel(model, { lengths: [12], chunks: [5, 7], numSteps: 8 });
  expect(maxDifference).toBeLessThan(2e-5);
});
