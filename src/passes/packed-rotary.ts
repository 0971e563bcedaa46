/** How packed keys are turned late: by fixed tables at their positions, or by tables computed for them as they are for new tokens. */
import { PACKED_POSITIONS, PACKED_SLOTS } from '../contract.ts';
import { assert } from '../errors.ts';
import type { GraphEditor } from '../onnx/index.ts';
import type { Layer } from './attention.ts';
import type { Rotary } from './attention-node.ts';
import type { Shared } from './mask.ts';

/** Tables, and positions [B·M, T] in them, for the packed tokens. */
export function packedRotary({ editor, shared, attention }: Layer): { rotary: Rotary; positions: string } {
  const { rotary } = attention;
  assert(rotary, 'rotate-late in a layer that does not rotate');
  const { source } = rotary;
  if (!source) return { rotary, positions: shared.packedPositions() };
  const axes_ABMxT = shared.once('packed axes', () =>
    editor.add('Transpose', [PACKED_POSITIONS], 'packed_axes_ABMxT', { attributes: { perm: [2, 0, 1] } }),
  );
  const [cosTable, sinTable] = [rotary.cosTable, rotary.sinTable].map((table) => copied(editor, shared, table, source.input, axes_ABMxT));
  assert(cosTable && sinTable, 'two tables');
  return { rotary: { ...rotary, cosTable, sinTable }, positions: packedRows(editor, shared) };
}

/** `value` as it would be if the graph input `from` were `to`. What does not depend on it is shared. */
function copied(editor: GraphEditor, shared: Shared, value: string, from: string, to: string): string {
  if (value === from) return to;
  const node = editor.producer(value);
  if (!node) return value;
  return shared.once(`packed ${value}`, () => {
    const inputs = (node.input ?? []).map((input) => copied(editor, shared, input, from, to));
    if (inputs.every((input, i) => input === node.input?.[i])) return value;
    const copy = editor.fresh(`packed/${value}`);
    const made = editor.append(node.opType ?? '', inputs, [copy], node.domain ? { domain: node.domain } : {});
    if (node.attribute?.length) made.attribute = node.attribute;
    return copy;
  });
}

/** 0, 1, 2, .. over all packed tokens, [B·M, T]: their rows in tables of their own. */
function packedRows(editor: GraphEditor, shared: Shared): string {
  return shared.once('packed rows', () => {
    const size = editor.add('Size', [PACKED_SLOTS], 'num_packed_of_batch');
    const rows = editor.add('Range', [editor.ints(0), size, editor.ints(1)], 'packed_rows');
    return editor.add('Reshape', [rows, shared.shape(shared.segmentsOfBatch(), -1)], 'packed_rows_BMxT');
  });
}
