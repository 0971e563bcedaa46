/** A converted folder with every quantised weight replaced by the plain matrix it stands for: the slow true version of MatMulNBits. */
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { type Dtype, precisionOf } from '../../src/convert/precision.ts';
import { dequantiseRows, type QuantiseOptions } from '../../src/convert/quantise.ts';
import {
  attribute,
  dimsOf,
  floatTensor,
  GraphEditor,
  intAttribute,
  type Node,
  readModel,
  type Tensor,
  tensorBytes,
  writeModel,
} from '../../src/onnx/index.ts';

export async function dequantisedTwin(from: string, to: string, dtype: Dtype): Promise<void> {
  mkdirSync(path.join(to, 'onnx'), { recursive: true });
  for (const name of ['vision_encoder', 'embed_tokens', 'decoder_model_merged']) {
    const file = readModel(path.join(from, 'onnx', `${name}${precisionOf(dtype).suffix}.onnx`));
    const editor = new GraphEditor(file.model.graph ?? {});
    for (const node of editor.nodes) {
      if (node.opType === 'MatMulNBits') toMatMul(editor, node, file.path);
      else if (node.opType === 'GatherBlockQuantized') toGather(editor, node, file.path);
    }
    editor.removeDead();
    await writeModel(file, path.join(to, 'onnx', path.basename(file.path)));
  }
}

function toMatMul(editor: GraphEditor, node: Node, modelPath: string): void {
  const N = intAttribute(node, 'N', 0);
  const K = intAttribute(node, 'K', 0);
  const [x = '', codes = '', scales = '', zeros] = node.input ?? [];
  const matrix = plainMatrix(editor, node, K, [codes, scales, zeros], modelPath);
  const transposed = Float32Array.from(matrix, (_, i) => matrix[(i % N) * K + Math.floor(i / N)] as number);
  Object.assign(node, { opType: 'MatMul', domain: '', attribute: [] });
  node.input = [x, editor.addInitializer(floatTensor(`${codes}_plain`, [K, N], transposed))];
}

function toGather(editor: GraphEditor, node: Node, modelPath: string): void {
  const [codes = '', ids = '', scales = '', zeros] = node.input ?? [];
  const [rows = 0, rowBytes = 0] = dimsOf(editor.initializer(codes) as Tensor);
  const numColumns = (rowBytes * 8) / intAttribute(node, 'bits', 0);
  const matrix = plainMatrix(editor, node, numColumns, [codes, scales, zeros], modelPath);
  Object.assign(node, { opType: 'Gather', domain: '', attribute: [] });
  node.input = [editor.addInitializer(floatTensor(`${codes}_plain`, [rows, numColumns], matrix)), ids];
}

function plainMatrix(
  editor: GraphEditor,
  node: Node,
  numColumns: number,
  [codes, scales, zeros]: readonly (string | undefined)[],
  modelPath: string,
): Float32Array {
  const bytes = (name: string): Uint8Array => tensorBytes(editor.initializer(name) as Tensor, modelPath).slice();
  const options = { bits: Number(attribute(node, 'bits')?.i), blockSize: intAttribute(node, 'block_size', 0) } as QuantiseOptions;
  const rows = {
    codes: bytes(codes as string),
    scales: new Float32Array(bytes(scales as string).buffer),
    zeroPoints: zeros ? bytes(zeros) : undefined,
  };
  return dequantiseRows(rows, numColumns, options);
}
