/** Reads and edits one graph: who makes a value, who uses it, fresh names, new nodes, dead nodes, order. Knows nothing of attention. */
import { assert } from '../errors.ts';
import { type AttributeValue, makeAttribute } from './attribute.ts';
import { DataType, type Dimension, type Graph, type Model, type Node, type Tensor, type ValueInfo } from './proto.ts';
import { floatTensor, int64Tensor } from './tensor.ts';
import { graphs, subgraphs } from './visit.ts';

/** A dimension: a number, or the name of a symbol. */
export type Dim = number | string;

export interface NodeOptions {
  /** Operator domain; the default is ONNX's own. Contrib operators are in `com.microsoft`. */
  readonly domain?: string;
  readonly attributes?: Readonly<Record<string, AttributeValue | undefined>>;
  /** Name of the node; default: a fresh one made from the first output's name. */
  readonly name?: string;
}

/**
 * An editor of one graph, in place. New nodes are appended; call {@link sort} when done.
 *
 * Values are strings, as in ONNX; the empty string is an absent optional input or output.
 */
export class GraphEditor {
  readonly graph: Graph;
  readonly #names: Set<string>;
  readonly #constants = new Map<string, string>();

  constructor(graph: Graph) {
    this.graph = graph;
    this.#names = namesIn(graph);
  }

  get nodes(): Node[] {
    return (this.graph.node ??= []);
  }

  /** A name that no value or node of this graph or its subgraphs has: `wanted` itself if it is free. */
  fresh(wanted: string): string {
    let name = wanted;
    for (let n = 1; this.#names.has(name); n++) name = `${wanted}_${n}`;
    this.#names.add(name);
    return name;
  }

  /** The node of this graph that makes `value`; undefined for inputs, initialisers and values of an outer graph. */
  producer(value: string): Node | undefined {
    return this.nodes.find((node) => node.output?.includes(value));
  }

  /** Nodes that read `value`, also from inside their subgraphs. */
  consumers(value: string): Node[] {
    return this.nodes.filter((node) => node.input?.includes(value) || subgraphs(node).some((body) => reads(body, value)));
  }

  initializer(name: string): Tensor | undefined {
    return this.graph.initializer?.find((tensor) => tensor.name === name);
  }

  input(name: string): ValueInfo | undefined {
    return this.graph.input?.find((input) => input.name === name);
  }

  output(name: string): ValueInfo | undefined {
    return this.graph.output?.find((output) => output.name === name);
  }

  /** What is known of a value from inputs, outputs and value_info. */
  valueInfo(name: string): ValueInfo | undefined {
    return this.input(name) ?? this.output(name) ?? this.graph.valueInfo?.find((info) => info.name === name);
  }

  /** Appends a node with one output and returns the output's (fresh) name, made from `wanted`. */
  add(op: string, inputs: readonly string[], wanted: string, options: NodeOptions = {}): string {
    return this.addMany(op, inputs, [wanted], options)[0] as string;
  }

  /** Appends a node with several outputs; an empty wanted name leaves that output out. */
  addMany(op: string, inputs: readonly string[], wanted: readonly string[], options: NodeOptions = {}): string[] {
    const output = wanted.map((name) => (name ? this.fresh(name) : ''));
    this.append(op, inputs, output, options);
    return output;
  }

  /** Appends a node whose output names are given and already right (graph outputs, replaced values). */
  append(op: string, inputs: readonly string[], output: readonly string[], options: NodeOptions = {}): Node {
    const attribute = Object.entries(options.attributes ?? {}).flatMap(([name, value]) =>
      value === undefined ? [] : [makeAttribute(name, value)],
    );
    const node: Node = {
      opType: op,
      name: this.fresh(options.name ?? `${output.find(Boolean)}/${op}`),
      input: [...inputs],
      output: [...output],
    };
    if (options.domain) node.domain = options.domain;
    if (attribute.length) node.attribute = attribute;
    this.nodes.push(node);
    return node;
  }

  addInitializer(tensor: Tensor): string {
    assert(tensor.name, 'an initialiser needs a name');
    this.#names.add(tensor.name);
    (this.graph.initializer ??= []).push(tensor);
    return tensor.name;
  }

  /** A constant int64 vector (or scalar, for a plain number), shared by all who ask for the same one. */
  ints(values: number | readonly number[]): string {
    const list = typeof values === 'number' ? [values] : values;
    const key = `const_i64_${typeof values === 'number' ? 'scalar_' : ''}${list.join('_').replaceAll('-', 'm')}`;
    return this.#constant(key, (name) => int64Tensor(name, typeof values === 'number' ? [] : [list.length], list));
  }

  /** A constant float scalar in the given type, shared. */
  scalar(value: number, type: DataType = DataType.FLOAT): string {
    const digits = Object.is(value, -0) ? '-0' : String(value);
    const key = `const_${type === DataType.FLOAT16 ? 'f16' : 'f32'}_${digits.replaceAll('-', 'm')}`;
    return this.#constant(key, (name) => floatTensor(name, [], [value], type));
  }

  #constant(key: string, make: (name: string) => Tensor): string {
    const known = this.#constants.get(key);
    if (known) return known;
    const name = this.addInitializer(make(this.fresh(key)));
    this.#constants.set(key, name);
    return name;
  }

  addInput(name: string, type: DataType, dims: readonly Dim[]): string {
    this.#names.add(name);
    (this.graph.input ??= []).push(valueInfo(name, type, dims));
    return name;
  }

  addOutput(name: string, type: DataType, dims: readonly Dim[]): string {
    this.#names.add(name);
    (this.graph.output ??= []).push(valueInfo(name, type, dims));
    return name;
  }

