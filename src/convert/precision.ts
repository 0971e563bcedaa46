/** The precisions a model can be written in, and the file name endings transformers.js finds them by. */
import { AttentionPackError } from '../errors.ts';
import { DataType } from '../onnx/index.ts';

export const DTYPES = ['fp32', 'fp16', 'q8', 'q4', 'q4f16'] as const;

/**
 * One of:
 *
 * - *fp32*: everything float32.
 * - *fp16*: weights, activations and key/value cache float16; embeddings, image features and logits cross the border as float32.
 * - *q8*: linear layers and embeddings in 8-bit blocks of 32 with one scale each; activations and cache float32. About 1.13 bytes a weight.
 * - *q4*: the same in 4 bits with a zero point. About 0.64 bytes a weight.
 * - *q4f16*: q4 with float16 scales, activations and cache. About 0.58 bytes a weight.
 */
export type Dtype = (typeof DTYPES)[number];

export interface Precision {
  readonly dtype: Dtype;
  /** Ending of the file name before `.onnx`; see `DEFAULT_DTYPE_SUFFIX_MAPPING` in transformers.js. */
  readonly suffix: string;
  /** Element type of activations, of weights that are not quantised, and of the key/value cache. */
  readonly floatType: typeof DataType.FLOAT | typeof DataType.FLOAT16;
  /** Bits of a quantised weight; undefined: none is quantised. */
  readonly bits?: 4 | 8;
}

const PRECISIONS: Readonly<Record<Dtype, Omit<Precision, 'dtype'>>> = {
  fp32: { suffix: '', floatType: DataType.FLOAT },
  fp16: { suffix: '_fp16', floatType: DataType.FLOAT16 },
  q8: { suffix: '_quantized', floatType: DataType.FLOAT, bits: 8 },
  q4: { suffix: '_q4', floatType: DataType.FLOAT, bits: 4 },
  q4f16: { suffix: '_q4f16', floatType: DataType.FLOAT16, bits: 4 },
};

/** @throws {AttentionPackError} if the dtype is not one of {@link DTYPES}. */
export function precisionOf(dtype: string): Precision {
  const known = DTYPES.find((name) => name === dtype);
  if (!known) throw new AttentionPackError(`dtype '${dtype}' is not known; use one of ${DTYPES.join(', ')}`);
  return { dtype: known, ...PRECISIONS[known] };
}
