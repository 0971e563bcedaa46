/** The real Gemma 3 decoder graphs, made small enough to run: narrower layers, fewer of them on demand, synthetic weights. */
import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import {
  DataType,
  decodeModel,
  externalRange,
  floatTensor,
  GraphEditor,
  type Model,
  makeAttribute,
  type Node,
  numElements,
  rawTensor,
  type Tensor,
} from '../../src/onnx/index.ts';
import { randomNumbers } from './decoders.ts';

export const GEMMA_VARIANTS = ['fp32', 'q4f16', 'q8'] as const;
export type GemmaVariant = (typeof GEMMA_VARIANTS)[number];

/** A whole graph as published. Its weights are external data that is not there. */
export function gemma(variant: GemmaVariant): Model {
  const file = new URL(`../fixtures/graphs/gemma-3-4b-it.decoder.${variant}.onnx.gz`, import.meta.url);
  return decodeModel(gunzipSync(readFileSync(file)), file.pathname);
}

/** Old size -> new size: hidden 2560, MLP 10240, vocabulary 262208, positions 131072, and the quantised weights' blocks of 32 of the first two. */
const SIZES: Readonly<Record<number, number>> = { 2560: 128, 10240: 64, 262208: 96, 131072: 2048, 80: 4, 320: 2, 40: 2, 160: 1 };

/** @param numLayers cut to so many layers; @param localWindow in place of 1024 */
export function smallGemma(variant: GemmaVariant, options: { numLayers?: number; localWindow?: number } = {}): Model {
  const model = gemma(variant);
  const graph = model.graph as NonNullable<Model['graph']>;
  const random = randomNumbers(11);
  graph.valueInfo = [];
  for (const info of [...(graph.input ?? []), ...(graph.output ?? [])]) {
    for (const dim of info.type?.tensorType?.shape?.dim ?? []) if (dim.dimValue != null) dim.dimValue = shrunk(Number(dim.dimValue));
  }
  for (const node of graph.node ?? []) {
    for (const attribute of node.attribute ?? [])
      if (attribute.name === 'K' || attribute.name === 'N') attribute.i = shrunk(Number(attribute.i));
    if (node.opType === 'GroupQueryAttention' && options.localWindow) narrow(node, options.localWindow);
  }
  if (options.numLayers !== undefined) cut(new GraphEditor(graph), options.numLayers);
  graph.initializer = graph.initializer?.map((tensor) =>
    externalRange(tensor) ? synthetic(tensor, variant === 'q8' ? 128 : 8, random) : tensor,
  );
  return model;
}

const shrunk = (size: number): number => SIZES[size] ?? size;

function narrow(node: Node, localWindow: number): void {
  node.attribute = node.attribute?.map((attribute) =>
    attribute.name === 'local_window_size' && Number(attribute.i) > 0 ? makeAttribute('local_window_size', localWindow) : attribute,
  );
}

/** Ends the graph after the first layers: their sum goes to the final norm. */
function cut(editor: GraphEditor, numLayers: number): void {
  editor.replaceUses('/model/layers.33/Add_2/output_0', `/model/layers.${numLayers - 1}/Add_2/output_0`);
  for (const { name } of [...(editor.graph.input ?? []), ...(editor.graph.output ?? [])]) {
    const layer = /^(?:past_key_values|present)\.(\d+)\./.exec(name ?? '')?.[1];
    if (layer === undefined || Number(layer) < numLayers) continue;
    editor.removeInput(name as string);
    editor.removeOutput(name as string);
  }
  editor.removeDead();
}

/** Weights of the size a trained layer has: norms near 1, products that keep their input's scale, true rotary tables. */
function synthetic(tensor: Tensor, levels: number, random: () => number): Tensor {
  const name = tensor.name ?? '';
  const type = tensor.dataType as DataType;
  const dims = (tensor.dims ?? []).map((dim) => shrunk(Number(dim)));
  const length = numElements({ dims });
  if (type === DataType.UINT8)
    return rawTensor(
      name,
      type,
      dims,
      Uint8Array.from({ length }, () => (name.endsWith('zp') ? 0x88 : Math.floor(128 * (1 + random())))),
    );
  if (/^(cos|sin)_cache/.test(name)) {
    const base = name.endsWith('local') ? 1e4 : 1e6;
    const turn = name.startsWith('cos') ? Math.cos : Math.sin;
    const width = dims[1] as number;
    const table = Float32Array.from({ length }, (_, i) => turn(Math.floor(i / width) * base ** (-(i % width) / width)));
    return floatTensor(name, dims, table, type);
  }
  if (/norm/.test(name))
    return floatTensor(
      name,
      dims,
      Float32Array.from({ length }, () => 1 + 0.2 * random()),
      type,
    );
  if (/scales/.test(name)) {
    // Quantised weights are spread evenly over 16 or 256 levels: scale / sqrt(K) times what makes the product keep its input's size.
    const columns = (dims[1] as number) * 32;
    return floatTensor(
      name,
      dims,
      Float32Array.from({ length }, () => (1.2 + 0.2 * random()) / levels / Math.sqrt(columns)),
      type,
    );
  }
  const rows = dims[0] as number;
  return floatTensor(
    name,
    dims,
    Float32Array.from({ length }, () => (1.5 * random()) / Math.sqrt(rows)),
    type,
  );
}
