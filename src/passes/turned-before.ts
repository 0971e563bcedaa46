/**
 * Reads rotary embedding that stands before an attention node: what queries and keys were, and by what they are turned.
 *
 * Two forms. Tables with a row for each position, and positions [B, N] as a graph input. Or, for positions on several axes (M-RoPE), tables computed in
 * this run from position_ids [A, B, N], with a row for each token: then whatever makes them of position_ids can make them of other positions too.
 */
import { type DataType, dimsOfValue, floatAttribute, type GraphEditor, intAttribute, type Node, subgraphs } from '../onnx/index.ts';
import type { Rotary } from './attention-node.ts';
import { CannotEvaluate, evaluate } from './evaluate.ts';

export interface TurnedBefore {
  readonly query: string;
  readonly key: string;
  readonly rotary: Rotary;
}

const POSITIONS = 'position_ids';

/** What query and key were before they were turned; a string is the reason why that is not known. */
export function readTurnedBefore(editor: GraphEditor, query: string, key: string, headDim: number, type: DataType): TurnedBefore | string {
  const nodes = [query, key].map((value) => editor.producer(value));
  const [queryNode, keyNode] = nodes;
  if (!queryNode || !keyNode || !nodes.every((node) => node?.opType === 'RotaryEmbedding' && node.domain === 'com.microsoft')) {
    return 'keys arrive already rotated, or never are';
  }
  const [positions = '', cosTable = '', sinTable = ''] = (keyNode.input ?? []).slice(1);
  if ([positions, cosTable, sinTable].some((value, i) => queryNode.input?.[i + 1] !== value)) {
    return 'keys arrive already rotated, by other tables or positions than queries';
  }
  const settings = nodes.map((node) => rotationOf(node as Node, headDim));
  const [setting] = settings;
  if (!setting || settings.some((other) => JSON.stringify(other) !== JSON.stringify(setting)))
    return 'keys arrive already rotated, in a way of their own';
  const rotary = { cosTable, sinTable, positions, interleaved: setting.interleaved, numTurned: setting.numTurned };
  const source = readSource(editor, rotary, type);
  if (typeof source === 'string') return `keys arrive already rotated; ${source}`;
  const [rawQuery = '', rawKey = ''] = nodes.map((node) => node?.input?.[0] ?? '');
  return { query: rawQuery, key: rawKey, rotary: source ? { ...rotary, source } : rotary };
}

/** Attributes of a RotaryEmbedding node; undefined for those we do not know. */
function rotationOf(node: Node, headDim: number): { interleaved: boolean; numTurned: number } | undefined {
  if (intAttribute(node, 'is_packed_batching', 0) !== 0 || floatAttribute(node, 'scale', 1) !== 1) return undefined;
  return { interleaved: intAttribute(node, 'interleaved', 0) === 1, numTurned: intAttribute(node, 'rotary_embedding_dim', 0) || headDim };
}

/** What the tables are computed from; undefined if they are fixed; a string is the reason why they cannot be had for other positions. */
function readSource(editor: GraphEditor, { cosTable, sinTable, positions }: Rotary, type: DataType): Rotary['source'] | string {
  const made = [...new Set([cosTable, sinTable].flatMap((table) => [...originsOf(editor, table)]))];
  if (!made.length) {
    const dims = dimsOfValue(editor.input(positions));
    return dims?.length === 2 ? undefined : `their positions '${positions}' are not a graph input [B, N]`;
  }
  const [other] = made.filter((origin) => origin !== POSITIONS);
  if (other) return `their tables depend on '${other}', not on '${POSITIONS}' alone`;
  const dims = dimsOfValue(editor.input(POSITIONS));
  const axes = dims?.[0];
  if (dims?.length !== 3 || typeof axes !== 'number') return `'${POSITIONS}' is not [axes, B, N] with a known number of axes`;
  if (!countsRows(editor, positions, axes)) return `'${positions}' are not the rows of their tables in order`;
  return { input: POSITIONS, axes, type };
}

/** Graph inputs that a value depends on; nodes that we could not copy stand in by their names. */
function originsOf(editor: GraphEditor, value: string, seen: Set<string> = new Set()): Set<string> {
  const origins = new Set<string>();
  if (seen.has(value) || !value) return origins;
  seen.add(value);
  if (editor.input(value)) return origins.add(value);
  const node = editor.producer(value);
  if (!node) return origins; // an initialiser
  if (subgraphs(node).length || (node.output?.filter(Boolean).length ?? 0) !== 1) return origins.add(node.name || value);
  for (const input of node.input ?? []) for (const origin of originsOf(editor, input, seen)) origins.add(origin);
  return origins;
}

const PROBE = { batch: 2, numNew: 3, numSlots: 5 };

/** Whether a value is 0, 1, 2, .. over batch and new tokens, told by its numbers: exporters spell it in many ways. */
function countsRows(editor: GraphEditor, rows: string, axes: number): boolean {
  const { batch, numNew, numSlots } = PROBE;
  const shapes = new Map<string, readonly number[]>([
    ['inputs_embeds', [batch, numNew, 1]],
    ['input_ids', [batch, numNew]],
    [POSITIONS, [axes, batch, numNew]],
    ['attention_mask', [batch, numSlots]],
  ]);
  try {
    const { dims, data } = evaluate(editor, rows, { values: new Map(), shapes });
    return dims.length === 2 && dims[0] === batch && dims[1] === numNew && data.every((row, i) => row === i);
  } catch (cause) {
    if (cause instanceof CannotEvaluate) return false;
    throw cause;
  }
}
