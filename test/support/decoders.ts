/** Tiny random decoders, in every variant the rewriter promises. */
import { DataType, float, floatTensor, GraphEditor, type Model, type Node } from '../../src/onnx/index.ts';

export interface DecoderOptions {
  readonly numHeads?: number;
  readonly numKvHeads?: number;
  readonly headDim?: number;
  /** One entry per layer: its local window, or undefined for a global layer. */
  readonly windows?: readonly (number | undefined)[];
  /**
   * `inside`: do_rotary = 1; `outside`: RotaryEmbedding nodes before the attention; `axes`: the same by tables made of positions on three axes; `none`: no
   * rotary embedding at all.
   */
  readonly rotary?: 'inside' | 'outside' | 'axes' | 'none';
  readonly interleaved?: boolean;
  /** Turned columns of a head; default: all. */
  readonly numTurned?: number;
  /** Whether positions are a graph input; otherwise the node counts them. `outside` always has the input. */
  readonly givenPositions?: boolean;
  readonly scale?: number;
  readonly softcap?: number;
  readonly type?: DataType;
  /** An If node that chooses the rotary tables, one of whose branches reads a value of the outer graph (as LongRope models have it). */
  readonly branch?: boolean;
  /** `mask`: a bias that repeats the attention mask, as in Gemma 3; `foreign`: one that is a graph input. */
  readonly bias?: 'mask' | 'foreign';
  readonly opset?: number;
  /** Rows of the rotary tables. Default 256. */
  readonly numPositions?: number;
  readonly seed?: number;
}

export const EMBED = 24;
export const VOCABULARY = 13;
const NUM_POSITIONS = 256;

/** Seeded numbers in [-1, 1). */
export function randomNumbers(seed: number): () => number {
  let state = (seed * 2654435761 + 12345) >>> 0;
  return () => {
    state = (Math.imul(state ^ (state >>> 15), 2246822519) + 3266489917) >>> 0;
    return ((state ^ (state >>> 13)) >>> 0) / 2 ** 31 - 1;
  };
}

