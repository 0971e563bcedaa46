/** The new tokens' queries, keys and values: heads apart, turned to their positions, and handed to the cache under the contract's names. */
import { newRowsName, rawKeysName } from '../contract.ts';
import { assert } from '../errors.ts';
import { DataType } from '../onnx/index.ts';
import { packsRawKeys } from '../shape.ts';
import type { Layer } from './attention.ts';
import { rotate } from './rotary.ts';

/** Query, new keys and new values of a layer, ready for products. */
export interface Rows {
  readonly query_BHND: string;
  readonly key_BHkvND: string;
  readonly value_BHkvND: string;
}

/** Query, key and value are joined first: one Cast, Reshape and Transpose serves the three of them. */
export function projectRows(layer: Layer): Rows {
  const { editor, attention, shared, packing } = layer;
  const { index, numHeads, numKvHeads, headDim } = attention.shape;
  const prefix = `packed_attention.${index}/`;
  const joined = layer.add('Concat', [attention.query, attention.key, attention.value], 'qkv_BNHxD', { axis: 2 });
  const joined_BNHxD = layer.cast(joined, attention.type, layer.type, 'qkv_compute_BNHxD');
  const joined_BNHD = layer.add('Reshape', [joined_BNHxD, shared.shape(0, 0, -1, headDim)], 'qkv_BNHD');
  const joined_BHND = layer.add('Transpose', [joined_BNHD], 'qkv_BHND', { perm: [0, 2, 1, 3] });
  const split = editor.addMany(
    'Split',
    [joined_BHND, shared.shape(numHeads, numKvHeads, numKvHeads)],
    ['query_projected_BHND', 'key_projected_BHkvND', 'value_projected_BHkvND'].map((name) => prefix + name),
    { attributes: { axis: 1 } },
  );
  let [query_BHND, key_BHkvND, value_BHkvND] = split as [string, string, string];

  const { rotary } = attention;
  if (rotary) {
    if (packsRawKeys(packing.rotary)) key_BHkvND = handOut(layer, key_BHkvND, rawKeysName(index), DataType.FLOAT);
    const positions = rotary.positions || shared.maskPositions();
    const size = { headDim, type: layer.type };
    query_BHND = rotate(editor, query_BHND, positions, rotary, { ...size, numHeads }, `${prefix}query_BHND`);
    key_BHkvND = rotate(editor, key_BHkvND, positions, rotary, { ...size, numHeads: numKvHeads }, `${prefix}key_BHkvND`);
  }
  key_BHkvND = handOut(layer, key_BHkvND, newRowsName(index, 'key'), packing.windowType);
  value_BHkvND = handOut(layer, value_BHkvND, newRowsName(index, 'value'), packing.windowType);
  return { query_BHND, key_BHkvND, value_BHkvND };
}

/** Makes a value that nothing reads yet the graph output `name` of type `type`; returns what the layer goes on with. */
function handOut({ editor, type: layerType }: Layer, value: string, name: string, type: DataType): string {
  if (layerType !== type) {
    editor.append('Cast', [value], [name], { attributes: { to: type } });
    return value;
  }
  const producer = editor.producer(value);
  assert(producer, `'${value}' has no node`);
  producer.output = producer.output?.map((output) => (output === value ? name : output)); // no node only to rename
  return name;
}

/** [B, Hkv·R or Hkv, R, M, T] -> [B, Hkv, R, M·T]. The last dimension is the inferred one: only it may be 0. */
export function joinSegments(layer: Layer, scores: string): string {
  const { shared, groups, attention } = layer;
  const shape = shared.shape(0, attention.shape.numKvHeads, shared.timesNew(groups), -1);
  return layer.add('Reshape', [scores, shape], 'scores_packed_BHkvRMxT');
}
