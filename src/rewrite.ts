/** Dense decoder -> packed decoder: every GroupQueryAttention becomes attention on packed keys and values, or none does and each reason is told. */
import { codesName } from './contract.ts';
import { AttentionPackError, type Refusal, RefusedGraphError } from './errors.ts';
import { DataType, decodeModel, encodeModel, GraphEditor, type Model, type ModelFile } from './onnx/index.ts';
import { ELEMENT, FORMS, type Packing, packAttention } from './passes/attention.ts';
import type { AttentionNode } from './passes/attention-node.ts';
import { checkModel, rotaryOf } from './passes/check.ts';
import { addPackedInputs, answerPastShapes, replaceOutputs } from './passes/inputs.ts';
import { shareMask } from './passes/mask.ts';
import { addMassInput } from './passes/mass.ts';
import { handOutRawKeys } from './passes/raw-keys.ts';
import {
  BASIS_TYPES,
  type BasisType,
  CODE_TYPES,
  type CodeType,
  type ModelShape,
  ROTARY_MODES,
  type RotaryMode,
  WINDOW_TYPES,
  type WindowType,
} from './shape.ts';

/** Execution providers the graph can be spelled for. */
export const PROVIDERS = ['cpu', 'webgpu', 'wasm'] as const;
export type Provider = (typeof PROVIDERS)[number];

export interface RewriteOptions {
  /** Where rotary embedding stands against the packed keys; default: `m-rope` where keys turn by several axes, but for WebGPU, else `rotate-late` where every layer allows it, else `post-rope`. */
  readonly rotary?: RotaryMode;
  /** Element type of the codes inputs; default `float32`. Others cost one Cast a layer and side, `mixed` a dozen nodes; not on `webgpu`. */
  readonly codes?: CodeType;
  /** Element type of the basis inputs; default `float32`. */
  readonly basis?: BasisType;
  /** Element type of the dense window; default: that of the model's `past_key_values`. Another one costs one Cast a layer and side. */
  readonly window?: WindowType;
  /** Also hands out keys before rotary embedding where `post-rope` packs those after it, if the graph has them; for looking at. Default false. */
  readonly rawKeys?: boolean;
  /** Also hands out how much attention each token got, in each layer: what eviction and importance go by. Default false. */
  readonly mass?: boolean;
  /** Reads packed tokens in tiers, some by all columns and the others by their leading ones, in each layer's own order. Not in `m-rope`, not on `webgpu`, no `mixed`. Default false. */
  readonly tiered?: boolean;
  /** Also hands out the second moment of each layer's queries: what `calibrate` collects. Default false. */
  readonly queryMoments?: boolean;
  /** Execution provider the nodes are chosen for; default `cpu`. `webgpu` avoids FusedMatMul and needs one masked row where others take none. */
  readonly provider?: Provider;
}

export interface RewriteReport {
  /** Attention nodes replaced: all of them, or 0. */
  readonly rewritten: number;
  readonly refused: readonly Refusal[];
  /** The rotary mode asked for, or the one chosen. */
  readonly rotary: RotaryMode;
  /** Nodes of the main graph. */
  readonly nodesBefore: number;
  readonly nodesAfter: number;
}

export interface Rewritten {
  readonly model: ModelFile;
  /** With refusals: only the layers that could be read. */
  readonly shape: ModelShape;
  readonly report: RewriteReport;
}

/** Rewrites a decoder by the contract in `contract.ts`. The input is left as it is; with refusals it is returned itself. */
export function rewrite(file: ModelFile, options: RewriteOptions = {}): Rewritten {
  checkOptions(options);
  const form = FORMS[options.provider ?? 'cpu'];
  const model = decodeModel(encodeModel(file.model), file.path); // weights are external, so this copies the graph only
  const { attentions, refused, rotary, axisColumns } = checkModel(model, options.rotary, form.fused && !options.tiered);
  const shape = options.queryMoments
    ? withTurning(shapeOf(attentions, axisColumns, options.window), attentions)
    : shapeOf(attentions, axisColumns, options.window);
  const nodesBefore = model.graph?.node?.length ?? 0;
  if (refused.length) return { model: file, shape, report: { rewritten: 0, refused, rotary, nodesBefore, nodesAfter: nodesBefore } };

  packGraph(model, attentions, rotary === 'post-rope' && options.rawKeys === true, {
    rotary,
    codes: options.codes ?? 'float32',
    basis: options.basis ?? 'float32',
    form,
    windowType: ELEMENT[shape.windowType],
    ...(axisColumns ? { axisColumns } : {}),
    mass: options.mass === true,
    tiered: options.tiered === true,
    queryMoments: options.queryMoments === true,
  });
  const nodesAfter = model.graph?.node?.length ?? 0;
  return { model: { model, path: file.path }, shape, report: { rewritten: attentions.length, refused, rotary, nodesBefore, nodesAfter } };
}

