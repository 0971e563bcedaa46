/** Hands out keys as they were before rotary embedding also where nothing but curiosity needs them: graphs that pack rotated keys. */
import { rawKeysName } from '../contract.ts';
import { DataType, type GraphEditor } from '../onnx/index.ts';
import type { AttentionNode } from './attention-node.ts';
import { batchSymbol } from './inputs.ts';
import type { Shared } from './mask.ts';

/**
 * Makes `present_raw.N.key` [B, Hkv, N, D], float32, a graph output. The keys before rotary embedding are the node's own key input where it turns them
 * itself, and what goes into a RotaryEmbedding node right before it where that one does. A layer that turns its keys otherwise goes without.
 */
export function handOutRawKeys(editor: GraphEditor, { shape, key, rotary, type }: AttentionNode, shared: Shared): void {
  const { index, numKvHeads, headDim } = shape;
  const raw_BNxD = rotary ? key : beforeRotation(editor, key);
  if (raw_BNxD === undefined) return;
  const prefix = `packed_attention.${index}/raw_key`;
  const cast_BNxD =
    type === DataType.FLOAT ? raw_BNxD : editor.add('Cast', [raw_BNxD], `${prefix}_f32_BNxD`, { attributes: { to: DataType.FLOAT } });
  const raw_BNHkvD = editor.add('Reshape', [cast_BNxD, shared.shape(0, 0, numKvHeads, headDim)], `${prefix}_BNHkvD`);
  editor.append('Transpose', [raw_BNHkvD], [rawKeysName(index)], { attributes: { perm: [0, 2, 1, 3] } });
  editor.addOutput(rawKeysName(index), DataType.FLOAT, [batchSymbol(editor), numKvHeads, 'new_tokens', headDim]);
}

/** What a RotaryEmbedding node made the keys [B, N, Hkv·D] of; undefined if none did. */
function beforeRotation(editor: GraphEditor, key: string): string | undefined {
  const producer = editor.producer(key);
  return producer?.opType === 'RotaryEmbedding' ? producer.input?.[0] : undefined;
}