/** inputs_embeds -> [norm, attention, norm, MLP] per layer -> logits. */
export function tinyDecoder(options: DecoderOptions = {}): Model {
  const { numHeads = 4, numKvHeads = 2, headDim = 16, windows = [undefined, undefined], type = DataType.FLOAT } = options;
  const rotary = options.rotary ?? 'inside';
  const random = randomNumbers(options.seed ?? 1);
  const model: Model = {
    irVersion: 9,
    producerName: 'attentionpack-test',
    opsetImport: [
      { domain: '', version: options.opset ?? 17 },
      { domain: 'com.microsoft', version: 1 },
    ],
    graph: { name: 'tiny-decoder' },
  };
  const editor = new GraphEditor(model.graph as NonNullable<Model['graph']>);
  const contrib = { domain: 'com.microsoft' };
  const weight = (name: string, rows: number, columns: number, size = 1.6): string =>
    editor.addInitializer(
      floatTensor(
        name,
        [rows, columns],
        Array.from({ length: rows * columns }, () => (random() * size) / Math.sqrt(rows)),
        type,
      ),
    );

  const mask = editor.addInput('attention_mask', DataType.INT64, ['batch_size', 'total_sequence_length']);
  let hidden = editor.addInput('inputs_embeds', type, ['batch_size', 'sequence_length', EMBED]);
  const positions =
    rotary === 'axes'
      ? editor.addInput('position_ids', DataType.INT64, [3, 'batch_size', 'sequence_length'])
      : options.givenPositions || rotary === 'outside'
        ? editor.addInput('position_ids', DataType.INT64, ['batch_size', 'sequence_length'])
        : '';
  const counts = editor.add('ReduceSum', [mask, editor.ints([1])], 'counts', { attributes: { keepdims: 0 } });
  const seqlens = editor.add('Cast', [editor.add('Sub', [counts, editor.ints([1])], 'last')], 'seqlens_k', {
    attributes: { to: DataType.INT32 },
  });
  const shape = editor.add('Shape', [mask], 'mask_shape');
  const total = editor.add('Cast', [editor.add('Gather', [shape, editor.ints(1)], 'num_slots')], 'total', {
    attributes: { to: DataType.INT32 },
  });
  const half = (options.numTurned ?? headDim) / 2;
  const axes = rotary === 'axes' ? axesTables(editor, half, type) : undefined;
  const tables =
    axes?.tables ?? (rotary === 'none' ? ['', ''] : rotaryTables(editor, half, type, options.branch ?? false, options.numPositions));
  const bias = options.bias ? biasOf(editor, options.bias, type) : '';
  const ones = editor.addInitializer(floatTensor('norm.weight', [EMBED], Array(EMBED).fill(1), type));
  const norm = (value: string, name: string): string =>
    editor.add('SimplifiedLayerNormalization', [value, ones], name, { attributes: { axis: -1, epsilon: float(1e-6) } });

  for (const [layer, window] of windows.entries()) {
    const past = (['key', 'value'] as const).map((side) =>
      editor.addInput(`past_key_values.${layer}.${side}`, type, ['batch_size', numKvHeads, 'past_sequence_length', headDim]),
    );
    const normed = norm(hidden, `layers.${layer}.norm`);
    const project = (name: string, heads: number): string =>
      editor.add('MatMul', [normed, weight(`layers.${layer}.${name}.weight`, EMBED, heads * headDim, 3)], `layers.${layer}.${name}`);
    let query = project('query', numHeads);
    let key = project('key', numKvHeads);
    const value = project('value', numKvHeads);
    if (rotary === 'outside' || rotary === 'axes') {
      const turn = (rows: string, heads: number): string =>
        editor.add('RotaryEmbedding', [rows, axes?.rows ?? positions, ...tables], `${rows}.turned`, {
          ...contrib,
          attributes: { num_heads: heads, rotary_embedding_dim: options.numTurned, interleaved: options.interleaved ? 1 : 0 },
        });
      [query, key] = [turn(query, numHeads), turn(key, numKvHeads)];
    }
    const attended = `layers.${layer}.attention`;
    const presents = [`present.${layer}.key`, `present.${layer}.value`];
    const inside = rotary === 'inside' ? [...tables, positions] : ['', '', ''];
    editor.append('GroupQueryAttention', trimmed([query, key, value, ...past, seqlens, total, ...inside, bias]), [attended, ...presents], {
      ...contrib,
      name: `/layers.${layer}/attention`,
      attributes: {
        num_heads: numHeads,
        kv_num_heads: numKvHeads,
        do_rotary: rotary === 'inside' ? 1 : 0,
        rotary_interleaved: options.interleaved && rotary === 'inside' ? 1 : undefined,
        local_window_size: window,
        scale: options.scale === undefined ? undefined : float(options.scale),
        softcap: options.softcap === undefined ? undefined : float(options.softcap),
      },
    });
    for (const present of presents) editor.addOutput(present, type, ['batch_size', numKvHeads, 'total_sequence_length', headDim]);
    const projected = editor.add(
      'MatMul',
      [attended, weight(`layers.${layer}.out.weight`, numHeads * headDim, EMBED)],
      `layers.${layer}.out`,
    );
    const middle = editor.add('Add', [hidden, projected], `layers.${layer}.middle`);
    const wide = editor.add(
      'MatMul',
      [norm(middle, `layers.${layer}.norm2`), weight(`layers.${layer}.up.weight`, EMBED, 32)],
      `layers.${layer}.up`,
    );
    const narrow = editor.add(
      'MatMul',
      [editor.add('Tanh', [wide], `layers.${layer}.tanh`), weight(`layers.${layer}.down.weight`, 32, EMBED)],
      `layers.${layer}.down`,
    );
    hidden = editor.add('Add', [middle, narrow], `layers.${layer}.output`);
  }
  editor.append('MatMul', [norm(hidden, 'final.norm'), weight('lm_head.weight', EMBED, VOCABULARY)], ['logits']);
  editor.addOutput('logits', type, ['batch_size', 'sequence_length', VOCABULARY]);
  editor.sort();
  return model;
}

function trimmed(inputs: string[]): string[] {
  while (inputs.at(-1) === '') inputs.pop();
  return inputs;
}

