/** Rotary embedding as its own node, for queries, new keys and, in `rotate-late`, packed keys. */
import {
  attribute,
  DataType,
  dimsOf,
  dimsOfValue,
  elementType,
  type Graph,
  type GraphEditor,
  type Node,
  subgraphs,
} from '../onnx/index.ts';
import type { Rotary } from './attention-node.ts';

/** Appends a RotaryEmbedding over `rows` [batch, heads, tokens, D] at `positions` [batch, tokens]. */
export function rotate(
  editor: GraphEditor,
  rows: string,
  positions: string,
  rotary: Rotary,
  size: { readonly numHeads: number; readonly headDim: number; readonly type: DataType },
  wanted: string,
): string {
  const partial = rotary.numTurned < size.headDim;
  const [cos, sin] = [rotary.cosTable, rotary.sinTable].map((table) => tableIn(editor, table, size.type, rotary.source?.type)) as [
    string,
    string,
  ];
  return editor.add('RotaryEmbedding', [rows, positions, cos, sin], wanted, {
    domain: 'com.microsoft',
    attributes: {
      interleaved: rotary.interleaved ? 1 : 0,
      // The operator wants both of these or neither.
      num_heads: partial ? size.numHeads : undefined,
      rotary_embedding_dim: partial ? rotary.numTurned : undefined,
    },
  });
}

/** The table in the compute type. A Cast of an initialiser is folded once, when the session is made. */
function tableIn(editor: GraphEditor, table: string, type: DataType, known?: DataType): string {
  if ((known ?? tableType(editor, table)) === type) return table;
  const wanted = `${table}_${type === DataType.FLOAT ? 'f32' : 'f16'}`;
  const made = editor.producer(wanted);
  if (made?.opType === 'Cast' && made.input?.[0] === table) return wanted;
  return editor.add('Cast', [table], wanted, { attributes: { to: type } });
}

function tableType(editor: GraphEditor, table: string): DataType | undefined {
  const initializer = editor.initializer(table);
  return initializer ? (initializer.dataType as DataType) : elementType(editor.valueInfo(table));
}

/** Columns of a cos or sin table: half the number of turned columns of a head. Undefined if nothing in the graph says. */
export function tableWidth(editor: GraphEditor, table: string): number | undefined {
  return widthIn(editor.graph, table);
}

/** LongRope models choose between two tables in an If node, so the search goes through its branches. */
function widthIn(graph: Graph, value: string): number | undefined {
  const initializer = graph.initializer?.find((tensor) => tensor.name === value);
  if (initializer) return dimsOf(initializer)[1];
  const info = [...(graph.valueInfo ?? []), ...(graph.input ?? []), ...(graph.output ?? [])].find(({ name }) => name === value);
  const declared = dimsOfValue(info)?.[1];
  if (typeof declared === 'number') return declared;
  const producer = graph.node?.find((node) => node.output?.includes(value));
  return producer && widthOfProduct(graph, producer, value);
}

function widthOfProduct(graph: Graph, producer: Node, value: string): number | undefined {
  if (producer.opType === 'Constant') {
    const tensor = attribute(producer, 'value')?.t;
    return tensor ? dimsOf(tensor)[1] : undefined;
  }
  if (producer.opType === 'If') {
    const place = (producer.output ?? []).indexOf(value);
    const widths = subgraphs(producer).map(
      (body) => widthIn(body, body.output?.[place]?.name ?? '') ?? widthIn(graph, body.output?.[place]?.name ?? ''),
    );
    return widths.every((width) => width === widths[0]) ? widths[0] : undefined;
  }
  if (producer.opType === 'Cast' || producer.opType === 'Identity') return widthIn(graph, producer.input?.[0] ?? '');
  return undefined;
}
