/**
 * Builds packed attention for one layer in place of its GroupQueryAttention node.
 *
 * Letters as in `shape.ts`; in value names R = G·N, the query rows that share a key/value head, HR = Hkv·R = H·N, and
 * C = M·T + S + N, the columns of a row of scores: packed tokens, window, new tokens, under one softmax.
 */
import { type Side, windowName } from '../contract.ts';
import { type AttributeValue, DataType, type GraphEditor } from '../onnx/index.ts';
import type { BasisType, CodeType, RotaryMode } from '../shape.ts';
import type { AttentionNode } from './attention-node.ts';
import type { Shared } from './mask.ts';
import { handOutMass } from './mass.ts';
import { handOutQueryMoment } from './query-moment.ts';
import { projectRows, type Rows } from './rows.ts';
import { scoreFused, scorePlain } from './scores.ts';
import { attendTiers, biasInOrder, tierParts } from './tiers.ts';
import { attendCodes, basisMatrix, codesMatrix } from './unpack.ts';

/** How the subgraph is spelled for an execution provider. */
export interface Form {
  /** Whether FusedMatMul may be used; on WebGPU it falls back to the CPU. */
  readonly fused: boolean;
  /** Type of scores and sums, given the graph's own. */
  readonly computeType: (graphType: DataType) => DataType;
}

export const FORMS = {
  /** The CPU provider has few fp16 kernels: attention runs in fp32, with Casts at its borders. */
  cpu: { fused: true, computeType: () => DataType.FLOAT },
  wasm: { fused: true, computeType: () => DataType.FLOAT },
  webgpu: { fused: false, computeType: (graphType) => graphType },
} as const satisfies Record<string, Form>;

export interface Packing {
  readonly rotary: RotaryMode;
  readonly codes: CodeType;
  readonly basis: BasisType;
  readonly form: Form;
  readonly windowType: DataType;
  /** See `ModelShape`; only in `m-rope`. */
  readonly axisColumns?: readonly (readonly number[])[];
  /** Whether each layer tells how much attention its columns got. */
  readonly mass: boolean;
  /** Whether packed tokens are read in tiers. */
  readonly tiered: boolean;
  /** Whether each layer tells the second moment of its queries. */
  readonly queryMoments: boolean;
}

/** One layer under construction: how to add a node, and what every part needs to know. */
export interface Layer {
  readonly editor: GraphEditor;
  readonly attention: AttentionNode;
  readonly packing: Packing;
  readonly shared: Shared;
  readonly type: DataType;
  readonly groups: number;
  /** A wanted name with the layer's prefix. */
  named(wanted: string): string;
  /** The same layer, whose nodes go to a branch of an If node; `part` joins the prefix. */
  within(branch: GraphEditor, part: string): Layer;
  /** Appends a node; the wanted name gets the layer's prefix. */
  add(op: string, inputs: readonly string[], wanted: string, attributes?: Readonly<Record<string, AttributeValue | undefined>>): string;
  /** Appends an ONNX Runtime contrib node. */
  contrib(op: string, inputs: readonly string[], wanted: string, attributes?: Readonly<Record<string, AttributeValue | undefined>>): string;
  cast(value: string, from: DataType, to: DataType, wanted: string): string;
  /** Codes [B, M, T, r] in the compute type, whatever they are held as: multiplied with `basis` they are the keys or values. */
  codes(side: Side): string;
  /** Basis [B, M, Hkv, r, D] in the compute type. */
  basis(side: Side): string;
  /** Dense window [B, Hkv, S, D] in the compute type. */
  window(side: Side): string;
}

/** Replaces the node; its output keeps its name, so nothing downstream changes. */
export function packAttention(editor: GraphEditor, attention: AttentionNode, packing: Packing, shared: Shared): void {
  const layer = openLayer(editor, attention, packing, shared);
  editor.removeNode(attention.node);

  // 1. Heads apart, rotary embedding, and the new rows out to the cache.
  const rows = projectRows(layer);
  if (packing.queryMoments) handOutQueryMoment(layer, rows.query_BHND);

  // 2. Scores of all columns, squeezed before they are masked, as in the original.
  let scores_BHkvRC = (packing.form.fused ? scoreFused : scorePlain)(layer, rows);
  if (attention.softcap > 0) {
    const squeezed = layer.add('Tanh', [scores_BHkvRC], 'scores_tanh_BHkvRC'); // the division is in the products' scale
    scores_BHkvRC = layer.add('Mul', [squeezed, editor.scalar(attention.softcap, layer.type)], 'scores_capped_BHkvRC');
  }
  const bias = packing.tiered ? biasInOrder(layer) : shared.bias(attention.shape.localWindow, layer.groups);
  const masked_BHkvRC = layer.add('Add', [scores_BHkvRC, bias], 'scores_masked_BHkvRC');

  // 3. One softmax over packed and dense tokens together.
  const weights_BHkvRC = layer.add('Softmax', [masked_BHkvRC], 'weights_BHkvRC', { axis: -1 });
  if (packing.mass) handOutMass(layer, weights_BHkvRC);

  // 4. Values, part by part; packed ones without ever being rebuilt.
  const attended_BHkvRD = attend(layer, weights_BHkvRC, rows);

  // 5. Heads back together.
  const { numHeads, headDim } = attention.shape;
  const attended_BHND =
    layer.groups === 1 ? attended_BHkvRD : layer.add('Reshape', [attended_BHkvRD, shared.shape(0, numHeads, -1, headDim)], 'attended_BHND');
  const attended_BNHD = layer.add('Transpose', [attended_BHND], 'attended_BNHD', { perm: [0, 2, 1, 3] });
  if (layer.type === attention.type) {
    editor.append('Reshape', [attended_BNHD, shared.shape(0, 0, numHeads * headDim)], [attention.output]); // [B, N, H·D]
  } else {
    const attended = layer.add('Reshape', [attended_BNHD, shared.shape(0, 0, numHeads * headDim)], 'attended_BNHxD');
    editor.append('Cast', [attended], [attention.output], { attributes: { to: attention.type } });
  }
}

