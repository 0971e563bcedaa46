/** Decides, before anything is touched, whether every attention node of a graph can be packed, and in which rotary mode. */
import { WINDOW_SLOTS } from '../contract.ts';
import type { Refusal } from '../errors.ts';
import { DataType, dimsOfValue, elementType, GraphEditor, graphs, type Model } from '../onnx/index.ts';
import { packsRawKeys, type RotaryMode } from '../shape.ts';
import { type AttentionNode, isAttention, nodeName, type Rotary, readAttention } from './attention-node.ts';
import { refuseForeignBias } from './bias.ts';
import { refuseReadersOfPast } from './inputs.ts';
import { ATTENTION_MASK } from './mask.ts';
import { axesOfPairs, axisColumnsOf } from './rotary-axes.ts';

/** Oldest ONNX opset with axes of Unsqueeze and ReduceSum as inputs. */
const MIN_OPSET = 13;

export interface Checked {
  readonly attentions: readonly AttentionNode[];
  readonly refused: readonly Refusal[];
  readonly rotary: RotaryMode;
  /** See `ModelShape`; only in `m-rope`. */
  readonly axisColumns?: readonly (readonly number[])[];
}

/**
 * Reads all attention nodes. `wanted` is the caller's rotary mode; undefined: `m-rope` where keys turn by several axes, else `rotate-late` where every layer
 * allows it, be rotary embedding inside its node or right before it. Without `choosesAxes`, `m-rope` is taken only if wanted.
 */
export function checkModel(model: Model, wanted: RotaryMode | undefined, choosesAxes = true): Checked {
  const graph = model.graph ?? {};
  const editor = new GraphEditor(graph);
  const refused: Refusal[] = [];
  const attentions: AttentionNode[] = [];
  if (editor.input(WINDOW_SLOTS)) {
    const reason = `it has an input '${WINDOW_SLOTS}': it is packed already`;
    return { attentions, refused: [{ node: graphName(editor), reason }], rotary: wanted ?? 'post-rope' };
  }
  for (const node of editor.nodes.filter(isAttention)) {
    const read = readAttention(editor, node);
    if ('reason' in read) refused.push(read);
    else attentions.push(read);
  }
  const columns = (wanted === undefined && choosesAxes) || wanted === 'm-rope' ? axisColumns(editor, attentions) : undefined;
  const rotary = wanted ?? (columns && !isReason(columns) ? 'm-rope' : attentions.every(rotaryOf) ? 'rotate-late' : 'post-rope');
  refused.push(
    ...refuseHiddenNodes(model),
    ...refuseForeignBias(editor, attentions),
    ...refuseReadersOfPast(editor),
    ...refuseGraph(model, editor, attentions.length + refused.length),
    ...refuseMixture(attentions),
    ...(packsRawKeys(rotary) ? refuseRotateLate(attentions) : []),
    ...(rotary === 'm-rope' && isReason(columns) ? [columns] : []),
  );
  const unturnedToo = packsRawKeys(rotary) ? attentions.map(unturned) : attentions;
  return {
    attentions: unturnedToo,
    refused,
    rotary,
    ...(rotary === 'm-rope' && columns && !isReason(columns) ? { axisColumns: columns } : {}),
  };
}

const isReason = (columns: number[][] | Refusal | undefined): columns is Refusal => columns !== undefined && 'reason' in columns;

/** Columns of a head by the axis that turns them, the same in all layers; or why `m-rope` cannot be. Undefined if refused for other reasons anyway. */
function axisColumns(editor: GraphEditor, attentions: readonly AttentionNode[]): number[][] | Refusal | undefined {
  const [first] = attentions;
  const rotary = first && rotaryOf(first);
  if (!first || !rotary) return undefined;
  const refuse = ({ node }: AttentionNode, reason: string): Refusal => ({
    node: nodeName(node),
    reason: `${reason}, so 'm-rope' has nothing to score by; use rotary: 'rotate-late'`,
  });
  if (!rotary.source) return refuse(first, 'keys turn by one position a token, not by several axes');
  const other = attentions.find((attention) => {
    const own = rotaryOf(attention);
    const differs = own?.cosTable !== rotary.cosTable || own.sinTable !== rotary.sinTable || own.interleaved !== rotary.interleaved;
    return differs || own.numTurned !== rotary.numTurned || attention.shape.headDim !== first.shape.headDim;
  });
  if (other) return refuse(other, 'layers turn their keys by different tables');
  const axisOf = axesOfPairs(editor, rotary);
  if (typeof axisOf === 'string') return refuse(first, axisOf);
  return axisColumnsOf(axisOf, rotary, rotary.source.axes, first.shape.headDim);
}