/**
 * Layers, heads and widths of a decoder, from its attention nodes.
 *
 * @throws {RefusedGraphError} if a node cannot be read; `rewrite` would refuse it too.
 */
export function readShape(file: ModelFile): ModelShape {
  const { attentions, refused, axisColumns } = checkModel(file.model, undefined);
  if (refused.length) throw new RefusedGraphError(file.path, refused);
  return shapeOf(attentions, axisColumns);
}

function packGraph(model: Model, attentions: readonly AttentionNode[], alsoRawKeys: boolean, packing: Packing): void {
  const [first] = attentions;
  if (!model.graph || !first) return;
  const editor = new GraphEditor(model.graph);
  addPackedInputs(editor, attentions, packing);
  if (packing.mass) addMassInput(editor);
  const shared = shareMask(editor, first.query, codesName(first.shape.index, 'key'), packing.form.computeType(first.type));
  answerPastShapes(editor, attentions, shared);
  for (const attention of attentions) packAttention(editor, attention, packing, shared);
  replaceOutputs(editor, attentions, packing, shared);
  if (alsoRawKeys) for (const attention of attentions) handOutRawKeys(editor, attention, shared);
  // What made seqlens_k, total_sequence_length and a bias of the mask has lost its readers.
  editor.removeDead();
  editor.sort();
}

function shapeOf(attentions: readonly AttentionNode[], axisColumns: ModelShape['axisColumns'], window?: WindowType): ModelShape {
  const axes = attentions[0] && rotaryOf(attentions[0])?.source?.axes;
  return {
    ...(axes ? { positionAxes: axes } : {}),
    ...(axisColumns ? { axisColumns } : {}),
    layers: attentions.map(({ shape }) => shape).sort((a, b) => a.index - b.index),
    windowType: window ?? (attentions[0]?.windowType === DataType.FLOAT16 ? 'float16' : 'float32'),
  };
}

/** Says of each layer how it pairs columns, where that is known. */
function withTurning(shape: ModelShape, attentions: readonly AttentionNode[]): ModelShape {
  const layers = shape.layers.map((layer) => {
    const attention = attentions.find((candidate) => candidate.shape.index === layer.index);
    const rotary = attention && rotaryOf(attention);
    return rotary ? { ...layer, turning: { interleaved: rotary.interleaved, numTurned: rotary.numTurned } } : layer;
  });
  return { ...shape, layers };
}

function checkOptions(options: RewriteOptions): void {
  const choices = { rotary: ROTARY_MODES, codes: CODE_TYPES, basis: BASIS_TYPES, window: WINDOW_TYPES, provider: PROVIDERS } as const;
  for (const [name, allowed] of Object.entries(choices) as [
    Exclude<keyof RewriteOptions, 'rawKeys' | 'mass' | 'tiered' | 'queryMoments'>,
    readonly string[],
  ][]) {
    const value = options[name];
    if (value !== undefined && !allowed.includes(value)) {
      throw new AttentionPackError(`${name}: '${value}' is not known; use one of ${allowed.join(', ')}`);
    }
  }
  if (options.tiered) checkTiered(options);
  for (const name of ['codes', 'basis'] as const) {
    if (options[name] === 'mixed' && options.provider === 'webgpu') {
      throw new AttentionPackError(
        `${name}: 'mixed' needs BitShift, which ONNX Runtime's WebGPU provider has not; use 'int8' or 'float16' there`,
      );
    }
  }
}

/** @throws {AttentionPackError} for what tokens cannot be read in tiers of */
function checkTiered({ rotary, codes, basis, provider }: RewriteOptions): void {
  if (rotary === 'm-rope') {
    throw new AttentionPackError(
      "tiers cannot be read in rotary 'm-rope', whose tables of lines and columns all layers share; use 'rotate-late' or 'post-rope'",
    );
  }
  if (provider === 'webgpu') throw new AttentionPackError("tiers are for the CPU and wasm, got provider 'webgpu'; leave tiers out there");
  if (codes === 'mixed' || basis === 'mixed') {
    throw new AttentionPackError(
      `tiers take leading columns, and 'mixed' ones are not bytes of their own, got codes '${codes}' and basis '${basis}'; use float32, float16 or int8`,
    );
  }
}
