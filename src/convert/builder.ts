/** Builds one ONNX model: nodes under the path names published exports use, weights streamed from a source to disk in the wanted precision. */
import { AttentionPackError } from '../errors.ts';
import { type AttributeValue, DataType, type Dim, GraphEditor, importOpset, type Model } from '../onnx/index.ts';
import { toHalf } from './half.ts';
import type { Precision } from './precision.ts';
import { BLOCK_SIZE, type QuantisedRows, quantiseRows } from './quantise.ts';
import type { WeightSource } from './weight-source.ts';
import { WeightsWriter, type WrittenModel } from './weights-writer.ts';

const CONTRIB = 'com.microsoft';
/** Weights in flight at a time, in elements: rows are read, converted and written in groups of about this many. */
const GROUP_ELEMENTS = 2 ** 22;

export interface BuildOptions {
  readonly source: WeightSource;
  readonly precision: Precision;
  /** Folder the model is written into. */
  readonly folder: string;
  /** MatMulNBits' accuracy_level: 0 computes in the activations' type (exact), 4 rounds activations to int8 (faster on CPUs). */
  readonly accuracyLevel?: 0 | 4;
  readonly inlineMaxBytes?: number;
  /** Called between weights: reports progress and gives the event loop a turn. Throws to stop. */
  readonly step: (part: string) => Promise<void>;
}

type Attributes = Readonly<Record<string, AttributeValue | undefined>>;

export class ModelBuilder {
  readonly source: WeightSource;
  readonly precision: Precision;
  readonly step: (part: string) => Promise<void>;
  readonly editor: GraphEditor;
  readonly #model: Model;
  readonly #writer: WeightsWriter;
  readonly #accuracyLevel: number;

