/**
 * Attention-aware decompression: packed tokens in two tiers, the first read by all columns of its codes and the second by the leading ones.
 * AttentionPack, arXiv 2603.23914.
 *
 * Nothing is masked: the second tier's other columns are no inputs. Softmax heeds no order, so scores stand in each layer's own, first tier before second, and
 * only the mask has to be brought into it. Letters as in `attention.ts`; T1 tokens of a segment are of the first tier, T2 of the second.
 */
import { codesName, leadName, leadRankName, orderName, PACKED_SLOTS, type Side } from '../contract.ts';
import { DataType, type Dim, float, type GraphEditor } from '../onnx/index.ts';
import { ELEMENT, type Layer, type Packing } from './attention.ts';
import type { AttentionNode } from './attention-node.ts';
import { type PackedRotary, packedRotary, turnedKeys } from './packed-rotary.ts';
import { joinSegments, type Rows } from './rows.ts';
import { attendSums, latentQuery } from './unpack.ts';

const SIDES: readonly Side[] = ['key', 'value'];

/** As an end of Slice: to the last. */
const END = 2 ** 40;

/** Declares leading codes, and the order of packed tokens in each layer. */
export function addTierInputs(editor: GraphEditor, attentions: readonly AttentionNode[], packing: Packing, batch: Dim): void {
  for (const side of SIDES) editor.addInput(leadRankName(side), DataType.INT64, [1]);
  for (const { shape } of attentions) {
    editor.addInput(orderName(shape.index), DataType.INT32, [batch, 'packed_size']);
    for (const side of SIDES) {
      const dims = [batch, 'segments', 'second_tier_size', `${side}_lead_${shape.index}`];
      editor.addInput(leadName(shape.index, side), ELEMENT[packing.codes], dims);
    }
  }
}

/** [4]: M·T1, M·T2, S, N: the parts of a row of scores. */
export function tierParts(layer: Layer): string {
  const { editor, shared } = layer;
  return shared.once('tier parts', () => {
    const dense = editor.add('Slice', [shared.scoreParts, editor.ints([1]), editor.ints([3])], 'num_dense');
    return shared.shape(...numInTiers(layer), dense);
  });
}

/** [1] each: M·T1 and M·T2; as many in all layers. */
function numInTiers({ editor, shared, attention }: Layer): string[] {
  return [codesName, leadName].map((nameOf, tier) =>
    shared.once(`num in tier ${tier}`, () => {
      const dims = editor.add('Shape', [nameOf(attention.shape.index, 'key')], `tier_${tier}_shape`);
      const size = editor.add('Gather', [dims, editor.ints([2])], `tier_${tier}_size`);
      return editor.add('Mul', [shared.numSegments, size], `num_in_tier_${tier}`);
    }),
  );
}

/** The mask with packed columns in the layer's order, [B, 1, G·N, C]. */
export function biasInOrder(layer: Layer): string {
  const { editor, shared, attention, groups } = layer;
  const { localWindow, index } = attention.shape;
  const key = `${localWindow ?? 'global'} x${groups}`;
  const bias_B1RC = shared.bias(localWindow, groups);
  const numPacked = shared.once('num packed', () => {
    const dims = editor.add('Shape', [PACKED_SLOTS], 'packed_slots_shape');
    return editor.add('Gather', [dims, editor.ints([1])], 'num_packed_of_sequence');
  });
  const slice = (value: string, from: string, to: string, axis: number, wanted: string): string =>
    editor.add('Slice', [value, from, to, editor.ints([axis])], wanted);
  const dense_B1RC = shared.once(`dense bias ${key}`, () => slice(bias_B1RC, numPacked, editor.ints([END]), 3, 'mask_dense_B1RC'));
  // A row for each packed token: what all queries see alike is one number, and is spread over queries after it was found.
  const rows = shared.once(`packed bias ${key}`, () => {
    const packed_B1RT = slice(bias_B1RC, editor.ints([0]), numPacked, 3, 'mask_packed_B1RT');
    if (localWindow === undefined) {
      const first_B11T = slice(packed_B1RT, editor.ints([0]), editor.ints([1]), 2, 'mask_packed_B11T');
      return editor.add('Reshape', [first_B11T, editor.ints([-1])], 'mask_packed_BxT');
    }
    const packed_BT1R = editor.add('Transpose', [packed_B1RT], 'mask_packed_BT1R', { attributes: { perm: [0, 3, 1, 2] } });
    return editor.add('Reshape', [packed_BT1R, shared.shape(-1, shared.timesNew(groups))], 'mask_packed_BxTR');
  });
  const found = layer.add('Gather', [rows, orderName(index)], 'mask_ordered', { axis: 0 });
  let ordered_B1RT: string;
  if (localWindow === undefined) {
    const ordered_B11T = layer.add('Unsqueeze', [found, editor.ints([1, 2])], 'mask_ordered_B11T');
    ordered_B1RT = layer.add('Expand', [ordered_B11T, shared.shape(1, 1, shared.timesNew(groups), 1)], 'mask_ordered_B1RT');
  } else {
    const ordered_BRT = layer.add('Transpose', [found], 'mask_ordered_BRT', { perm: [0, 2, 1] });
    ordered_B1RT = layer.add('Unsqueeze', [ordered_BRT, editor.ints([1])], 'mask_ordered_B1RT');
  }
  return layer.add('Concat', [ordered_B1RT, dense_B1RC], 'mask_ordered_B1RC', { axis: -1 });
}