  /** Declares another element type for an input. */
  setElementType(input: string, type: DataType): void {
    const tensor = this.input(input)?.type?.tensorType;
    assert(tensor, `'${input}' is not an input of a tensor type`);
    tensor.elemType = type;
  }

  removeInput(name: string): void {
    this.graph.input = this.graph.input?.filter((input) => input.name !== name);
  }

  removeOutput(name: string): void {
    this.graph.output = this.graph.output?.filter((output) => output.name !== name);
  }

  removeNode(node: Node): void {
    this.graph.node = this.nodes.filter((candidate) => candidate !== node);
  }

  /** Makes every reader of `from`, in subgraphs too, read `to` instead. Graph outputs keep their names. */
  replaceUses(from: string, to: string): void {
    for (const graph of graphs(this.graph)) {
      for (const node of graph.node ?? []) node.input = node.input?.map((input) => (input === from ? to : input));
    }
  }

  /** Removes nodes and initialisers that no output needs; a value read only inside a subgraph counts as needed. */
  removeDead(): number {
    const before = this.nodes.length;
    const producers = new Map(this.nodes.flatMap((node) => (node.output ?? []).filter(Boolean).map((output) => [output, node] as const)));
    const live = new Set<Node>();
    const needed = new Set<string>();
    const queue = (this.graph.output ?? []).map((output) => output.name ?? '');
    while (queue.length) {
      const value = queue.pop() as string;
      if (needed.has(value)) continue;
      needed.add(value);
      const node = producers.get(value);
      if (!node || live.has(node)) continue;
      live.add(node);
      queue.push(...(node.input ?? []), ...subgraphs(node).flatMap(captured));
    }
    this.graph.node = this.nodes.filter((node) => live.has(node));
    this.graph.initializer = this.graph.initializer?.filter((tensor) => needed.has(tensor.name ?? ''));
    this.graph.valueInfo = this.graph.valueInfo?.filter((info) => needed.has(info.name ?? ''));
    return before - this.nodes.length;
  }

  /** Puts the nodes into an order in which every value is made before it is read; otherwise keeps their order. */
  sort(): void {
    const producers = new Map(this.nodes.flatMap((node) => (node.output ?? []).filter(Boolean).map((output) => [output, node] as const)));
    const sorted: Node[] = [];
    const state = new Map<Node, 'open' | 'done'>();
    for (const root of this.nodes) {
      const stack = [root];
      while (stack.length) {
        const node = stack[stack.length - 1] as Node;
        if (state.get(node) === 'done') {
          stack.pop();
          continue;
        }
        const first = !state.has(node);
        state.set(node, 'open');
        const waiting = [...(node.input ?? []), ...subgraphs(node).flatMap(captured)]
          .map((value) => producers.get(value))
          .filter((producer): producer is Node => producer !== undefined && producer !== node && state.get(producer) !== 'done');
        if (waiting.length && first) stack.push(...waiting.reverse());
        else {
          assert(!waiting.length, `the graph has a cycle through node '${node.name}'`);
          state.set(node, 'done');
          sorted.push(node);
          stack.pop();
        }
      }
    }
    this.graph.node = sorted;
  }
}

/** Values a subgraph takes from the graphs around it. */
function captured(body: Graph): string[] {
  const made = new Set([
    ...(body.input ?? []).map((input) => input.name ?? ''),
    ...(body.initializer ?? []).map((tensor) => tensor.name ?? ''),
    ...(body.sparseInitializer ?? []).map((tensor) => tensor.values?.name ?? ''),
    ...(body.node ?? []).flatMap((node) => node.output ?? []),
  ]);
  const read = [
    ...(body.output ?? []).map((output) => output.name ?? ''),
    ...(body.node ?? []).flatMap((node) => [...(node.input ?? []), ...subgraphs(node).flatMap(captured)]),
  ];
  return read.filter((value) => value && !made.has(value));
}

function reads(body: Graph, value: string): boolean {
  return captured(body).includes(value);
}

function namesIn(graph: Graph): Set<string> {
  const names = new Set<string>();
  for (const g of graphs(graph)) {
    const sparse = (g.sparseInitializer ?? []).map((tensor) => tensor.values ?? {});
    for (const list of [g.input, g.output, g.initializer, g.valueInfo, sparse])
      for (const { name } of list ?? []) if (name) names.add(name);
    for (const node of g.node ?? [])
      for (const name of [node.name, ...(node.input ?? []), ...(node.output ?? [])]) if (name) names.add(name);
  }
  return names;
}

export function valueInfo(name: string, type: DataType, dims: readonly Dim[]): ValueInfo {
  const dim: Dimension[] = dims.map((d) => (typeof d === 'number' ? { dimValue: d } : { dimParam: d }));
  return { name, type: { tensorType: { elemType: type, shape: { dim } } } };
}

/** Dimensions of a value: numbers, symbols, or '' where nothing is said. Undefined where the shape is unknown. */
export function dimsOfValue(info: ValueInfo | undefined): Dim[] | undefined {
  return info?.type?.tensorType?.shape?.dim?.map((dim) =>
    dim.dimValue != null && dim.dimParam == null ? Number(dim.dimValue) : (dim.dimParam ?? ''),
  );
}

export function elementType(info: ValueInfo | undefined): DataType | undefined {
  return (info?.type?.tensorType?.elemType ?? undefined) as DataType | undefined;
}

/** Declares that the model uses a domain, at `version` or the higher one it already has. */
export function importOpset(model: Model, domain: string, version: number): void {
  const known = (model.opsetImport ??= []).find((entry) => (entry.domain ?? '') === domain);
  if (known) known.version = Math.max(Number(known.version ?? 0), version);
  else model.opsetImport.push({ domain, version });
}
