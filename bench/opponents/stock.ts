/** transformers.js as it is: its own model, its own DynamicCache, whose tensors ONNX Runtime copies out and in again at each step. */
import { DynamicCache, Tensor } from '@huggingface/transformers';
import { loadTextModel } from '../model.ts';
import { noise } from '../noise.ts';
import { denseBytes, denseFlops, type Opponent } from './opponent.ts';

export const stock: Opponent = {
  name: 'stock',
  description: 'transformers.js and its DynamicCache, float32',
  cost: (shape, context) => ({ cacheBytes: denseBytes(shape, context), flops: denseFlops(shape, context) }),
  // Measured: past, present, and the copies of present on their way through JavaScript.
  neededBytes: (shape, context) => 3.5 * denseBytes(shape, context),
  async open({ folder, dtype, context, threads, profile }) {
    const { model, shape } = await loadTextModel(folder, { dtype, threads, profile });
    let cacheBytes = 0;
    const entries: Record<string, Tensor> = {};
    for (const { index, numKvHeads, headDim } of shape.layers) {
      for (const side of ['key', 'value']) {
        const rows = noise(numKvHeads * context * headDim, 2 * index + Number(side === 'value'));
        entries[`past_key_values.${index}.${side}`] = new Tensor('float32', rows, [1, numKvHeads, context, headDim]);
        cacheBytes += rows.byteLength;
      }
    }
    return { model, cache: new DynamicCache(entries), ids: new Array<number>(context).fill(5), cacheBytes, compactMs: 0 };
  },
};