/** How a layer's keys are turned, inside the node or before it; undefined if that is not known. */
export function rotaryOf({ rotary, before }: AttentionNode): Rotary | undefined {
  return rotary ?? (typeof before === 'object' ? before.rotary : undefined);
}

/** The node as it were if it turned queries and keys itself: nodes before it that do are passed by. */
function unturned(attention: AttentionNode): AttentionNode {
  const { rotary, before } = attention;
  return rotary || typeof before === 'string' ? attention : { ...attention, ...before };
}

/** Attention inside If, Loop and Scan bodies and inside functions: its inputs and outputs are not the graph's. */
function refuseHiddenNodes(model: Model): Refusal[] {
  const [, ...bodies] = model.graph ? graphs(model.graph) : [];
  const reason = 'GroupQueryAttention inside a subgraph or function; only the main graph can be packed';
  return [...bodies.flatMap((body) => body.node ?? []), ...(model.functions ?? []).flatMap((fn) => fn.node ?? [])]
    .filter(isAttention)
    .map((node) => ({ node: nodeName(node), reason }));
}

function refuseGraph(model: Model, editor: GraphEditor, numAttentions: number): Refusal[] {
  const node = graphName(editor);
  if (numAttentions === 0) return [{ node, reason: 'no GroupQueryAttention node' }];
  const opset = Number(model.opsetImport?.find(({ domain }) => !domain || domain === 'ai.onnx')?.version ?? 0);
  if (opset < MIN_OPSET) return [{ node, reason: `ONNX opset ${opset}; at least ${MIN_OPSET} is needed` }];
  const mask = editor.input(ATTENTION_MASK);
  if (!mask) return [{ node, reason: `no input '${ATTENTION_MASK}'` }];
  const numDims = dimsOfValue(mask)?.length;
  if (numDims !== 2) return [{ node, reason: `'${ATTENTION_MASK}' has ${numDims ?? 'unknown'} dimensions, not 2` }];
  const type = elementType(mask);
  if (type !== DataType.INT64) return [{ node, reason: `'${ATTENTION_MASK}' has element type ${type}; only int64 is supported` }];
  return [];
}

const graphName = (editor: GraphEditor): string => editor.graph.name || 'graph';

/** Facts that must be the same in all layers. */
function refuseMixture(attentions: readonly AttentionNode[]): Refusal[] {
  const [first] = attentions;
  const seen = new Set<number>();
  return attentions.flatMap((attention) => {
    const refuse = (reason: string): Refusal[] => [{ node: nodeName(attention.node), reason }];
    if (attention.type !== first?.type || attention.windowType !== first.windowType)
      return refuse('its element type is not that of the first layer');
    if (seen.has(attention.shape.index)) return refuse(`past_key_values.${attention.shape.index} is read by two attention nodes`);
    seen.add(attention.shape.index);
    return [];
  });
}

function refuseRotateLate(attentions: readonly AttentionNode[]): Refusal[] {
  const [first] = attentions;
  return attentions.flatMap((attention) => {
    const refuse = (reason: string): Refusal[] => [{ node: nodeName(attention.node), reason }];
    const rotary = rotaryOf(attention);
    if (!rotary) return refuse(`${attention.before}; use rotary: 'post-rope'`);
    const other = first && rotaryOf(first);
    if (rotary.positions !== other?.positions || rotary.source?.input !== other.source?.input)
      return refuse("layers rotate by different positions; use rotary: 'post-rope'");
    return [];
  });
}