function rotaryTables(editor: GraphEditor, width: number, type: DataType, branch: boolean, numPositions = NUM_POSITIONS): string[] {
  const table = (base: number, turn: (angle: number) => number, name: string) =>
    floatTensor(
      name,
      [numPositions, width],
      Array.from({ length: numPositions * width }, (_, i) => turn(Math.floor(i / width) * base ** (-(i % width) / width))),
      type,
    );
  if (!branch) return [editor.addInitializer(table(100, Math.cos, 'cos_cache')), editor.addInitializer(table(100, Math.sin, 'sin_cache'))];

  // Long sequences take the other base. Both branches read `outer_zero`, which nothing outside them reads.
  const zero = editor.add(
    'Mul',
    [editor.addInitializer(floatTensor('zero', [1], [0], type)), editor.addInitializer(floatTensor('two', [1], [2], type))],
    'outer_zero',
  );
  const long = editor.add(
    'Greater',
    [editor.add('ReduceMax', ['counts'], 'longest', { attributes: { keepdims: 0 } }), editor.ints(1000)],
    'is_long',
  );
  const add = (input: string, output: string): Node => ({ opType: 'Add', input: [input, zero], output: [output], name: output });
  const body = (name: string, base: number) => ({
    name,
    initializer: [table(base, Math.cos, `${name}_cos`), table(base, Math.sin, `${name}_sin`)],
    node: [add(`${name}_cos`, `${name}_cos_out`), add(`${name}_sin`, `${name}_sin_out`)],
    output: ['cos', 'sin'].map((kind) => ({
      name: `${name}_${kind}_out`,
      type: { tensorType: { elemType: type, shape: { dim: [{ dimValue: numPositions }, { dimValue: width }] } } },
    })),
  });
  const graphs = { then_branch: { graph: body('long', 1000) }, else_branch: { graph: body('short', 100) } };
  return editor.addMany('If', [long], ['cos_cache', 'sin_cache'], { attributes: graphs });
}

/** Tables of this run's tokens, a row for each, and the rows in order: pairs turn by time, height and width in turns, as M-RoPE has them. */
function axesTables(editor: GraphEditor, half: number, type: DataType): { rows: string; tables: string[] } {
  const frequencies = Array.from({ length: 3 * half }, (_, i) =>
    Math.floor(i / half) === (i % half) % 3 ? 100 ** (-(i % half) / half) : 0,
  );
  const positions = editor.add('Cast', ['position_ids'], 'axes_ABN', { attributes: { to: DataType.FLOAT } });
  const products = editor.add(
    'Mul',
    [
      editor.add('Unsqueeze', [positions, editor.ints([3])], 'axes_ABN1'),
      editor.addInitializer(floatTensor('frequencies', [3, 1, 1, half], frequencies)),
    ],
    'angles_ABNd',
  );
  const angles = editor.add('ReduceSum', [products, editor.ints([0])], 'angles_BNd', { attributes: { keepdims: 0 } });
  const flat = editor.add('Reshape', [angles, editor.ints([-1, half])], 'angles');
  const shape = editor.add('Shape', ['inputs_embeds'], 'embeds_shape');
  const size = editor.add('Slice', [shape, editor.ints([0]), editor.ints([2])], 'batch_and_new');
  const total = editor.add(
    'Mul',
    ['batch', 'new'].map((name, i) => editor.add('Gather', [shape, editor.ints(i)], `num_${name}`)),
    'num_rows',
  );
  const range = editor.add('Range', [editor.ints(0), total, editor.ints(1)], 'rows_flat');
  return {
    rows: editor.add('Reshape', [range, size], 'rows_BN'),
    tables: ['Cos', 'Sin'].map((op) =>
      editor.add('Cast', [editor.add(op, [flat], `${op}_f32`)], `${op}_table`, { attributes: { to: type } }),
    ),
  };
}

/** [B, 1, N, all slots], 0 where the mask is 1 and the type's lowest number where it is 0; as Gemma 3's graphs make it. */
function biasOf(editor: GraphEditor, kind: 'mask' | 'foreign', type: DataType): string {
  if (kind === 'foreign') return editor.addInput('bias', type, ['batch_size', 1, 'sequence_length', 'total_sequence_length']);
  const lowest = type === DataType.FLOAT16 ? -65504 : -3.4028234663852886e38;
  const mask = editor.add('Cast', ['attention_mask'], 'bias_mask', { attributes: { to: type } });
  const absent = editor.add('Sub', [editor.scalar(1, type), mask], 'bias_absent');
  const row = editor.add(
    'Unsqueeze',
    [editor.add('Mul', [absent, editor.scalar(lowest, type)], 'bias_row'), editor.ints([1, 2])],
    'bias_B11A',
  );
  const size = (value: string, axis: number, name: string): string =>
    editor.add('Gather', [editor.add('Shape', [value], `${name}_shape`), editor.ints([axis])], name);
  const target = editor.add(
    'Concat',
    [size('attention_mask', 0, 'bias_b'), editor.ints([1]), size('inputs_embeds', 1, 'bias_n'), size('attention_mask', 1, 'bias_a')],
    'bias_target',
    { attributes: { axis: 0 } },
  );
  return editor.add('Expand', [row, target], 'bias_B1NA');
}
