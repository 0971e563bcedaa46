/** The graph editor: names, uses, dead nodes and order, with subgraphs that read values of the graph around them. */
import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import {
  DataType,
  dimsOfValue,
  elementType,
  float,
  floatTensor,
  type Graph,
  GraphEditor,
  graphs,
  importOpset,
  type Model,
  type Node,
  subgraphs,
  tensorValues,
  valueInfo,
} from '../../src/onnx/index.ts';

/** x -> a; If(condition) { then: a + w } else { x } -> y; besides, dead: x -> d. Only the branch reads a and w. */
function branching(): Graph {
  const body = (name: string, nodes: Node[], output: string): Graph => ({
    name,
    node: nodes,
    output: [valueInfo(output, DataType.FLOAT, [2])],
  });
  return {
    name: 'main',
    input: [valueInfo('x', DataType.FLOAT, [2]), valueInfo('condition', DataType.BOOL, [])],
    output: [valueInfo('y', DataType.FLOAT, [2])],
    initializer: [floatTensor('w', [2], [1, 2]), floatTensor('unused', [1], [0])],
    valueInfo: [valueInfo('a', DataType.FLOAT, [2]), valueInfo('d', DataType.FLOAT, [2])],
    node: [
      { opType: 'Relu', name: 'relu', input: ['x'], output: ['a'] },
      { opType: 'Neg', name: 'dead', input: ['x'], output: ['d'] },
      {
        opType: 'If',
        name: 'choose',
        input: ['condition'],
        output: ['y'],
        attribute: [
          {
            name: 'then_branch',
            type: 5,
            g: body('then', [{ opType: 'Add', name: 'inner', input: ['a', 'w'], output: ['then_y'] }], 'then_y'),
          },
          { name: 'else_branch', type: 5, g: body('else', [{ opType: 'Identity', input: ['x'], output: ['else_y'] }], 'else_y') },
        ],
      },
    ],
  };
}

let graph: Graph;
let editor: GraphEditor;
beforeEach(() => {
  graph = branching();
  editor = new GraphEditor(graph);
});

const names = (nodes: readonly Node[]): (string | null | undefined)[] => nodes.map((node) => node.name);

describe('fresh names', () => {
  it('are those wanted where nobody has them, and differ from all others, in subgraphs too', () => {
    expect(editor.fresh('b')).toBe('b');
    for (const taken of ['x', 'y', 'w', 'a', 'relu', 'then_y', 'inner', 'b']) expect(editor.fresh(taken)).toBe(`${taken}_1`);
    expect(editor.fresh('b')).toBe('b_2');
  });

  it('are never given twice, whatever is asked for and added', () => {
    fc.assert(
      fc.property(fc.array(fc.constantFrom('a', 'a_1', 'b', 'x', 'const_i64_1'), { maxLength: 30 }), (wanted) => {
        const edited = new GraphEditor(branching());
        edited.ints([1]);
        const outputs = wanted.map((name) => edited.add('Relu', ['x'], name));
        const nodeNames = edited.nodes.map((node) => node.name).filter((name) => name !== undefined);
        expect(new Set(outputs).size).toBe(outputs.length);
        expect(new Set(nodeNames).size).toBe(nodeNames.length);
      }),
      { seed: 2 },
    );
  });
});

describe('nodes', () => {
  it('are found by what they make and by what they or their subgraphs read', () => {
    expect(editor.producer('a')?.name).toBe('relu');
    expect(editor.producer('x')).toBeUndefined();
    expect(names(editor.consumers('x'))).toEqual(['relu', 'dead', 'choose']);
    expect(names(editor.consumers('a'))).toEqual(['choose']);
    expect(names(editor.consumers('then_y'))).toEqual([]);
  });

  it('are added with attributes, a domain, absent outputs, and a name of their own', () => {
    const [first, none, third] = editor.addMany('Split', ['x', ''], ['p', '', 'p'], {
      domain: 'com.microsoft',
      attributes: { axis: 1, scale: float(2), left_out: undefined },
    });
    expect([first, none, third]).toEqual(['p', '', 'p_1']);
    const node = editor.producer('p') as Node;
    expect(node).toMatchObject({ opType: 'Split', domain: 'com.microsoft', name: 'p/Split', input: ['x', ''] });
    expect(node.attribute?.map((attribute) => attribute.name)).toEqual(['axis', 'scale']);
  });
});

