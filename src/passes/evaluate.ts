/**
 * Evaluates a value of a graph on given inputs, for the few operators that masks, shapes and rotary tables are made of.
 *
 * All element types are held as 64-bit floats; that is exact for masks and sizes, and closer than the graph's own numbers for tables. Unknown operators and inputs are {@link CannotEvaluate}.
 */
import {
  attribute,
  DataType,
  dimsOf,
  externalRange,
  type GraphEditor,
  intAttribute,
  intsAttribute,
  type Node,
  type Tensor,
  tensorValues,
} from '../onnx/index.ts';

export interface Values {
  readonly dims: readonly number[];
  readonly data: Float64Array;
}

/** What is given: inputs whose numbers may be read, and shapes of values whose numbers may not. */
export interface Given {
  readonly values: ReadonlyMap<string, Values>;
  readonly shapes: ReadonlyMap<string, readonly number[]>;
}

/** A value depends on something that is not given, or on an operator this file does not know. The message names it. */
export class CannotEvaluate extends Error {}

export function evaluate(editor: GraphEditor, value: string, given: Given): Values {
  const known = new Map(given.values);
  const resolve = (name: string): Values => {
    const seen = known.get(name);
    if (seen) return seen;
    const made = make(name);
    known.set(name, made);
    return made;
  };
  const make = (name: string): Values => {
    const initializer = editor.initializer(name);
    if (initializer) return constant(initializer);
    const node = editor.producer(name);
    if (!node) throw new CannotEvaluate(`'${name}'`);
    if (node.opType === 'Shape') {
      const shape = given.shapes.get(node.input?.[0] ?? '') ?? resolve(node.input?.[0] ?? '').dims;
      return vector(shape.slice(intAttribute(node, 'start', 0), attribute(node, 'end') ? intAttribute(node, 'end', 0) : undefined));
    }
    const apply = node.domain ? undefined : OPERATORS[node.opType ?? ''];
    if (!apply) throw new CannotEvaluate(`operator ${node.opType}`);
    return apply(
      (node.input ?? []).map((input) => (input ? resolve(input) : undefined)),
      node,
    );
  };
  return resolve(value);
}

type Operator = (inputs: readonly (Values | undefined)[], node: Node) => Values;

