/** Hands out the second moment of a layer's queries: which directions of its keys are asked for, and how strongly. */
import { queryMomentName } from '../contract.ts';
import { DataType, type GraphEditor } from '../onnx/index.ts';
import type { Layer } from './attention.ts';
import { batchSymbol } from './inputs.ts';
import { ATTENTION_MASK, type Shared } from './mask.ts';

/**
 * Makes `present_query_moment.N` [B, Hkv, D, D], float32, a graph output: the sum of q·qᵀ over the new tokens that are no padding and the query heads that
 * share a key head. Three nodes a layer, five with grouped heads.
 *
 * @param query_BHND after rotary embedding
 */
export function handOutQueryMoment(layer: Layer, query_BHND: string): void {
  const { editor, shared, attention, groups, type } = layer;
  const { index, numKvHeads, headDim } = attention.shape;
  // Half precision ends at 65504, which a chunk's sum of squares may pass.
  const query_f32 = layer.cast(query_BHND, type, DataType.FLOAT, 'query_f32_BHND');
  const seen_BHND = layer.add('Mul', [query_f32, seen(editor, shared)], 'query_seen_BHND');
  const byKvHead = (value: string, wanted: string): string =>
    groups === 1 ? value : layer.add('Reshape', [value, shared.shape(0, numKvHeads, -1, headDim)], wanted);
  const seen_BHkvDR = layer.add('Transpose', [byKvHead(seen_BHND, 'query_seen_BHkvRD')], 'query_seen_BHkvDR', { perm: [0, 1, 3, 2] });
  editor.append('MatMul', [seen_BHkvDR, byKvHead(query_f32, 'query_all_BHkvRD')], [queryMomentName(index)]);
  editor.addOutput(queryMomentName(index), DataType.FLOAT, [batchSymbol(editor), numKvHeads, headDim, headDim]);
}

/** [B, 1, N, 1]: 1 for each new token, 0 for padding. */
function seen(editor: GraphEditor, shared: Shared): string {
  return shared.once('query moment seen', () => {
    const past = editor.add('Sub', [shared.numSlots, shared.numNew], 'query_moment_past_1');
    const mask_BN = editor.add('Slice', [ATTENTION_MASK, past, shared.numSlots, editor.ints([1])], 'query_moment_mask_BN');
    const seen_BN = editor.add('Cast', [mask_BN], 'query_moment_seen_BN', { attributes: { to: DataType.FLOAT } });
    return editor.add('Unsqueeze', [seen_BN, editor.ints([1, 3])], 'query_moment_seen_B1N1');
  });
}