function openLayer(editor: GraphEditor, attention: AttentionNode, packing: Packing, shared: Shared, part = ''): Layer {
  const { index, numHeads, numKvHeads } = attention.shape;
  const type = packing.form.computeType(attention.type);
  const prefix = `packed_attention.${index}/${part}`;
  const add: Layer['add'] = (op, inputs, wanted, attributes = {}) => editor.add(op, inputs, prefix + wanted, { attributes });
  const cast: Layer['cast'] = (value, from, to, wanted) => (from === to ? value : add('Cast', [value], wanted, { to }));
  const layer: Layer = {
    editor,
    attention,
    packing,
    shared,
    type,
    groups: numHeads / numKvHeads,
    named: (wanted) => prefix + wanted,
    within: (branch, of) => openLayer(branch, attention, packing, shared, `${part}${of}/`),
    add,
    cast,
    contrib: (op, inputs, wanted, attributes = {}) => editor.add(op, inputs, prefix + wanted, { domain: 'com.microsoft', attributes }),
    codes: (side) => codesMatrix(layer, side),
    basis: (side) => basisMatrix(layer, side),
    window: (side) => cast(windowName(index, side), packing.windowType, type, `past_${side}_BHkvSD`),
  };
  return layer;
}

/** ONNX element type of each type codes and bases can have. */
export const ELEMENT: Readonly<Record<CodeType | BasisType, DataType>> = {
  float32: DataType.FLOAT,
  float16: DataType.FLOAT16,
  int8: DataType.INT8,
  mixed: DataType.UINT8,
};

/** [B, Hkv, R, M·T] -> [B, M, H·N, T]: all heads share a segment's codes, so their rows lie side by side in one product. */
function bySegment(layer: Layer, weights_BHkvRMxT: string): string {
  const { shared, attention } = layer;
  const rows = shared.shape(0, shared.timesNew(attention.shape.numHeads), shared.numSegments, -1);
  const weights_BHRMT = layer.add('Reshape', [weights_BHkvRMxT, rows], 'weights_BHRMT');
  return layer.add('Transpose', [weights_BHRMT], 'weights_BMHRT', { perm: [0, 2, 1, 3] });
}

/** Sums values by weight: packed through codes, then basis; window and new tokens as they are. [B, Hkv, R, D] */
function attend(layer: Layer, weights_BHkvRC: string, rows: Rows): string {
  const { editor, shared, attention, packing } = layer;
  const parts = [...(packing.tiered ? ['first_BHkvRMxT', 'second_BHkvRMxT'] : ['packed_BHkvRMxT']), 'window_BHkvRS', 'new_BHkvRN'].map(
    (part) => editor.fresh(`packed_attention.${attention.shape.index}/weights_${part}`),
  );
  const [new_BHkvRN, window_BHkvRS, ...packed] = parts.toReversed() as [string, string, string, ...string[]];
  editor.append('Split', [weights_BHkvRC, packing.tiered ? tierParts(layer) : shared.scoreParts], parts, { attributes: { axis: -1 } });
  const weights = packed.toReversed().map((part) => bySegment(layer, part));
  const fromPacked = packing.tiered ? attendTiers(layer, weights) : attendCodes(layer, weights[0] as string);

  const fromWindow = layer.add('MatMul', [window_BHkvRS, layer.window('value')], 'attended_window_BHkvRD');
  const fromNew = layer.add('MatMul', [new_BHkvRN, rows.value_BHkvND], 'attended_new_BHkvRD');
  return layer.add('Sum', [fromPacked, fromWindow, fromNew], 'attended_BHkvRD');
}