  /** @param name file name without precision and ending, e.g. `decoder_model_merged`. */
  constructor(name: string, options: BuildOptions) {
    this.source = options.source;
    this.precision = options.precision;
    this.step = options.step;
    this.#accuracyLevel = options.accuracyLevel ?? 0;
    this.#writer = new WeightsWriter(options.folder, `${name}${options.precision.suffix}.onnx`, options.inlineMaxBytes);
    this.#model = { irVersion: 10, producerName: 'attentionpack', graph: { name } };
    importOpset(this.#model, '', 21);
    importOpset(this.#model, CONTRIB, 1);
    this.editor = new GraphEditor(this.#model.graph ?? {});
  }

  get floatType(): DataType {
    return this.precision.floatType;
  }

  input(name: string, type: DataType, dims: readonly Dim[]): string {
    return this.editor.addInput(name, type, dims);
  }

  output(name: string, type: DataType, dims: readonly Dim[]): string {
    return this.editor.addOutput(name, type, dims);
  }

  /** A node named `path` with one output, `path/output_0` or the given name. */
  node(op: string, path: string, inputs: readonly string[], attributes: Attributes = {}, output = `${path}/output_0`): string {
    this.editor.append(op, inputs, [output], { name: path, attributes });
    return output;
  }

  /** A node of ONNX Runtime's own operators, with any number of outputs. */
  contrib(op: string, path: string, inputs: readonly string[], output: readonly string[], attributes: Attributes = {}): void {
    this.editor.append(op, inputs, output, { name: path, attributes, domain: CONTRIB });
  }

  cast(path: string, value: string, to: DataType, output?: string): string {
    return this.node('Cast', path, [value], { to }, output);
  }

  /** A weight that is not quantised: norms, biases, position embeddings, convolution kernels. */
  weight(name: string, sourceName: string, dims: readonly number[], storedDims = dims): string {
    this.source.expect(sourceName, storedDims);
    const [rows = 1] = storedDims;
    const pieces = this.#floatRows(sourceName, rows, elementsOf(storedDims) / rows);
    return this.editor.addInitializer(this.#writer.write(name, this.floatType, dims, pieces));
  }

  /** A table made here, [rows, columns]. */
  table(name: string, dims: readonly number[], values: Float32Array): string {
    return this.editor.addInitializer(this.#writer.write(name, this.floatType, dims, [this.#inType(name, values)]));
  }

  /**
   * `x` [.., K] times the transpose of a checkpoint's linear weight [N, K], plus its bias [N] if it has one.
   *
   * @param path node path of the layer, e.g. `/model/layers.0/attn/q_proj`.
   */
  async linear(path: string, x: string, weight: { source: string; N: number; K: number; bias: boolean }, output?: string): Promise<string> {
    const { source, N, K, bias } = weight;
    this.source.expect(`${source}.weight`, [N, K]);
    const name = `${path.slice(1).replaceAll('/', '.')}.MatMul.weight`;
    const product = bias ? undefined : output;
    const y = this.precision.bits
      ? this.#matMulNBits(path, x, `${source}.weight`, name.replaceAll('.', '_'), N, K, product)
      : this.node('MatMul', `${path}/MatMul`, [x, this.#transposed(name, `${source}.weight`, N, K)], {}, product);
    await this.step(source);
    if (!bias) return y;
    const b = this.weight(`${path.slice(1).replaceAll('/', '.')}.Add.bias`, `${source}.bias`, [N]);
    return this.node('Add', `${path}/Add`, [y, b], {}, output);
  }

  /** Quantised codes, scales and zero points of a matrix [N, K] as three initialisers; a zero point name of '' says they are all the middle code. */
  quantised(name: string, sourceName: string, N: number, K: number, codeDims: readonly number[]): string[] {
    const bits = this.precision.bits ?? 8;
    const blocks = Math.ceil(K / BLOCK_SIZE);
    const scales: Float32Array[] = [];
    const zeros: Uint8Array[] = [];
    const collect = function* (groups: Iterable<QuantisedRows>): Generator<Uint8Array> {
      for (const group of groups) {
        scales.push(group.scales);
        if (group.zeroPoints) zeros.push(group.zeroPoints);
        yield group.codes;
      }
    };
    const codes = this.#writer.write(`${name}_quant`, DataType.UINT8, codeDims, collect(this.#quantisedGroups(sourceName, N, K)));
    const scaleName = `${name}_scales`;
    const scaleRows = scales.map((rows) => this.#inType(scaleName, rows));
    const initialisers = [codes, this.#writer.write(scaleName, this.floatType, [N, blocks], scaleRows)];
    if (zeros.length) {
      initialisers.push(this.#writer.write(`${name}_zp`, DataType.UINT8, [N, Math.ceil((blocks * bits) / 8)], zeros));
    }
    const names = initialisers.map((tensor) => this.editor.addInitializer(tensor));
    return names.length === 3 ? names : [...names, ''];
  }

  async finish(): Promise<WrittenModel> {
    return this.#writer.finish(this.#model);
  }

  abandon(): void {
    this.#writer.abandon();
  }

  #matMulNBits(path: string, x: string, sourceName: string, name: string, N: number, K: number, output?: string): string {
    const bits = this.precision.bits ?? 8;
    const dims = [N, Math.ceil(K / BLOCK_SIZE), (BLOCK_SIZE * bits) / 8];
    const [codes = '', scales = '', zeros = ''] = this.quantised(name, sourceName, N, K, dims);
    const y = output ?? `${path}/MatMul/output_0`;
    const accuracy = this.#accuracyLevel || undefined;
    const inputs = zeros ? [x, codes, scales, zeros] : [x, codes, scales];
    this.contrib('MatMulNBits', `${path}/MatMul_Quant`, inputs, [y], { K, N, bits, block_size: BLOCK_SIZE, accuracy_level: accuracy });
    return y;
  }

  *#quantisedGroups(sourceName: string, N: number, K: number): Generator<QuantisedRows> {
    const options = { bits: this.precision.bits ?? 8, blockSize: BLOCK_SIZE } as const;
    for (const [start, end] of groups(N, K)) {
      yield this.source.quantisedRows?.(sourceName, start, end, options) ??
        quantiseRows(this.source.rows(sourceName, start, end), K, options);
    }
  }

  *#floatRows(sourceName: string, numRows: number, numColumns: number): Generator<ArrayBufferView> {
    for (const [start, end] of groups(numRows, numColumns)) yield this.#inType(sourceName, this.source.rows(sourceName, start, end));
  }

  /** The transpose [K, N] of a source matrix [N, K]; the float32 matrix is whole in memory (the head of a 13B model: 656 MB), its transpose is not. */
  #transposed(name: string, sourceName: string, N: number, K: number): string {
    const values = this.source.rows(sourceName, 0, N);
    const pieces = function* (this: ModelBuilder): Generator<ArrayBufferView> {
      for (const [start, end] of groups(K, N)) yield this.#inType(sourceName, transposedColumns(values, N, K, start, end));
    };
    return this.editor.addInitializer(this.#writer.write(name, this.floatType, [K, N], pieces.call(this)));
  }

  #inType(name: string, values: Float32Array): ArrayBufferView {
    if (this.floatType === DataType.FLOAT) return values;
    for (let i = 0; i < values.length; i++) {
      if (Math.abs(values[i] as number) > 65504) {
        throw new AttentionPackError(`weight '${name}' has ${values[i]}, float16 ends at 65504; use dtype fp32, q8 or q4`);
      }
    }
    return toHalf(values);
  }
}

/** Columns [start, end) of a matrix [N, K] as rows: [end - start, N]. Tiled, or every read would miss the cache. */
function transposedColumns(values: Float32Array, N: number, K: number, start: number, end: number): Float32Array {
  const out = new Float32Array((end - start) * N);
  const tile = 32;
  for (let n0 = 0; n0 < N; n0 += tile) {
    const n1 = Math.min(n0 + tile, N);
    for (let k = start; k < end; k++) {
      const at = (k - start) * N;
      for (let n = n0; n < n1; n++) out[at + n] = values[n * K + k] as number;
    }
  }
  return out;
}

function* groups(numRows: number, numColumns: number): Generator<[start: number, end: number]> {
  const rows = Math.max(1, Math.floor(GROUP_ELEMENTS / numColumns));
  for (let start = 0; start < numRows; start += rows) yield [start, Math.min(start + rows, numRows)];
}

function elementsOf(dims: readonly number[]): number {
  return dims.reduce((product, dim) => product * dim, 1);
}
