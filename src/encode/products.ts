/** Matrix products in ONNX Runtime: one session of three tiny branches, so that there is one pool of threads however many shapes come by. */
import * as ort from 'onnxruntime-node';
import { DataType, encodeModel, type Graph, GraphEditor, importOpset, type Model } from '../onnx/index.ts';

/** A row-major matrix. */
export interface Dense<A extends Float32Array | Float64Array = Float32Array> {
  readonly values: A;
  readonly rows: number;
  readonly columns: number;
}

/** Products of dense matrices in one element type. */
export interface Products<A extends Float32Array | Float64Array> {
  /** A·B */
  times(a: Dense<A>, b: Dense<A>): Promise<Dense<A>>;
  /** A·Bᵀ. The right factor is transposed in memory: let it be the small one. */
  timesTransposed(a: Dense<A>, b: Dense<A>): Promise<Dense<A>>;
  /** Aᵀ·B. The left factor is transposed in memory: let it be the small one. */
  transposedTimes(a: Dense<A>, b: Dense<A>): Promise<Dense<A>>;
  dispose(): Promise<void>;
}

const FORMS = ['times', 'timesTransposed', 'transposedTimes'] as const;
type Form = (typeof FORMS)[number];

export function float32Products(): Promise<Products<Float32Array>> {
  return createProducts<Float32Array>('float32', DataType.FLOAT);
}

/** Half as quick as float32; for Gram matrices, whose small eigenvalues would drown in float32 rounding. */
export function float64Products(): Promise<Products<Float64Array>> {
  return createProducts<Float64Array>('float64', DataType.DOUBLE);
}

async function createProducts<A extends Float32Array | Float64Array>(
  type: 'float32' | 'float64',
  elementType: DataType,
): Promise<Products<A>> {
  const session = await ort.InferenceSession.create(encodeModel(productModel(elementType)), {
    // Fused, the transposition goes into the product and MLAS packs the transposed factor four times slower than it multiplies.
    graphOptimizationLevel: 'disabled',
    // Shapes differ from call to call: remembered memory plans would only pile up.
    enableMemPattern: false,
    // Threads that spin after a product would take the cores from the decoder's session.
    extra: { session: { intra_op: { allow_spinning: '0' } } },
  });
  const forms = Object.fromEntries(
    FORMS.map((form) => [form, FORMS.map((other) => new ort.Tensor('bool', Uint8Array.of(Number(form === other)), []))]),
  ) as Record<Form, ort.Tensor[]>;
  const tensor = (matrix: Dense<A>): ort.Tensor => new ort.Tensor(type, matrix.values as never, [matrix.rows, matrix.columns]);
  const run = async (form: Form, a: Dense<A>, b: Dense<A>): Promise<Dense<A>> => {
    const [times, timesTransposed] = forms[form] as [ort.Tensor, ort.Tensor];
    const { product } = await session.run({ a: tensor(a), b: tensor(b), times, timesTransposed });
    const { data, dims } = product as ort.Tensor;
    return { values: data as A, rows: dims[0] as number, columns: dims[1] as number };
  };
  return {
    times: (a, b) => run('times', a, b),
    timesTransposed: (a, b) => run('timesTransposed', a, b),
    transposedTimes: (a, b) => run('transposedTimes', a, b),
    dispose: () => session.release(),
  };
}

/** Inputs a and b, and two flags that choose the form; the branches read a and b from outside, so nothing is copied. */
function productModel(type: DataType): Model {
  const graph: Graph = { name: 'products', node: [] };
  const editor = new GraphEditor(graph);
  editor.addInput('a', type, ['rows_a', 'columns_a']);
  editor.addInput('b', type, ['rows_b', 'columns_b']);
  for (const flag of FORMS.slice(0, 2)) editor.addInput(flag, DataType.BOOL, []);
  const others = branch('others', type, (inner) => {
    inner.append('If', ['timesTransposed'], ['others/product'], {
      attributes: {
        then_branch: {
          graph: branch('ABt', type, (body) => body.append('MatMul', ['a', body.add('Transpose', ['b'], 'ABt/b')], ['ABt/product'])),
        },
        else_branch: {
          graph: branch('AtB', type, (body) => body.append('MatMul', [body.add('Transpose', ['a'], 'AtB/a'), 'b'], ['AtB/product'])),
        },
      },
    });
  });
  editor.append('If', ['times'], ['product'], {
    attributes: {
      then_branch: { graph: branch('AB', type, (body) => body.append('MatMul', ['a', 'b'], ['AB/product'])) },
      else_branch: { graph: others },
    },
  });
  editor.addOutput('product', type, ['rows', 'columns']);
  const model: Model = { irVersion: 8, producerName: 'attentionpack', graph };
  importOpset(model, '', 17);
  return model;
}

/** A subgraph without inputs whose one output is `<name>/product`. */
function branch(name: string, type: DataType, build: (editor: GraphEditor) => void): Graph {
  const editor = new GraphEditor({ name, node: [] });
  build(editor);
  editor.addOutput(`${name}/product`, type, [`${name}/rows`, `${name}/columns`]);
  return editor.graph;
}