const OPERATORS: Readonly<Record<string, Operator>> = {
  Constant: (_, node) => {
    const tensor = attribute(node, 'value')?.t;
    if (!tensor) throw new CannotEvaluate(`constant '${node.name}'`);
    return constant(tensor);
  },
  ConstantOfShape: ([shape], node) => {
    const tensor = attribute(node, 'value')?.t;
    const dims = numbers(shape);
    return { dims, data: new Float64Array(product(dims)).fill(tensor ? (constant(tensor).data[0] ?? 0) : 0) };
  },
  Identity: ([x]) => given(x),
  Cast: ([x], node) => {
    const to = intAttribute(node, 'to', 0);
    const cast = to === DataType.BOOL ? (v: number) => (v === 0 ? 0 : 1) : isInteger(to) ? Math.trunc : (v: number) => v;
    return { dims: given(x).dims, data: given(x).data.map(cast) };
  },
  Not: ([x]) => ({ dims: given(x).dims, data: given(x).data.map((v) => (v === 0 ? 1 : 0)) }),
  Neg: ([x]) => ({ dims: given(x).dims, data: given(x).data.map((v) => -v) }),
  Cos: ([x]) => ({ dims: given(x).dims, data: given(x).data.map(Math.cos) }),
  Sin: ([x]) => ({ dims: given(x).dims, data: given(x).data.map(Math.sin) }),
  Add: pairwise((a, b) => a + b),
  Sub: pairwise((a, b) => a - b),
  // A masked value times 0 is 0 also where the type's lowest number is infinite.
  Mul: pairwise((a, b) => (a === 0 || b === 0 ? 0 : a * b)),
  Min: pairwise(Math.min),
  Max: pairwise(Math.max),
  Equal: pairwise((a, b) => Number(a === b)),
  Less: pairwise((a, b) => Number(a < b)),
  LessOrEqual: pairwise((a, b) => Number(a <= b)),
  Greater: pairwise((a, b) => Number(a > b)),
  GreaterOrEqual: pairwise((a, b) => Number(a >= b)),
  And: pairwise((a, b) => Number(a !== 0 && b !== 0)),
  Or: pairwise((a, b) => Number(a !== 0 || b !== 0)),
  Where: ([test, yes, no]) => {
    const dims = broadcastDims(broadcastDims(given(test).dims, given(yes).dims), given(no).dims);
    const [t, y, n] = [test, yes, no].map((x) => broadcast(given(x), dims)) as [Float64Array, Float64Array, Float64Array];
    return { dims, data: t.map((v, i) => (v !== 0 ? (y[i] as number) : (n[i] as number))) };
  },
  Expand: ([x, shape]) => {
    const dims = broadcastDims(given(x).dims, numbers(shape));
    return { dims, data: broadcast(given(x), dims) };
  },
  Unsqueeze: ([x, axes], node) => {
    const list = axes ? numbers(axes) : (intsAttribute(node, 'axes') ?? []);
    const rank = given(x).dims.length + list.length;
    const added = new Set(list.map((axis) => (axis + rank) % rank));
    const rest = [...given(x).dims];
    return { dims: Array.from({ length: rank }, (_, i) => (added.has(i) ? 1 : (rest.shift() as number))), data: given(x).data };
  },
  Squeeze: ([x, axes]) => {
    const { dims, data } = given(x);
    const dropped = axes && new Set(numbers(axes).map((axis) => (axis + dims.length) % dims.length));
    return { dims: dims.filter((dim, i) => (dropped ? !dropped.has(i) : dim !== 1)), data };
  },
  Transpose: ([x], node) => {
    const { dims, data } = given(x);
    const perm = intsAttribute(node, 'perm') ?? dims.map((_, i) => dims.length - 1 - i);
    const strides = perm.map((axis) => product(dims.slice(axis + 1)));
    const to = perm.map((axis) => dims[axis] as number);
    return { dims: to, data: strided(data, to, strides) };
  },
  ReduceSum: ([x, axes], node) => {
    const { dims, data } = given(x);
    const summed = new Set((axes ? numbers(axes) : dims.map((_, i) => i)).map((axis) => (axis + dims.length) % dims.length));
    const kept = dims.map((dim, axis) => (summed.has(axis) ? 1 : dim));
    const out = new Float64Array(product(kept));
    const places = broadcast({ dims: kept, data: Float64Array.from(out, (_, i) => i) }, dims);
    data.forEach((value, i) => {
      out[places[i] as number] = (out[places[i] as number] as number) + value;
    });
    return { dims: intAttribute(node, 'keepdims', 1) ? kept : dims.filter((_, axis) => !summed.has(axis)), data: out };
  },
  Reshape: ([x, shape]) => {
    const { dims, data } = given(x);
    const wanted = numbers(shape).map((dim, i) => (dim === 0 ? (dims[i] ?? 0) : dim));
    const inferred = data.length / product(wanted.filter((dim) => dim !== -1));
    return { dims: wanted.map((dim) => (dim === -1 ? inferred : dim)), data };
  },
  Concat: (inputs, node) => {
    const parts = inputs.map(given);
    const first = parts[0] as Values;
    const axis = (intAttribute(node, 'axis', 0) + first.dims.length) % first.dims.length;
    const outer = product(first.dims.slice(0, axis));
    const data = new Float64Array(parts.reduce((sum, part) => sum + part.data.length, 0));
    let at = 0;
    for (let o = 0; o < outer; o++) {
      for (const part of parts) {
        const size = part.data.length / outer;
        data.set(part.data.subarray(o * size, (o + 1) * size), at);
        at += size;
      }
    }
    const length = parts.reduce((sum, part) => sum + (part.dims[axis] as number), 0);
    return { dims: first.dims.map((dim, i) => (i === axis ? length : dim)), data };
  },
  Gather: ([x, indices], node) => {
    const axis = (intAttribute(node, 'axis', 0) + given(x).dims.length) % given(x).dims.length;
    const taken = take(given(x), axis, numbers(indices));
    return { dims: [...taken.dims.slice(0, axis), ...given(indices).dims, ...taken.dims.slice(axis + 1)], data: taken.data };
  },
  Slice: ([x, starts, ends, axes, steps]) => {
    let out = given(x);
    for (const [i, start] of numbers(starts).entries()) {
      const axis = ((axes?.data[i] ?? i) + out.dims.length) % out.dims.length;
      if ((steps?.data[i] ?? 1) !== 1) throw new CannotEvaluate('Slice with steps');
      const length = out.dims[axis] as number;
      const clamp = (at: number): number => Math.min(length, Math.max(0, at < 0 ? at + length : at));
      const [from, to] = [clamp(start), clamp(numbers(ends)[i] as number)];
      out = take(
        out,
        axis,
        Array.from({ length: Math.max(0, to - from) }, (_, k) => from + k),
      );
    }
    return out;
  },
  Range: ([start, limit, delta]) => {
    const [from, to, step] = [start, limit, delta].map((x) => given(x).data[0] as number) as [number, number, number];
    return vector(Array.from({ length: Math.max(0, Math.ceil((to - from) / step)) }, (_, i) => from + i * step));
  },
  CumSum: ([x, axis], node) => {
    const { dims, data } = given(x);
    if (intAttribute(node, 'exclusive', 0) || intAttribute(node, 'reverse', 0)) throw new CannotEvaluate('CumSum with attributes');
    const at = ((axis?.data[0] ?? 0) + dims.length) % dims.length;
    const inner = product(dims.slice(at + 1));
    const out = data.slice();
    for (let i = inner; i < out.length; i++)
      if (Math.floor(i / inner) % (dims[at] as number) !== 0) out[i] = (out[i] as number) + (out[i - inner] as number);
    return { dims, data: out };
  },
  Trilu: ([x, diagonal], node) => {
    const { dims, data } = given(x);
    const [rows, columns] = dims.slice(-2) as [number, number];
    const k = diagonal?.data[0] ?? 0;
    const upper = intAttribute(node, 'upper', 1) === 1;
    const keeps = (i: number): boolean => {
      const past = (i % columns) - (Math.floor(i / columns) % rows) - k;
      return upper ? past >= 0 : past <= 0;
    };
    return { dims, data: data.map((v, i) => (keeps(i) ? v : 0)) };
  },
};

