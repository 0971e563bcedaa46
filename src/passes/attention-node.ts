/**
 * Reads one GroupQueryAttention node into plain facts, or says why it cannot be packed.
 *
 * Operator: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.GroupQueryAttention
 */
import { windowName } from '../contract.ts';
import type { Refusal } from '../errors.ts';
import {
  attribute,
  DataType,
  type Dim,
  dimsOfValue,
  elementType,
  floatAttribute,
  type GraphEditor,
  intAttribute,
  type Node,
  stringAttribute,
} from '../onnx/index.ts';
import type { LayerShape } from '../shape.ts';
import { tableWidth } from './rotary.ts';
import { readTurnedBefore, type TurnedBefore } from './turned-before.ts';

/** What a GroupQueryAttention node computes, all defaults resolved. Values are names in the graph. */
export interface AttentionNode {
  readonly node: Node;
  readonly shape: LayerShape;
  readonly query: string;
  readonly key: string;
  readonly value: string;
  /** [B, N, H·D] */
  readonly output: string;
  /** Names of the graph outputs that held the whole past and the new tokens. */
  readonly presentOutputs: readonly string[];
  readonly scale: number;
  /** Scores are squeezed to softcap · tanh(score / softcap); 0: not at all. */
  readonly softcap: number;
  readonly rotary: Rotary | undefined;
  /** Where they are not: what the RotaryEmbedding nodes before it turn, or why that is not known. */
  readonly before: TurnedBefore | string;
  /** Additive bias [B or 1, 1 or H, N, all slots]; '' if there is none. */
  readonly attentionBias: string;
  /** Element type of query, key and value. */
  readonly type: DataType;
  /** Element type of the graph inputs that hold the past. */
  readonly windowType: DataType;
}

/** How keys and queries are turned. */
export interface Rotary {
  readonly cosTable: string;
  readonly sinTable: string;
  readonly interleaved: boolean;
  /** Leading columns of a head that are turned; the head dimension if all are. */
  readonly numTurned: number;
  /** [B, N] int64, or '' to count the visible tokens of the attention mask. Rows of the tables, if those have a `source`. */
  readonly positions: string;
  /**
   * Where the tables are computed anew in each run, a row for each token: the graph input [A, B, N] that says where each token is on A axes, as M-RoPE
   * has it. Undefined: the tables are fixed, a row for each position.
   */
  readonly source?: { readonly input: string; readonly axes: number; readonly type: DataType };
}

/** Inputs by the operator's order. */
const INPUTS = [
  'query',
  'key',
  'value',
  'past_key',
  'past_value',
  'seqlens_k',
  'total_sequence_length',
  'cos_cache',
  'sin_cache',
  'position_ids',
  'attention_bias',
  'head_sink',
  'k_scale',
  'v_scale',
  'q_norm_weight',
  'k_norm_weight',
] as const;
const NUM_HANDLED_INPUTS = INPUTS.indexOf('head_sink');

const HANDLED_ATTRIBUTES = new Set([
  'num_heads',
  'kv_num_heads',
  'scale',
  'softcap',
  'local_window_size',
  'do_rotary',
  'rotary_interleaved',
  'qk_norm_epsilon', // without the norm weights, which are refused, it says nothing
]);

/** Attributes we know only in the setting that changes nothing; any other setting is refused. */
const NEUTRAL: Readonly<Record<string, (node: Node) => boolean>> = {
  smooth_softmax: (node) => intAttribute(node, 'smooth_softmax', 0) <= 0,
  qk_output: (node) => intAttribute(node, 'qk_output', 0) === 0,
  kv_cache_bit_width: (node) => intAttribute(node, 'kv_cache_bit_width', 0) === 0,
  k_quant_type: (node) => stringAttribute(node, 'k_quant_type', 'NONE') === 'NONE',
  v_quant_type: (node) => stringAttribute(node, 'v_quant_type', 'NONE') === 'NONE',
  sliding_window_cache: (node) => intAttribute(node, 'sliding_window_cache', 0) === 0,
  causal: (node) => intAttribute(node, 'causal', 1) === 1,
};

export function isAttention(node: Node): boolean {
  return node.opType === 'GroupQueryAttention' && node.domain === 'com.microsoft';
}

export function nodeName(node: Node): string {
  return node.name || (node.output?.find(Boolean) ?? node.opType ?? '');
}

