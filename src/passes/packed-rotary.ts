/** How packed keys are turned late: by fixed tables at their positions, or by tables computed for them as they are for new tokens. */
import { PACKED_POSITIONS, PACKED_SLOTS } from '../contract.ts';
import { assert } from '../errors.ts';
import type { GraphEditor } from '../onnx/index.ts';
import type { Layer } from './attention.ts';
import type { Rotary } from './attention-node.ts';
import type { Shared } from './mask.ts';
import { rotate } from './rotary.ts';

/** Tables, and positions [B·M, T] in them, for the packed tokens. */
export interface PackedRotary {
  readonly rotary: Rotary;
  readonly positions: string;
}

export function packedRotary({ editor, shared, attention }: Layer): PackedRotary {
  const { rotary } = attention;
  assert(rotary, 'rotate-late in a layer that does not rotate');
  const { source } = rotary;
  if (!source) return { rotary, positions: shared.packedPositions() };
  const axes_ABMxT = shared.once('packed axes', () =>
    editor.add('Transpose', [PACKED_POSITIONS], 'packed_axes_ABMxT', { attributes: { perm: [2, 0, 1] } }),
  );
  const { cosTable, sinTable } = tablesAt(editor, shared, rotary, axes_ABMxT, 'packed');
  return { rotary: { ...rotary, cosTable, sinTable }, positions: packedRows(editor, shared) };
}

/**
 * Packed keys, rebuilt for a moment and turned to their positions: [B, M, Hkv, T, D].
 *
 * @param codes_BMTr of some of the tokens, those `positions` are of; `basis_BMHkvrD` has as many rows
 */
export function turnedKeys(layer: Layer, { rotary, positions }: PackedRotary, codes_BMTr: string, basis_BMHkvrD: string): string {
  const { editor, shared, attention } = layer;
  const { numKvHeads, headDim } = attention.shape;
  const codes_BM1Tr = layer.add('Unsqueeze', [codes_BMTr, editor.ints([2])], 'key_codes_BM1Tr');
  const keys_BMHkvTD = layer.add('MatMul', [codes_BM1Tr, basis_BMHkvrD], 'keys_unturned_BMHkvTD');
  const numRows = shared.segmentsOfBatch();
  const keys_BMxHkvTD = layer.add('Reshape', [keys_BMHkvTD, shared.shape(numRows, numKvHeads, -1, headDim)], 'keys_unturned_BMxHkvTD');
  const size = { numHeads: numKvHeads, headDim, type: layer.type };
  const wanted = layer.named('keys_BMxHkvTD');
  const turned_BMxHkvTD = rotate(editor, keys_BMxHkvTD, positions, rotary, size, wanted);
  return layer.add('Reshape', [turned_BMxHkvTD, shared.shape(shared.batch, shared.numSegments, numKvHeads, -1, headDim)], 'keys_BMHkvTD');
}

/**
 * The rotary tables as they would be at other positions: what makes them of the graph's own positions is copied.
 *
 * @param positions [A, B', N']; the tables get B'·N' rows
 * @param copy prefix of the copies' names; one for each `positions`
 */
export function tablesAt(
  editor: GraphEditor,
  shared: Shared,
  { cosTable, sinTable, source }: Rotary,
  positions: string,
  copy: string,
): { cosTable: string; sinTable: string } {
  assert(source, 'tables that are not computed from positions');
  const [cos, sin] = [cosTable, sinTable].map((table) => copied(editor, shared, table, source.input, positions, copy));
  assert(cos && sin, 'two tables');
  return { cosTable: cos, sinTable: sin };
}

/** `value` as it would be if the graph input `from` were `to`. What does not depend on it is shared. */
function copied(editor: GraphEditor, shared: Shared, value: string, from: string, to: string, prefix: string): string {
  if (value === from) return to;
  const node = editor.producer(value);
  if (!node) return value;
  return shared.once(`${prefix} ${value}`, () => {
    const inputs = (node.input ?? []).map((input) => copied(editor, shared, input, from, to, prefix));
    if (inputs.every((input, i) => input === node.input?.[i])) return value;
    const copy = editor.fresh(`${prefix}/${value}`);
    const made = editor.append(node.opType ?? '', inputs, [copy], node.domain ? { domain: node.domain } : {});
    if (node.attribute?.length) made.attribute = node.attribute;
    return copy;
  });
}

/** 0, 1, 2, .. over all packed tokens, [B·M, T]: their rows in tables of their own. */
export function packedRows(editor: GraphEditor, shared: Shared): string {
  return shared.once('packed rows', () => rowsOf(editor, shared, PACKED_SLOTS, 'packed'));
}

/** 0, 1, 2, .. over all elements of `value`, whose first dimensions are B and, perhaps only in effect, M: [B·M, the rest]. */
export function rowsOf(editor: GraphEditor, shared: Shared, value: string, name: string): string {
  const size = editor.add('Size', [value], `num_${name}_of_batch`);
  const rows = editor.add('Range', [editor.ints(0), size, editor.ints(1)], `${name}_rows`);
  return editor.add('Reshape', [rows, shared.shape(shared.segmentsOfBatch(), -1)], `${name}_rows_BMxT`);
}
