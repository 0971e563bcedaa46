/**
 * Turns a dense decoder's cache into ONNX Runtime's own quantised one: what its users can have without packing, and what packing must beat.
 *
 * Contract (`GroupQueryAttention` of ONNX Runtime 1.30, `kv_cache_bit_width`): past and present are int8 (8 bits) or uint8 with two 4-bit
 * numbers a byte, [B, Hkv, S, D or D/2]; a number stands for itself times its scale, symmetric, without a zero point. Scales are inputs 12
 * and 13, float32: [1, Hkv, 1, D] (PER_CHANNEL) or [1] (PER_TENSOR). The node quantises new rows itself, and clips what its scales cannot hold.
 */
import { windowName } from '../contract.ts';
import type { Refusal } from '../errors.ts';
import { DataType, GraphEditor, type Model, makeAttribute, type ValueInfo } from '../onnx/index.ts';
import { isAttention, nodeName, readAttention } from './attention-node.ts';

/** What shares a scale. */
export const SCALES = ['channel', 'tensor'] as const;
export type Scales = (typeof SCALES)[number];

export interface QuantisedCacheOptions {
  readonly bits: 8 | 4;
  /** *channel*: one scale for each column of each head; *tensor*: one for all keys of a layer, and one for all its values. */
  readonly scales: Scales;
}

/** Name of the input that holds the scales of a layer's keys or values. transformers.js feeds it like any tensor of a cache. */
export const scaleName = (layer: number, side: 'key' | 'value'): string => `cache_scale.${layer}.${side}`;

const K_SCALE = 12;
const QUANT_TYPE = { channel: 'PER_CHANNEL', tensor: 'PER_TENSOR' } as const;

/** Changes the graph in place. Returns the reasons why not, in which case it is left as it was. */
export function quantiseCache(model: Model, { bits, scales }: QuantisedCacheOptions): Refusal[] {
  const editor = new GraphEditor(model.graph ?? {});
  const nodes = editor.nodes.filter(isAttention);
  if (!nodes.length) return [{ node: editor.graph.name || 'graph', reason: 'no GroupQueryAttention node' }];
  const layers = nodes.map((node) => readAttention(editor, node));
  const refused: Refusal[] = layers.flatMap((layer, i) => {
    if ('reason' in layer) return [layer];
    const node = nodeName(layer.node);
    const { index, headDim } = layer.shape;
    if (bits === 4 && headDim % 2) return [{ node, reason: `two 4-bit numbers share a byte, and its heads have ${headDim} columns` }];
    const direct = (['key', 'value'] as const).every((side, s) => nodes[i]?.input?.[3 + s] === windowName(index, side));
    return direct && layer.presentOutputs.every((name) => nodes[i]?.output?.includes(name))
      ? []
      : [{ node, reason: 'a Cast stands between it and its cache' }];
  });
  if (refused.length) return refused;
  const type = bits === 8 ? DataType.INT8 : DataType.UINT8;
  for (const layer of layers) {
    if ('reason' in layer) continue;
    const { node, shape, presentOutputs } = layer;
    const { index, numKvHeads, headDim } = shape;
    const dims = scales === 'channel' ? [1, numKvHeads, 1, headDim] : [1];
    const inputs = [...(node.input ?? [])];
    while (inputs.length < K_SCALE) inputs.push('');
    node.input = [...inputs, ...(['key', 'value'] as const).map((side) => editor.addInput(scaleName(index, side), DataType.FLOAT, dims))];
    const quant = QUANT_TYPE[scales];
    const ours = { kv_cache_bit_width: bits, k_quant_type: quant, v_quant_type: quant };
    node.attribute = [
      ...(node.attribute ?? []).filter(({ name }) => !Object.hasOwn(ours, name ?? '')),
      ...Object.entries(ours).map(([name, value]) => makeAttribute(name, value)),
    ];
    const held = [windowName(index, 'key'), windowName(index, 'value'), ...presentOutputs];
    for (const name of held) for (const info of [editor.input(name), editor.output(name)]) declare(info, type, (headDim * bits) / 8);
  }
  // Shapes that were inferred for the dense cache say the wrong thing now.
  const stale = new Set(nodes.flatMap((node) => [...(node.output ?? []).slice(1), ...(node.input ?? []).slice(3, 5)]));
  editor.graph.valueInfo = editor.graph.valueInfo?.filter(({ name }) => !stale.has(name ?? ''));
  return [];
}

/** Another element type and last dimension. */
function declare(info: ValueInfo | undefined, type: DataType, columns: number): void {
  const tensor = info?.type?.tensorType;
  if (!tensor) return;
  tensor.elemType = type;
  const dims = tensor.shape?.dim;
  if (dims?.length) dims[dims.length - 1] = { dimValue: columns };
}