/** Scores of both tiers, [B, Hkv, R, M·T1] and [B, Hkv, R, M·T2]. @param alpha what products of query and key are multiplied by */
export function scoreTiers(layer: Layer, rows: Rows, query_B1HkvRD: string, alpha: number): string[] {
  const { editor } = layer;
  const codes = [layer.codes('key'), leadCodes(layer, 'key')] as const;
  if (layer.packing.rotary === 'post-rope') {
    const query_BMHRr = latentQuery(layer, query_B1HkvRD, rows.query_BHND, alpha);
    return [query_BMHRr, leading(layer, query_BMHRr, 'key', -1, 'query_latent_lead')].map((query, tier) => {
      const scores_BMHRT = layer.contrib('FusedMatMul', [query, codes[tier] as string], 'scores_packed_BMHRT', { transB: 1 });
      return joinSegments(layer, layer.add('Transpose', [scores_BMHRT], 'scores_packed_BHRMT', { perm: [0, 2, 1, 3] }));
    });
  }
  const turned = packedRotary(layer);
  const basis_BMHkvrD = layer.basis('key');
  return [basis_BMHkvrD, leading(layer, basis_BMHkvrD, 'key', 3, 'key_basis_lead')].map((basis, tier) => {
    const keys_BMHkvTD = turnedKeys(layer, rotaryOfTier(layer, turned, tier), codes[tier] as string, basis);
    const attributes = { alpha: float(alpha), transB: 1 };
    const scores_BMHkvRT = layer.contrib('FusedMatMul', [query_B1HkvRD, keys_BMHkvTD], 'scores_packed_BMHkvRT', attributes);
    return joinSegments(layer, layer.add('Transpose', [scores_BMHkvRT], 'scores_packed_BHkvRMT', { perm: [0, 2, 3, 1, 4] }));
  });

  /** Positions of one tier's tokens, [B·M, T1 or T2]. */
  function rotaryOfTier(of: Layer, { rotary, positions }: PackedRotary, tier: number): PackedRotary {
    const { shared } = of;
    const flat = shared.once(`flat ${positions}`, () => editor.add('Reshape', [positions, editor.ints([-1])], 'packed_positions_flat'));
    const order_BMxT = orderOfTier(of, tier);
    return { rotary, positions: of.add('Gather', [flat, order_BMxT], 'tier_positions_BMxT', { axis: 0 }) };
  }
}

/** Whose codes a tier's are, [B·M, T1 or T2]. */
function orderOfTier(layer: Layer, tier: number): string {
  const { editor, shared, attention } = layer;
  const [numFirst] = numInTiers(layer) as [string];
  const [from, to] = tier ? [numFirst, editor.ints([END])] : [editor.ints([0]), numFirst];
  const part = layer.add('Slice', [orderName(attention.shape.index), from, to, editor.ints([1])], 'tier_order');
  return layer.add('Reshape', [part, shared.shape(shared.segmentsOfBatch(), -1)], 'tier_order_BMxT');
}

/** Packed values summed by weight, [B, Hkv, R, D]. @param weights each tier's, [B, M, H·N, T1 or T2] */
export function attendTiers(layer: Layer, weights: readonly string[]): string {
  const { editor } = layer;
  const codes = [layer.codes('value'), leadCodes(layer, 'value')];
  const [first_BMHRr, second_BMHRr] = weights.map((weights_BMHRT, tier) =>
    layer.add('MatMul', [weights_BMHRT, codes[tier] as string], 'value_latent_BMHRr'),
  ) as [string, string];
  // Both sums in one row: the basis is read once.
  const shared_BMHRr = layer.add(
    'Add',
    [leading(layer, first_BMHRr, 'value', -1, 'value_latent_lead'), second_BMHRr],
    'value_latent_shared_BMHRr',
  );
  const alone_BMHRr = layer.add('Slice', [first_BMHRr, leadRankName('value'), editor.ints([END]), editor.ints([-1])], 'value_latent_alone');
  return attendSums(layer, layer.add('Concat', [shared_BMHRr, alone_BMHRr], 'value_latent_tiers_BMHRr', { axis: -1 }));
}

/** Leading columns of the second tier's codes, [B, M, T2, r2], in the compute type. */
function leadCodes(layer: Layer, side: Side): string {
  const { attention, packing, type } = layer;
  return layer.cast(leadName(attention.shape.index, side), ELEMENT[packing.codes], type, `${side}_lead_BMTr`);
}

/** The first r2 of an axis' r. */
function leading(layer: Layer, value: string, side: Side, axis: number, wanted: string): string {
  const { editor } = layer;
  return layer.add('Slice', [value, editor.ints([0]), leadRankName(side), editor.ints([axis])], wanted);
}
