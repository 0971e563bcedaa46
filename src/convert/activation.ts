/** Activations of towers and projectors as ONNX nodes, under the names of transformers' `ACT2FN`. */
import { float } from '../onnx/index.ts';
import type { ModelBuilder } from './builder.ts';

export const ACTIVATIONS = ['gelu', 'gelu_pytorch_tanh', 'quick_gelu', 'relu', 'silu'] as const;
export type Activation = (typeof ACTIVATIONS)[number];

/** @param path node path of the layer it belongs to, e.g. `/vision_tower/encoder/layers.0/mlp`. */
export function activate(builder: ModelBuilder, path: string, x: string, activation: Activation): string {
  const at = `${path}/act_fn`;
  switch (activation) {
    case 'gelu':
      return builder.node('Gelu', `${at}/Gelu`, [x], { approximate: 'none' });
    case 'gelu_pytorch_tanh':
      return builder.node('Gelu', `${at}/Gelu`, [x], { approximate: 'tanh' });
    case 'relu':
      return builder.node('Relu', `${at}/Relu`, [x]);
    case 'silu': // Sigmoid and Mul rather than one node: no provider lacks them
      return builder.node('Mul', `${at}/Mul`, [x, builder.node('Sigmoid', `${at}/Sigmoid`, [x])]);
    case 'quick_gelu':
      builder.contrib('QuickGelu', `${at}/QuickGelu`, [x], [`${at}/output_0`], { alpha: float(1.702) });
      return `${at}/output_0`;
  }
}