/** The facts of a node, or the first reason not to touch it. */
export function readAttention(editor: GraphEditor, node: Node): AttentionNode | Refusal {
  const refuse = (reason: string): Refusal => ({ node: nodeName(node), reason });
  const input = (name: (typeof INPUTS)[number]): string => node.input?.[INPUTS.indexOf(name)] ?? '';

  for (const { name } of node.attribute ?? []) {
    if (!name || HANDLED_ATTRIBUTES.has(name)) continue;
    const neutral = NEUTRAL[name];
    if (!neutral) return refuse(`unknown attribute '${name}'`);
    if (!neutral(node)) return refuse(`attribute ${name} = ${shown(node, name)} is not supported`);
  }
  for (const [index, value] of (node.input ?? []).entries()) {
    if (value && index >= NUM_HANDLED_INPUTS) return refuse(`input ${INPUTS[index] ?? index} ('${value}') is not supported`);
  }
  if (!input('key') || !input('value')) return refuse('packed QKV: the node has no key and value inputs of its own');
  if (node.output?.[3]) return refuse(`output output_qk ('${node.output[3]}') is not supported`);

  const numHeads = intAttribute(node, 'num_heads', 0);
  const numKvHeads = intAttribute(node, 'kv_num_heads', 0);
  if (!(numKvHeads > 0 && numHeads % numKvHeads === 0)) {
    return refuse(`num_heads ${numHeads} is not a multiple of kv_num_heads ${numKvHeads}`);
  }
  const localWindow = intAttribute(node, 'local_window_size', -1);
  if (localWindow === 0) return refuse('local_window_size 0 means different things on different providers');

  const past = readPast(editor, input('past_key'), input('past_value'));
  if (typeof past === 'string') return refuse(past);
  const presents = readPresents(editor, node);
  if (typeof presents === 'string') return refuse(presents);

  const doRotary = intAttribute(node, 'do_rotary', 0) === 1;
  const rotary = doRotary ? readRotary(editor, node, past.headDim) : undefined;
  if (typeof rotary === 'string') return refuse(rotary);

  return {
    node,
    shape: {
      index: past.index,
      numHeads,
      numKvHeads,
      headDim: past.headDim,
      ...(localWindow > 0 ? { localWindow } : {}),
      rotary: rotary ? 'inside' : 'outside',
    },
    query: input('query'),
    key: input('key'),
    value: input('value'),
    output: node.output?.[0] ?? '',
    presentOutputs: presents,
    // ONNX Runtime takes a scale of 0 for "not given".
    scale: floatAttribute(node, 'scale', 0) || 1 / Math.sqrt(past.headDim),
    softcap: floatAttribute(node, 'softcap', 0),
    rotary,
    before: rotary ? 'the node turns them itself' : readTurnedBefore(editor, input('query'), input('key'), past.headDim, past.type),
    attentionBias: input('attention_bias'),
    type: past.type,
    windowType: past.windowType,
  };
}

function shown(node: Node, name: string): string {
  return stringAttribute(node, name, '') || String(attribute(node, name)?.i ?? attribute(node, name)?.f);
}

interface Past {
  readonly index: number;
  /** Element type of the graph inputs. */
  readonly windowType: DataType;
  /** Element type the node works in. */
  readonly type: DataType;
  readonly headDim: number;
}

/** Layer index, types and head dimension from the graph inputs that hold the past; a string is the reason why not. */
function readPast(editor: GraphEditor, key: string, value: string): Past | string {
  if (!key || !value) return 'the node has no past_key and past_value';
  const pastKey = beforeCast(editor, key);
  const pastValue = beforeCast(editor, value);
  const index = Number(/^past_key_values\.(\d+)\.key$/.exec(pastKey.name)?.[1] ?? -1);
  for (const [side, { name }] of [
    ['key', pastKey],
    ['value', pastValue],
  ] as const) {
    if (index < 0 || name !== windowName(index, side) || !editor.input(name)) {
      return `past_${side} is '${name}', not the graph input past_key_values.N.${side}`;
    }
  }
  const [keyInput, valueInput] = [editor.input(pastKey.name), editor.input(pastValue.name)];
  const windowType = elementType(keyInput);
  if (!isFloat(windowType)) return `past_key has element type ${windowType}; only float32 and float16 are supported`;
  const type = pastKey.type ?? windowType;
  if (!isFloat(type)) return `it works in element type ${type}; only float32 and float16 are supported`;
  if (elementType(valueInput) !== windowType || (pastValue.type ?? windowType) !== type)
    return 'past_key and past_value differ in element type';
  const headDim: Dim | undefined = dimsOfValue(keyInput)?.[3];
  if (typeof headDim !== 'number') return `'${pastKey.name}' does not declare its head dimension`;
  if (dimsOfValue(valueInput)?.[3] !== headDim) return 'keys and values differ in head dimension';
  return { index, windowType, type, headDim };
}

const isFloat = (type: DataType | undefined): type is DataType => type === DataType.FLOAT || type === DataType.FLOAT16;

/** fp16 exports may keep the past in one type and attend in another, with a Cast between. */
function beforeCast(editor: GraphEditor, value: string): { name: string; type?: DataType } {
  const producer = editor.producer(value);
  if (producer?.opType !== 'Cast') return { name: value };
  return { name: producer.input?.[0] ?? '', type: intAttribute(producer, 'to', 0) };
}

/** The graph outputs that present_key and present_value feed, straight or through a Cast; a string is the reason why they cannot go. */
function readPresents(editor: GraphEditor, node: Node): string[] | string {
  const outputs: string[] = [];
  for (const present of (node.output ?? []).slice(1, 3).filter(Boolean)) {
    if (editor.output(present)) outputs.push(present);
    for (const reader of editor.consumers(present)) {
      const result = reader.output?.[0] ?? '';
      const isLastCast = reader.opType === 'Cast' && editor.output(result) && editor.consumers(result).length === 0;
      if (!isLastCast) return `'${present}', the whole past, is read by '${nodeName(reader)}'`;
      outputs.push(result);
    }
  }
  return outputs;
}

function readRotary(editor: GraphEditor, node: Node, headDim: number): Rotary | string {
  const [cosTable = '', sinTable = '', positions = ''] = (node.input ?? []).slice(INPUTS.indexOf('cos_cache'));
  if (!cosTable || !sinTable) return 'do_rotary = 1 without cos_cache and sin_cache';
  const width = tableWidth(editor, cosTable);
  if (width === undefined) return `the width of cos_cache '${cosTable}' is not known`;
  if (2 * width > headDim) return `cos_cache '${cosTable}' is ${width} wide, more than half a head of ${headDim}`;
  return { cosTable, sinTable, positions, interleaved: intAttribute(node, 'rotary_interleaved', 0) === 1, numTurned: 2 * width };
}
