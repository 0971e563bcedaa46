/**
 * Tells an attention bias that only repeats the attention mask, and can be dropped, from one that says something of its own.
 *
 * Not by its form, which differs from exporter to exporter, but by its values: the bias is evaluated on a few masks and must be 0 wherever
 * a real query meets a key it may see. What it adds elsewhere does not matter; those keys are hidden by our own mask.
 */
import type { Refusal } from '../errors.ts';
import type { GraphEditor } from '../onnx/index.ts';
import type { LayerShape } from '../shape.ts';
import { type AttentionNode, nodeName } from './attention-node.ts';
import { CannotEvaluate, evaluate, type Values } from './evaluate.ts';
import { ATTENTION_MASK } from './mask.ts';

interface Probe {
  /** New tokens. */
  readonly numNew: number;
  /** One row of the attention mask per sequence. */
  readonly masks: readonly (readonly number[])[];
}

const PROBES: readonly Probe[] = [
  { numNew: 6, masks: [[1, 1, 1, 1, 1, 1]] },
  {
    numNew: 3,
    masks: [
      [1, 1, 1, 1, 1, 1, 1, 1],
      [0, 0, 0, 1, 1, 1, 1, 1],
    ],
  },
  // Long enough to meet a local window that the bias has and the node has not.
  { numNew: 1, masks: [Array<number>(2 ** 17).fill(1)] },
];

/** Refuses the nodes whose bias says more than the attention mask does. */
export function refuseForeignBias(editor: GraphEditor, attentions: readonly AttentionNode[]): Refusal[] {
  const known = new Map<string, readonly (Values | string)[]>(); // layers share their bias
  return attentions.flatMap(({ node, attentionBias, shape }) => {
    if (!attentionBias) return [];
    const biases = known.get(attentionBias) ?? PROBES.map((probe) => evaluateBias(editor, attentionBias, probe));
    known.set(attentionBias, biases);
    const reason = biases
      .map((bias, i) => (typeof bias === 'string' ? bias : contradiction(bias, PROBES[i] as Probe, shape)))
      .find((found) => found !== undefined);
    return reason === undefined ? [] : [{ node: nodeName(node), reason: `foreign bias '${attentionBias}': ${reason}` }];
  });
}

function evaluateBias(editor: GraphEditor, bias: string, { numNew, masks }: Probe): Values | string {
  const [batch, numSlots] = [masks.length, masks[0]?.length ?? 0];
  const shapes = new Map<string, readonly number[]>();
  for (const { name } of editor.graph.input ?? []) {
    if (name === 'inputs_embeds') shapes.set(name, [batch, numNew, 1]);
    if (name === 'input_ids' || name === 'position_ids') shapes.set(name, [batch, numNew]);
    if (name?.startsWith('past_key_values.')) shapes.set(name, [batch, 1, numSlots - numNew, 1]);
  }
  const mask = { dims: [batch, numSlots], data: Float64Array.from(masks.flat()) };
  try {
    const made = evaluate(editor, bias, { values: new Map([[ATTENTION_MASK, mask]]), shapes });
    return made.dims.length === 4 ? made : `it has ${made.dims.length} dimensions, not 4`;
  } catch (cause) {
    if (cause instanceof CannotEvaluate) return `it depends on ${cause.message}, not on '${ATTENTION_MASK}' alone`;
    throw cause;
  }
}

/** Where the bias changes the score of a key that a real query may see. */
function contradiction({ dims, data }: Values, { numNew, masks }: Probe, { localWindow }: LayerShape): string | undefined {
  const numSlots = masks[0]?.length ?? 0;
  const [biasBatch, biasHeads, rows, columns] = dims as [number, number, number, number];
  if (rows !== numNew || columns !== numSlots) return `it is [${dims}] for ${numNew} new tokens in ${numSlots} slots`;
  for (const [b, mask] of masks.entries()) {
    for (let n = 0; n < numNew; n++) {
      const query = numSlots - numNew + n;
      for (let key = Math.max(0, localWindow ? query - localWindow + 1 : 0); key <= query; key++) {
        if (!mask[key] || !mask[query]) continue;
        for (let h = 0; h < biasHeads; h++) {
          const at = ((Math.min(b, biasBatch - 1) * biasHeads + h) * rows + n) * columns + key;
          if (data[at] !== 0) return `it adds ${data[at]} between slots ${query} and ${key}, which see each other`;
        }
      }
    }
  }
  return undefined;
}