describe('replaceUses', () => {
  it('reaches into subgraphs and leaves producers and outputs alone', () => {
    editor.replaceUses('a', 'x');
    const then = subgraphs(editor.producer('y') as Node)[0];
    expect(then?.node?.[0]?.input).toEqual(['x', 'w']);
    expect(editor.producer('a')?.output).toEqual(['a']);
    editor.replaceUses('y', 'x');
    expect(editor.output('y')?.name).toBe('y');
  });
});

describe('removeDead', () => {
  it('keeps what only a subgraph reads, and removes the rest: nodes, initialisers, value infos', () => {
    expect(editor.removeDead()).toBe(1);
    expect(names(editor.nodes)).toEqual(['relu', 'choose']);
    expect(graph.initializer?.map((tensor) => tensor.name)).toEqual(['w']);
    expect(graph.valueInfo?.map((info) => info.name)).toEqual(['a']);
  });

  it('keeps what a subgraph of a subgraph reads', () => {
    const inner: Graph = {
      node: [{ opType: 'Add', input: ['a', 'w'], output: ['deep'] }],
      output: [valueInfo('deep', DataType.FLOAT, [2])],
    };
    const outer: Graph = {
      node: [{ opType: 'If', input: ['condition'], output: ['middle'], attribute: [{ name: 'then_branch', type: 5, g: inner }] }],
      output: [valueInfo('middle', DataType.FLOAT, [2])],
    };
    (editor.producer('y') as Node).attribute = [{ name: 'then_branch', type: 5, g: outer }];
    editor.removeDead();
    expect(names(editor.nodes)).toEqual(['relu', 'choose']);
    expect(editor.initializer('w')).toBeDefined();
  });

  it('does not mistake a value that a subgraph makes itself for one around it', () => {
    const own: Graph = { node: [{ opType: 'Neg', input: ['x'], output: ['d'] }], output: [valueInfo('d', DataType.FLOAT, [2])] };
    (editor.producer('y') as Node).attribute = [{ name: 'then_branch', type: 5, g: own }];
    editor.removeDead();
    expect(names(editor.nodes)).toEqual(['choose']);
  });

  it('of a graph that needs everything removes nothing, twice', () => {
    editor.removeDead();
    const before = structuredClone(graph);
    expect(editor.removeDead()).toBe(0);
    expect(graph).toEqual(before);
  });
});

