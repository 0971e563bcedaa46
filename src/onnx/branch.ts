/** Builds an If node: nodes of its branches are added like any others, and may read what the graph around them has. */
import { GraphEditor, valueInfo } from './graph.ts';
import type { DataType, Graph, Tensor } from './proto.ts';

/** Edits one branch. Names are fresh in the whole graph, and constants are the outer graph's. */
class BranchEditor extends GraphEditor {
  readonly #outer: GraphEditor;

  constructor(graph: Graph, outer: GraphEditor) {
    super(graph);
    this.#outer = outer;
  }

  override fresh(wanted: string): string {
    return this.#outer.fresh(wanted);
  }

  override initializer(name: string): Tensor | undefined {
    return this.#outer.initializer(name);
  }

  override ints(values: number | readonly number[]): string {
    return this.#outer.ints(values);
  }

  override scalar(value: number, type?: DataType): string {
    return this.#outer.scalar(value, type);
  }
}

/** Adds a branch's nodes with the editor given and returns the values it gives, in the order of the wanted names. */
export type BuildBranch = (editor: GraphEditor) => readonly string[];

/** A value of an If node: its wanted name, type and number of dimensions. */
export interface Choice {
  readonly wanted: string;
  readonly type: DataType;
  readonly rank: number;
}

/** Appends an If node. `condition` is a bool of one element. */
export function choose(
  editor: GraphEditor,
  condition: string,
  choices: readonly Choice[],
  branches: { readonly yes: BuildBranch; readonly no: BuildBranch },
): string[] {
  const built = (name: string, build: BuildBranch): Graph => {
    const graph: Graph = { name: editor.fresh(`${choices[0]?.wanted}/${name}`), node: [] };
    const values = build(new BranchEditor(graph, editor));
    graph.output = values.map((value, i) => {
      const { type = 1, rank = 0 } = choices[i] ?? {};
      return valueInfo(
        value,
        type,
        Array.from({ length: rank }, (_, axis) => `${value}_${axis}`),
      );
    });
    return graph;
  };
  return editor.addMany(
    'If',
    [condition],
    choices.map(({ wanted }) => wanted),
    { attributes: { then_branch: { graph: built('yes', branches.yes) }, else_branch: { graph: built('no', branches.no) } } },
  );
}