function constant(tensor: Tensor): Values {
  if (externalRange(tensor)) throw new CannotEvaluate(`'${tensor.name}', whose numbers are not in the graph`);
  try {
    return { dims: dimsOf(tensor), data: Float64Array.from(tensorValues(tensor)) };
  } catch (cause) {
    throw new CannotEvaluate(`'${tensor.name}', whose element type ${tensor.dataType} is not known`, { cause });
  }
}

function given(x: Values | undefined): Values {
  if (!x) throw new CannotEvaluate('an absent input');
  return x;
}

const numbers = (x: Values | undefined): number[] => [...given(x).data];
const vector = (list: readonly number[]): Values => ({ dims: [list.length], data: Float64Array.from(list) });
const product = (dims: readonly number[]): number => dims.reduce((a, b) => a * b, 1);
const isInteger = (type: number): boolean => [DataType.INT8, DataType.UINT8, DataType.INT32, DataType.INT64].includes(type);

function pairwise(compute: (a: number, b: number) => number): Operator {
  return ([a, b]) => {
    const dims = broadcastDims(given(a).dims, given(b).dims);
    const right = broadcast(given(b), dims);
    return { dims, data: broadcast(given(a), dims).map((value, i) => compute(value, right[i] as number)) };
  };
}

function broadcastDims(a: readonly number[], b: readonly number[]): number[] {
  const rank = Math.max(a.length, b.length);
  const at = (dims: readonly number[], i: number): number => dims[i - rank + dims.length] ?? 1;
  return Array.from({ length: rank }, (_, i) => (at(a, i) === 1 ? at(b, i) : at(a, i)));
}

function broadcast({ dims, data }: Values, to: readonly number[]): Float64Array {
  if (data.length === product(to)) return data.slice();
  const strides = to.map((_, i) => {
    const own = i - to.length + dims.length;
    return own < 0 || dims[own] === 1 ? 0 : product(dims.slice(own + 1));
  });
  return strided(data, to, strides);
}

/** An array of dimensions `to` whose element [i, j, ..] is `data` at i·strides[0] + j·strides[1] + .. */
function strided(data: Float64Array, to: readonly number[], strides: readonly number[]): Float64Array {
  return Float64Array.from({ length: product(to) }, (_, flat) => {
    let at = 0;
    for (let i = to.length - 1, rest = flat; i >= 0; i--) {
      at += (rest % (to[i] as number)) * (strides[i] as number);
      rest = Math.floor(rest / (to[i] as number));
    }
    return data[at] as number;
  });
}

/** The entries `indices` of one axis. */
function take({ dims, data }: Values, axis: number, indices: readonly number[]): Values {
  const length = dims[axis] as number;
  const inner = product(dims.slice(axis + 1));
  const outer = product(dims.slice(0, axis));
  const out = new Float64Array(outer * indices.length * inner);
  for (let o = 0; o < outer; o++) {
    for (const [i, index] of indices.entries()) {
      const from = (o * length + ((index + length) % length)) * inner;
      out.set(data.subarray(from, from + inner), (o * indices.length + i) * inner);
    }
  }
  return { dims: dims.map((dim, i) => (i === axis ? indices.length : dim)), data: out };
}
