/** Token embeddings: a gather, from 4- or 8-bit blocks where the precision asks for it. */
import { DataType } from '../onnx/index.ts';
import { type BuildOptions, ModelBuilder } from './builder.ts';
import { BLOCK_SIZE } from './quantise.ts';
import type { TextShape } from './text-config.ts';
import type { WrittenModel } from './weights-writer.ts';

/**
 * Writes `embed_tokens`: input_ids [B, N] int64 -> inputs_embeds [B, N, hidden] float32, also in half precision, since transformers.js
 * copies float32 image features into it.
 */
export async function writeEmbedding(shape: TextShape, options: BuildOptions): Promise<WrittenModel> {
  const builder = new ModelBuilder('embed_tokens', options);
  try {
    const { vocab, hidden } = shape;
    const source = 'language_model.embed_tokens.weight';
    builder.input('input_ids', DataType.INT64, ['batch_size', 'sequence_length']);
    builder.output('inputs_embeds', DataType.FLOAT, ['batch_size', 'sequence_length', hidden]);
    builder.source.expect(source, [vocab, hidden]);
    const path = '/embed_tokens';
    const isFloat = builder.floatType === DataType.FLOAT;
    const gathered = isFloat ? 'inputs_embeds' : `${path}/output_0`;
    if (builder.precision.bits && hidden % BLOCK_SIZE === 0) gatherQuantised(builder, path, source, shape, gathered);
    else {
      const weight = builder.weight('embed_tokens.weight', source, [vocab, hidden]);
      builder.node('Gather', `${path}/Gather`, [weight, 'input_ids'], { axis: 0 }, gathered);
    }
    if (!isFloat) builder.cast(`${path}/Cast`, gathered, DataType.FLOAT, 'inputs_embeds');
    await builder.step('embed_tokens');
    return await builder.finish();
  } catch (cause) {
    builder.abandon();
    throw cause;
  }
}

function gatherQuantised(builder: ModelBuilder, path: string, source: string, { vocab, hidden }: TextShape, output: string): void {
  const bits = builder.precision.bits ?? 8;
  // Packed bytes rather than 4-bit elements: those would run on across rows, so that an odd number of blocks has no row of zero points.
  const dims = [vocab, (hidden * bits) / 8];
  const [codes = '', scales = '', zeros = ''] = builder.quantised('embed_tokens_weight', source, vocab, hidden, dims);
  const inputs = zeros ? [codes, 'input_ids', scales, zeros] : [codes, 'input_ids', scales];
  builder.contrib('GatherBlockQuantized', `${path}/Gather_Quant`, inputs, [output], {
    gather_axis: 0,
    quantize_axis: 1,
    block_size: BLOCK_SIZE,
    bits,
  });
}
