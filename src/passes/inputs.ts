/** Changes the decoder's inputs and outputs to the contract's, and keeps readers of the past's length right. */
import {
  axisName,
  basisName,
  basisWidthsName,
  COLUMN_PLACES,
  COLUMN_TOKENS,
  codesName,
  codeWidthsName,
  LINE_PLACES,
  LINE_TOKENS,
  MOST_NEW,
  newRowsName,
  PACKED_ORDER,
  PACKED_POSITIONS,
  PACKED_SLOTS,
  PRESENT_POSITIONS,
  rawKeysName,
  type Side,
  stepRows,
  stepsName,
  WINDOW_SLOTS,
  windowName,
} from '../contract.ts';
import type { Refusal } from '../errors.ts';
import { DataType, type Dim, dimsOfValue, type GraphEditor, intAttribute, type Node } from '../onnx/index.ts';
import { type BasisType, type CodeType, type LayerShape, packsRawKeys } from '../shape.ts';
import { ELEMENT, type Packing } from './attention.ts';
import { type AttentionNode, isAttention, nodeName } from './attention-node.ts';
import { ATTENTION_MASK, type Shared } from './mask.ts';
import { addTierInputs } from './tiers.ts';

const SIDES: readonly Side[] = ['key', 'value'];

/** Declares the packed inputs, and the window's element type. Called before the layers are built, so that their values exist. */
export function addPackedInputs(editor: GraphEditor, attentions: readonly AttentionNode[], packing: Packing): void {
  const batch = batchSymbol(editor);
  const int64 = DataType.INT64;
  editor.addInput(WINDOW_SLOTS, int64, [batch, 'window_size']);
  editor.addInput(PACKED_SLOTS, int64, [batch, 'packed_size']);
  const axes = attentions[0]?.rotary?.source ? [attentions[0].rotary.source.axes] : [];
  if (packsRawKeys(packing.rotary)) editor.addInput(PACKED_POSITIONS, int64, [batch, 'packed_size', ...axes]);
  if (packing.rotary === 'm-rope') addAxisInputs(editor, axes[0] ?? 0);
  if (packing.tiered) addTierInputs(editor, attentions, packing, batch);
  for (const { shape } of attentions) {
    for (const side of SIDES) {
      editor.setElementType(windowName(shape.index, side), packing.windowType);
      addFactors(editor, shape, side, packing, batch);
    }
  }
}

function addAxisInputs(editor: GraphEditor, axes: number): void {
  const { INT32, INT64 } = DataType;
  for (let axis = 0; axis < axes; axis++) editor.addInput(axisName(axis), INT64, [batchSymbol(editor), 'segments', `places_${axis}`]);
  editor.addInput(LINE_PLACES, INT32, [axes - 1, 'lines']);
  editor.addInput(LINE_TOKENS, INT32, ['lines', 'line_size']);
  editor.addInput(COLUMN_PLACES, INT32, [1, 'columns']);
  editor.addInput(COLUMN_TOKENS, INT32, ['columns', 'column_size']);
  editor.addInput(PACKED_ORDER, INT32, [2, 'packed_size_of_batch']);
  editor.addInput(MOST_NEW, INT64, [1]);
}

/** Codes, basis and what says how to read them, of one layer and side. */
function addFactors(editor: GraphEditor, shape: LayerShape, side: Side, { codes, basis, tiered }: Packing, batch: Dim): void {
  const { index, numKvHeads, headDim } = shape;
  const rank = `${side}_rank_${index}`;
  const held = (type: CodeType | BasisType, kind: string): Dim => (type === 'mixed' ? `${side}_${kind}_bytes_${index}` : rank);
  editor.addInput(codesName(index, side), ELEMENT[codes], [
    batch,
    'segments',
    tiered ? 'first_tier_size' : 'segment_size',
    held(codes, 'code'),
  ]);
  editor.addInput(basisName(index, side), ELEMENT[basis], [batch, 'segments', numKvHeads, held(basis, 'basis'), headDim]);
  const numRows = stepRows(codes, basis);
  if (numRows) editor.addInput(stepsName(index, side), DataType.FLOAT, [batch, 'segments', numRows, rank]);
  if (codes === 'mixed') editor.addInput(codeWidthsName(index, side), DataType.INT64, [3]);
  if (basis === 'mixed') editor.addInput(basisWidthsName(index, side), DataType.INT64, [3]);
}

/** Declares the new rows, the raw keys and the positions as outputs, and drops the outputs that held the whole past. */
export function replaceOutputs(editor: GraphEditor, attentions: readonly AttentionNode[], packing: Packing, shared: Shared): void {
  const batch = batchSymbol(editor);
  const late = packsRawKeys(packing.rotary);
  for (const { shape, presentOutputs } of attentions) {
    for (const present of presentOutputs) editor.removeOutput(present);
    const dims: Dim[] = [batch, shape.numKvHeads, 'new_tokens', shape.headDim];
    for (const side of SIDES) editor.addOutput(newRowsName(shape.index, side), packing.windowType, dims);
    if (late) editor.addOutput(rawKeysName(shape.index), DataType.FLOAT, dims);
  }
  const rotary = attentions[0]?.rotary;
  if (late && rotary) {
    const { source } = rotary;
    if (source) editor.append('Transpose', [source.input], [PRESENT_POSITIONS], { attributes: { perm: [1, 2, 0] } });
    else editor.append('Identity', [rotary.positions || shared.maskPositions()], [PRESENT_POSITIONS]);
    editor.addOutput(PRESENT_POSITIONS, DataType.INT64, [batch, 'new_tokens', ...(source ? [source.axes] : [])]);
  }
}

/**
 * Answers `Shape(past_key_values.N.key)` with the shape the whole past would have.
 *
 * Exporters count the past by it to number positions; after the rewrite the window's own shape says something else.
 */
export function answerPastShapes(editor: GraphEditor, attentions: readonly AttentionNode[], shared: Shared): void {
  for (const { shape } of attentions) {
    for (const side of SIDES) {
      for (const reader of editor.consumers(windowName(shape.index, side)).filter(isShape)) {
        const [start, end] = [intAttribute(reader, 'start', 0), intAttribute(reader, 'end', PAST_RANK)];
        reader.opType = 'Slice';
        reader.input = [shared.pastShape(shape.numKvHeads, shape.headDim), editor.ints([start]), editor.ints([end])];
        reader.attribute = [];
      }
    }
  }
}

const PAST_RANK = 4;

const isShape = (node: Node): boolean => node.opType === 'Shape' && !node.domain;

/** Readers of the past that are neither attention nor Shape. */
export function refuseReadersOfPast(editor: GraphEditor): Refusal[] {
  const refusals: Refusal[] = [];
  for (const { name } of editor.graph.input ?? []) {
    if (!name || !/^past_key_values\.\d+\.(key|value)$/.test(name)) continue;
    for (const reader of editor.consumers(name)) {
      const isCastForAttention = reader.opType === 'Cast' && editor.consumers(reader.output?.[0] ?? '').every(isAttention);
      if (isAttention(reader) || isShape(reader) || isCastForAttention) continue;
      refusals.push({ node: nodeName(reader), reason: `${reader.opType} reads '${name}'; only GroupQueryAttention's past can be packed` });
    }
  }
  return refusals;
}

/** What the graph calls the number of sequences. */
export function batchSymbol(editor: GraphEditor): Dim {
  return dimsOfValue(editor.input(ATTENTION_MASK))?.[0] || 'batch_size';
}
