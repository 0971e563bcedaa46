/**
 * Rotary embedding by several axes: each rotary pair of a head turns by the position on one of them, (time, height, width) in M-RoPE, (height,
 * width) in a vision tower.
 *
 * The angles are a sum over axes of position times frequency, where a pair's frequency is zero but for its own axis. (As a MatMul behind a Transpose
 * ONNX Runtime 1.30 fuses it into a graph that crashes it in half precision.) RotaryEmbedding then reads the cosines of this very run as its
 * table, a row for each token.
 */
import { DataType, floatTensor } from '../onnx/index.ts';
import type { ModelBuilder } from './builder.ts';

/** What RotaryEmbedding takes beside the rows it turns. */
export interface AxialRotary {
  /** [B, N] int64: row of the tables of each token. */
  readonly rows: string;
  /** [B·N, D/2] in the builder's float type. */
  readonly cos: string;
  readonly sin: string;
}

/** @param axisOf axis of each rotary pair; [D/2], as `frequencies` */
export function axisFrequencies(frequencies: Float32Array, axisOf: readonly number[], numAxes: number): Float32Array {
  const matrix = new Float32Array(numAxes * frequencies.length);
  frequencies.forEach((frequency, pair) => {
    matrix[(axisOf[pair] as number) * frequencies.length + pair] = frequency;
  });
  return matrix;
}

/**
 * @param path node path, e.g. `/model/rotary`
 * @param positions [A, B, N] float32
 * @param frequencies [A, D/2]; see {@link axisFrequencies}
 * @param batch [1] int64: B
 * @param length [1] int64: N
 */
export function axialRotary(
  builder: ModelBuilder,
  path: string,
  positions: string,
  frequencies: { readonly values: Float32Array; readonly numAxes: number },
  batch: string,
  length: string,
): AxialRotary {
  const { editor, floatType } = builder;
  const half = frequencies.values.length / frequencies.numAxes;
  // float32 also in half precision: float16 cannot tell position 2049 from 2048
  const dims = [frequencies.numAxes, 1, 1, half];
  const table_A11d = editor.addInitializer(floatTensor(`${path.slice(1).replaceAll('/', '.')}.frequencies`, dims, frequencies.values));
  const positions_ABN1 = builder.node('Unsqueeze', `${path}/Unsqueeze`, [positions, editor.ints([3])]);
  const products = builder.node('Mul', `${path}/Mul`, [positions_ABN1, table_A11d]); // [A, B, N, D/2]
  const angles = builder.node('ReduceSum', `${path}/ReduceSum`, [products, editor.ints([0])], { keepdims: 0 }); // [B, N, D/2]
  const flat = builder.node('Reshape', `${path}/Reshape`, [angles, editor.ints([-1, half])]);
  const table = (op: 'Cos' | 'Sin'): string => {
    const values = builder.node(op, `${path}/${op}`, [flat]);
    return floatType === DataType.FLOAT ? values : builder.cast(`${path}/${op}/Cast`, values, floatType);
  };
  const total = builder.node('Mul', `${path}/rows/Mul`, [batch, length]);
  const numRows = builder.node('Squeeze', `${path}/rows/Squeeze`, [total]);
  const range = builder.node('Range', `${path}/rows/Range`, [editor.ints(0), numRows, editor.ints(1)]);
  const shape = builder.node('Concat', `${path}/rows/Concat`, [batch, length], { axis: 0 });
  const rows = builder.node('Reshape', `${path}/rows/Reshape`, [range, shape]);
  return { rows, cos: table('Cos'), sin: table('Sin') };
}

/** Turns rows [B, N, heads·D]. */
export function turn(builder: ModelBuilder, path: string, x: string, { rows, cos, sin }: AxialRotary): string {
  const output = `${path}/RotaryEmbedding/output_0`;
  builder.contrib('RotaryEmbedding', `${path}/RotaryEmbedding`, [x, rows, cos, sin], [output], { interleaved: 0 });
  return output;
}
