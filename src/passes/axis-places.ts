/**
 * What all layers share of scoring by axes: the places that packed tokens have on each axis, tables of turning there and back, and where lines and columns
 * of tokens find what is made for their places. Letters as in `m-rope.ts`.
 */
import { axisName, COLUMN_PLACES, COLUMN_TOKENS, LINE_PLACES, LINE_TOKENS, MOST_NEW, PACKED_ORDER, PACKED_POSITIONS } from '../contract.ts';
import { assert } from '../errors.ts';
import type { Layer } from './attention.ts';
import type { Rotary } from './attention-node.ts';
import { type PackedRotary, packedRows, rowsOf, tablesAt } from './packed-rotary.ts';

/** Columns of a head by axis; see `ModelShape`. */
export function columnsOf({ packing }: Layer): readonly (readonly number[])[] {
  assert(packing.axisColumns, 'm-rope without columns by axis');
  return packing.axisColumns;
}

/** bool [1]: whether this step has few enough new tokens for scores by axes to be cheaper. */
export function isByAxes({ editor, shared }: Layer): string {
  return shared.once('by axes', () => editor.add('LessOrEqual', [shared.numNew, MOST_NEW], 'is_by_axes'));
}

/** Rotary tables and rows of one axis' places, and where each line or column finds its u. */
export interface Axis {
  readonly numColumns: number;
  /** [1]: X */
  readonly numPlaces: string;
  /** [B·M, X] */
  readonly rows: string;
  readonly rotary: Rotary;
  /** [1]: B·M·H·N·X */
  readonly numProjected: string;
  /** [K, H·N]: rows of u, [B·M·H·N·X, r] */
  readonly found: string;
}

export interface Sweep {
  readonly name: 'line' | 'column';
  readonly axes: readonly Axis[];
  /** [K, w]: tokens, of B·M·T */
  readonly tokens: string;
  /** [B·M·T]: where each token stands in `tokens` */
  readonly order: string;
  /** [1]: B·M·T */
  readonly numTokens: string;
}

export function sharedSweeps(layer: Layer): readonly Sweep[] {
  const { editor, shared, attention } = layer;
  const columns = columnsOf(layer);
  const last = columns.length - 1;
  const order = (row: number): string =>
    shared.once(`order ${row}`, () => editor.add('Gather', [PACKED_ORDER, editor.ints(row)], `packed_order_${row}`));
  const numTokens = shared.once('order length', () => editor.add('Shape', [order(0)], 'num_packed_tokens_1'));
  const axisOf = (axis: number, places: string, row: number): Axis => {
    const key = `axis ${axis} heads ${attention.shape.numHeads}`;
    const numPlaces = shared.once(`places ${axis}`, () => {
      const dims = editor.add('Shape', [axisName(axis)], `axis_${axis}_shape`);
      return editor.add('Gather', [dims, editor.ints([2])], `num_places_${axis}`);
    });
    const rows = shared.once(`rows ${axis}`, () => rowsOf(editor, shared, axisName(axis), `axis_${axis}`));
    const { numRows, numProjected } = projectedRows(layer, axis, numPlaces);
    const found = shared.once(`found ${key}`, () => {
      const at = editor.add('Gather', [places, editor.ints(row)], `places_on_${axis}`);
      return editor.add('Gather', [numRows, at], `found_on_${axis}`);
    });
    return { numColumns: columns[axis]?.length ?? 0, numPlaces, rows, rotary: tablesBack(layer, axis), numProjected, found };
  };
  return [
    { name: 'line', axes: columns.slice(0, -1).map((_, a) => axisOf(a, LINE_PLACES, a)), tokens: LINE_TOKENS, order: order(0), numTokens },
    { name: 'column', axes: [axisOf(last, COLUMN_PLACES, 0)], tokens: COLUMN_TOKENS, order: order(1), numTokens },
  ];
}

/**
 * Rows of an axis' u, numbered as the product gives them, [B·M, H·N, X], and put in the order of places: [B·M·X, H·N]. With more new tokens than are
 * scored by axes nobody reads them, and they are made for that many only.
 */
function projectedRows({ editor, shared, attention }: Layer, axis: number, numPlaces: string): { numRows: string; numProjected: string } {
  const { numHeads } = attention.shape;
  const numNew = shared.once('new by axes', () => {
    const most = editor.add('Min', [shared.numNew, MOST_NEW], 'num_new_by_axes_or_0');
    return editor.add('Max', [most, editor.ints([1])], 'num_new_by_axes');
  });
  const numQueries = shared.once(`queries by axes ${numHeads}`, () =>
    editor.add('Mul', [numNew, editor.ints([numHeads])], 'num_queries_by_axes'),
  );
  const numProjected = shared.once(`projected ${axis} ${numHeads}`, () => {
    const ofQuery = editor.add('Mul', [shared.segmentsOfBatch(), numPlaces], `num_places_of_batch_${axis}`);
    return editor.add('Mul', [ofQuery, numQueries], `num_projected_${axis}`);
  });
  const numRows = shared.once(`projected rows ${axis} ${numHeads}`, () => {
    const end = editor.add('Squeeze', [numProjected], `num_projected_${axis}_scalar`);
    const range = editor.add('Range', [editor.ints(0), end, editor.ints(1)], `projected_${axis}`);
    const rows_BMxQX = editor.add('Reshape', [range, shared.shape(shared.segmentsOfBatch(), numQueries, -1)], `projected_${axis}_BMxQX`);
    const rows_BMxXQ = editor.add('Transpose', [rows_BMxQX], `projected_${axis}_BMxXQ`, { attributes: { perm: [0, 2, 1] } });
    return editor.add('Reshape', [rows_BMxXQ, shared.shape(-1, numQueries)], `projected_${axis}_BMxXxQ`);
  });
  return { numRows, numProjected };
}

