/**
 * Hands out how much attention each column of a layer's scores got: what importance and eviction go by.
 *
 * Only the rows of the queries that count are read, so the cost is theirs alone: a quarter of a pass over the weights for a quarter of the
 * queries, nothing but a few small nodes for none. Heads and queries are one dimension of one product: a sum over heads behind it took longer than the product.
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
  const counted_BHxQC = layer.add('Reshape', [counted_BHQC, shared.shape(0, -1, numColumns(layer))], 'weights_BHxQC');
  const mass_B1C = layer.cast(layer.add('MatMul', [shares(layer), counted_BHxQC], 'mass_B1C'), type, DataType.FLOAT, 'mass_f32_B1C');
  const name = massName(index);
  editor.append('Squeeze', [mass_B1C, editor.ints([1])], [name]);
  editor.addOutput(name, DataType.FLOAT, [batchSymbol(editor), 'score_columns']);
}

/** As an end of Slice: to the last. */
const END = 2 ** 40;

/** [1]: the first new token that counts. */
function firstCounted({ editor, shared }: Layer): string {
  return shared.once('mass first', () => editor.add('Sub', [shared.numNew, MASS_QUERIES], 'mass_first_1'));
}

/** [1]: C. */
function numColumns({ editor, shared }: Layer): string {
  return shared.once('mass columns', () => editor.add('ReduceSum', [shared.scoreParts], 'mass_columns_1', { attributes: { keepdims: 1 } }));
}

/** [B, 1, H·Q]: 1 / H for each query that counts, 0 for padding. */
function shares(layer: Layer): string {
  const { editor, shared, attention, type } = layer;
  const { numHeads } = attention.shape;
  const counted_B11Q = shared.once('mass counted', () => {
    const first = editor.add('Sub', [shared.numSlots, MASS_QUERIES], 'mass_first_slot_1'); // -Q would mean all slots for Q = 0
    const mask_BQ = editor.add('Slice', [ATTENTION_MASK, first, editor.ints([END]), editor.ints([1])], 'mass_mask_BQ');
    const counted_BQ = editor.add('Cast', [mask_BQ], 'mass_counted_BQ', { attributes: { to: type } });
    return editor.add('Unsqueeze', [counted_BQ, editor.ints([1, 2])], 'mass_counted_B11Q');
  });
  return shared.once(`mass shares ${numHeads}`, () => {
    const shares_B11Q = editor.add('Mul', [counted_B11Q, editor.scalar(1 / numHeads, type)], `mass_shares_${numHeads}_B11Q`);
    const shares_B1HQ = editor.add('Tile', [shares_B11Q, editor.ints([1, 1, numHeads, 1])], `mass_shares_${numHeads}_B1HQ`);
    return editor.add('Reshape', [shares_B1HQ, shared.shape(shared.batch, 1, -1)], `mass_shares_${numHeads}_B1HxQ`);
  });
}
