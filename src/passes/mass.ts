/**
 * Hands out how much attention each column of a layer's scores got: what importance and eviction go by.
 *
 * Only the rows of the queries that count are read, so the cost is theirs alone: a quarter of a pass over the weights for a quarter of the
 * queries, nothing but three small nodes for none.
 */
import { MASS_QUERIES, massName } from '../contract.ts';
import { DataType, type GraphEditor } from '../onnx/index.ts';
import type { Layer } from './attention.ts';
import { batchSymbol } from './inputs.ts';
import { ATTENTION_MASK } from './mask.ts';

/** Declares the number of queries that count. Called before the layers are built, so that their values exist. */
export function addMassInput(editor: GraphEditor): void {
  editor.addInput(MASS_QUERIES, DataType.INT64, [1]);
}

/**
 * Makes `present_mass.N` [B, C], float32, a graph output: the mean over query heads of the attention weights, summed over the newest
 * `mass.queries` new tokens. Padding does not count as a query.
 *
 * @param weights_BHkvRC after the softmax
 */
export function handOutMass(layer: Layer, weights_BHkvRC: string): void {
  const { editor, shared, attention, groups, type } = layer;
  const { index, numHeads } = attention.shape;
  const weights_BHNC =
    groups === 1 ? weights_BHkvRC : layer.add('Reshape', [weights_BHkvRC, shared.shape(0, numHeads, shared.numNew, -1)], 'weights_BHNC');
  const counted_BHQC = layer.add('Slice', [weights_BHNC, firstCounted(layer), editor.ints([END]), editor.ints([2])], 'weights_BHQC');
  const mass_BH1C = layer.cast(layer.add('MatMul', [shares(layer), counted_BHQC], 'mass_BH1C'), type, DataType.FLOAT, 'mass_f32_BH1C');
  const name = massName(index);
  editor.append('ReduceSum', [mass_BH1C, editor.ints([1, 2])], [name], { attributes: { keepdims: 0 } });
  editor.addOutput(name, DataType.FLOAT, [batchSymbol(editor), 'score_columns']);
}

/** As an end of Slice: to the last. */
const END = 2 ** 40;

/** [1]: the first new token that counts. */
function firstCounted({ editor, shared }: Layer): string {
  return shared.once('mass first', () => editor.add('Sub', [shared.numNew, MASS_QUERIES], 'mass_first_1'));
}

/** [B, 1, 1, Q]: 1 / H for each query that counts, 0 for padding. */
function shares({ editor, shared, attention, type }: Layer): string {
  const { numHeads } = attention.shape;
  const counted_B11Q = shared.once('mass counted', () => {
    const first = editor.add('Sub', [shared.numSlots, MASS_QUERIES], 'mass_first_slot_1'); // -Q would mean all slots for Q = 0
    const mask_BQ = editor.add('Slice', [ATTENTION_MASK, first, editor.ints([END]), editor.ints([1])], 'mass_mask_BQ');
    const counted_BQ = editor.add('Cast', [mask_BQ], 'mass_counted_BQ', { attributes: { to: type } });
    return editor.add('Unsqueeze', [counted_BQ, editor.ints([1, 2])], 'mass_counted_B11Q');
  });
  return shared.once(`mass shares ${numHeads}`, () =>
    editor.add('Mul', [counted_B11Q, editor.scalar(1 / numHeads, type)], `mass_shares_${numHeads}_B11Q`),
  );
}