/** Cosines and sines that turn an axis' own pairs back from all its places, [B·M·X, D_a / 2]. */
function tablesBack(layer: Layer, axis: number): Rotary {
  const { editor, shared, attention } = layer;
  const { rotary } = attention;
  assert(rotary?.source, 'm-rope without positions on axes');
  const { axes } = rotary.source;
  // As if each place were a token that stands there on every axis: a pair heeds its own only.
  const positions = shared.once(`axis positions ${axis}`, () => {
    const flat = editor.add('Reshape', [axisName(axis), editor.ints([1, 1, -1])], `axis_${axis}_11X`);
    return editor.add('Expand', [flat, editor.ints([axes, 1, 1])], `axis_${axis}_A1X`);
  });
  const { cosTable, sinTable } = tablesAt(editor, shared, rotary, positions, `axis_${axis}`);
  const columns = columnsOf(layer)[axis] ?? [];
  const pairs = pairsOf(rotary, columns);
  const cos = shared.once(`own ${cosTable}`, () => ownPairs(layer, cosTable, pairs, 1));
  const sin = shared.once(`own ${sinTable}`, () => ownPairs(layer, editor.add('Neg', [sinTable], `${sinTable}_back`), pairs, 0));
  return inOrder(layer, rotary, cos, sin, columns.length);
}

/** Whether a list is 0, 1, 2, .. */
export const isInOrder = (list: readonly number[]): boolean => list.every((value, i) => value === i);

/** Pairs in the order of the columns, from their first columns; -1 for those that are not turned. */
function pairsOf({ numTurned, interleaved }: Rotary, columns: readonly number[]): number[] {
  return columns.flatMap((column, i) => {
    if (i % 2) return [];
    if (column >= numTurned) return [-1];
    return [interleaved ? column / 2 : column];
  });
}

/** Columns `pairs` of a table, in the compute type; 1 (cosine) or 0 (sine) where a pair is not turned. */
function ownPairs(layer: Layer, table: string, pairs: readonly number[], whenUnturned: number): string {
  const { editor, attention } = layer;
  const source = attention.rotary?.source;
  const turned = pairs.filter((pair) => pair >= 0);
  const all = (attention.rotary?.numTurned ?? 0) / 2;
  const isWhole = turned.length === all && isInOrder(turned);
  let own = isWhole ? table : editor.add('Gather', [table, editor.ints(turned)], `${table}_own`, { attributes: { axis: 1 } });
  if (source && source.type !== layer.type) own = editor.add('Cast', [own], `${table}_cast`, { attributes: { to: layer.type } });
  if (turned.length < pairs.length) {
    const pads = editor.ints([0, 0, 0, pairs.length - turned.length]);
    own = editor.add('Pad', [own, pads, editor.scalar(whenUnturned, layer.type)], `${table}_padded`);
  }
  return own;
}

/** Rotary embedding of columns in the order of the bases, all of whose pairs are in the tables. */
function inOrder({ type }: Layer, { source, positions }: Rotary, cosTable: string, sinTable: string, numTurned: number): Rotary {
  return { cosTable, sinTable, positions, interleaved: false, numTurned, ...(source ? { source: { ...source, type } } : {}) };
}

/** Tables and rows that turn rebuilt keys of `m-rope`, whose columns are in the order of the bases. Empty where a step scores by axes. */
export function orderedRotary(layer: Layer): PackedRotary {
  const { editor, shared, attention } = layer;
  const { rotary, shape } = attention;
  assert(rotary, 'm-rope in a layer that does not rotate');
  const axes_ABMxT = shared.once('packed axes if late', () => {
    const end = editor.add('Where', [isByAxes(layer), editor.ints([0]), editor.ints([2 ** 31 - 1])], 'num_late');
    const late = editor.add('Slice', [PACKED_POSITIONS, editor.ints([0]), end, editor.ints([1])], 'late_axes_BMxTA');
    return editor.add('Transpose', [late], 'late_axes_ABMxT', { attributes: { perm: [2, 0, 1] } });
  });
  const tables = tablesAt(editor, shared, rotary, axes_ABMxT, 'late');
  const pairs = pairsOf(rotary, columnsOf(layer).flat());
  const [cos, sin] = [tables.cosTable, tables.sinTable].map((table, which) =>
    shared.once(`ordered ${table}`, () => ownPairs(layer, table, pairs, which ? 0 : 1)),
  ) as [string, string];
  return { rotary: inOrder(layer, rotary, cos, sin, shape.headDim), positions: packedRows(editor, shared) };
}
