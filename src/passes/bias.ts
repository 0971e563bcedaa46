/** Tells an attention bias that only repeats the attention mask, and can be dropped, from one that says something of its own. */
import type { Refusal } from '../errors.ts';
import type { GraphEditor } from '../onnx/index.ts';
import { type AttentionNode, nodeName } from './attention-node.ts';
import { ATTENTION_MASK } from './mask.ts';

/** The node's bias, unless nothing but the attention mask, constants and shapes goes into it. */
export function refuseForeignBias(editor: GraphEditor, attention: AttentionNode): Refusal[] {
  if (!attention.attentionBias) return [];
  const foreign = firstForeign(editor, attention.attentionBias, new Set());
  return foreign === undefined
    ? []
    : [
        {
          node: nodeName(attention.node),
          reason: `foreign bias: '${attention.attentionBias}' comes from '${foreign}', not from the attention mask alone`,
        },
      ];
}

function firstForeign(editor: GraphEditor, value: string, seen: Set<string>): string | undefined {
  if (!value || value === ATTENTION_MASK || seen.has(value) || editor.initializer(value)) return undefined;
  seen.add(value);
  const producer = editor.producer(value);
  if (!producer) return value;
  if (producer.opType === 'Shape') return undefined;
  for (const input of producer.input ?? []) {
    const foreign = firstForeign(editor, input, seen);
    if (foreign !== undefined) return foreign;
  }
  return undefined;
}