describe('sort', () => {
  /** A random graph without cycles: node i reads outputs of earlier nodes, some from inside a subgraph. */
  const acyclic = fc
    .array(fc.record({ reads: fc.array(fc.nat(), { maxLength: 3 }), inside: fc.boolean() }), { minLength: 1, maxLength: 25 })
    .map((list) =>
      list.map(({ reads, inside }, i): Node => {
        const input = ['x', ...(i > 0 ? reads.map((read) => `v${read % i}`) : [])];
        const output = [`v${i}`];
        if (!inside) return { opType: 'Sum', name: `n${i}`, input, output };
        const body: Graph = {
          node: [{ opType: 'Sum', input, output: [`inner${i}`] }],
          output: [valueInfo(`inner${i}`, DataType.FLOAT, [])],
        };
        return { opType: 'If', name: `n${i}`, input: ['condition'], output, attribute: [{ name: 'then_branch', type: 5, g: body }] };
      }),
    );

  function expectOrdered(nodes: readonly Node[]): void {
    const made = new Set(['x', 'condition']);
    for (const node of nodes) {
      const read = [...(node.input ?? []), ...subgraphs(node).flatMap((body) => body.node?.flatMap((inner) => inner.input ?? []) ?? [])];
      for (const value of read) expect(made.has(value), `${node.name} reads ${value}`).toBe(true);
      for (const output of node.output ?? []) made.add(output);
    }
  }

  it('brings any shuffle of a graph into an order in which every value is made before it is read', () => {
    const shuffled = acyclic.chain((nodes) => fc.shuffledSubarray(nodes, { minLength: nodes.length, maxLength: nodes.length }));
    fc.assert(
      fc.property(shuffled, (nodes) => {
        const sorted: Graph = { node: [...nodes] };
        new GraphEditor(sorted).sort();
        expect(new Set(sorted.node)).toEqual(new Set(nodes));
        expect(sorted.node?.length).toBe(nodes.length);
        expectOrdered(sorted.node ?? []);
      }),
      { seed: 8 },
    );
  });

  it('leaves a graph alone that is in order', () => {
    fc.assert(
      fc.property(acyclic, (nodes) => {
        const sorted: Graph = { node: [...nodes] };
        new GraphEditor(sorted).sort();
        expect(sorted.node).toEqual(nodes);
      }),
      { seed: 9 },
    );
  });

  it('sorts a chain of twenty thousand nodes given backwards', () => {
    const nodes = Array.from(
      { length: 20_000 },
      (_, i): Node => ({ opType: 'Neg', name: `n${i}`, input: [i ? `v${i - 1}` : 'x'], output: [`v${i}`] }),
    );
    const sorted: Graph = { node: nodes.toReversed() };
    new GraphEditor(sorted).sort();
    expect(names(sorted.node ?? [])).toEqual(names(nodes));
  });

  it('names a node of a cycle', () => {
    const cyclic: Graph = {
      node: [
        { opType: 'Neg', name: 'first', input: ['b'], output: ['a'] },
        { opType: 'Neg', name: 'second', input: ['a'], output: ['b'] },
      ],
    };
    expect(() => new GraphEditor(cyclic).sort()).toThrow(/cycle through node '(first|second)'/);
  });
});

describe('constants', () => {
  it('are shared by all who ask for the same one, and only by them', () => {
    const asked = [
      editor.ints([1, 2]),
      editor.ints([12]),
      editor.ints(1),
      editor.ints([1]),
      editor.ints([-1]),
      editor.scalar(0),
      editor.scalar(-0),
    ];
    asked.push(editor.scalar(1), editor.scalar(1, DataType.FLOAT16), editor.ints([]));
    expect(new Set(asked).size).toBe(asked.length);
    const count = graph.initializer?.length;
    expect([editor.ints([1, 2]), editor.scalar(1, DataType.FLOAT16)]).toEqual([asked[0], asked[8]]);
    expect(graph.initializer?.length).toBe(count);
    expect(editor.initializer(asked[2] as string)?.dims).toEqual([]);
    expect(editor.initializer(asked[4] as string)?.dims).toEqual([1]);
    expect(Object.is(tensorValues(editor.initializer(asked[6] as string) ?? {})[0], -0)).toBe(true);
  });
});

describe('inputs and outputs', () => {
  it('are added with their type and shape, found, and removed', () => {
    editor.addInput('past', DataType.FLOAT16, ['B', 4, 'S']);
    editor.addOutput('present', DataType.INT64, []);
    expect(dimsOfValue(editor.input('past'))).toEqual(['B', 4, 'S']);
    expect(elementType(editor.valueInfo('past'))).toBe(DataType.FLOAT16);
    expect(dimsOfValue(editor.output('present'))).toEqual([]);
    expect(editor.fresh('past')).toBe('past_1');
    editor.removeInput('past');
    editor.removeOutput('present');
    expect([editor.input('past'), editor.output('present')]).toEqual([undefined, undefined]);
    expect([dimsOfValue(undefined), elementType(undefined)]).toEqual([undefined, undefined]);
  });
});

it('importOpset adds a domain once and never lowers its version', () => {
  const model: Model = { opsetImport: [{ version: 21 }] };
  importOpset(model, '', 17);
  importOpset(model, 'com.microsoft', 1);
  importOpset(model, 'com.microsoft', 1);
  expect(model.opsetImport?.map((entry) => [entry.domain ?? '', Number(entry.version)])).toEqual([
    ['', 21],
    ['com.microsoft', 1],
  ]);
});

it('graphs visits the graph and the bodies of its nodes, depth first', () => {
  expect([...graphs(graph)].map((each) => each.name)).toEqual(['main', 'then', 'else']);
});
