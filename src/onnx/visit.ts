/** Visits every graph, node and tensor of a model, subgraphs and functions included. */
import type { Attribute, Graph, Model, Node, Tensor } from './proto.ts';

/** The graph itself, then the bodies of its If, Loop and Scan nodes, depth first. */
export function* graphs(graph: Graph): Generator<Graph> {
  yield graph;
  for (const node of graph.node ?? []) {
    for (const subgraph of subgraphs(node)) yield* graphs(subgraph);
  }
}

/** The graphs among a node's attributes. */
export function subgraphs(node: Node): Graph[] {
  return (node.attribute ?? []).flatMap((attribute) => [...(attribute.g ? [attribute.g] : []), ...(attribute.graphs ?? [])]);
}

export function eachTensor(model: Model, visit: (tensor: Tensor) => void): void {
  const attributes = (list: Attribute[] | null | undefined): void => {
    for (const attribute of list ?? []) {
      if (attribute.t) visit(attribute.t);
      for (const tensor of attribute.tensors ?? []) visit(tensor);
      for (const sparse of [...(attribute.sparseTensor ? [attribute.sparseTensor] : []), ...(attribute.sparseTensors ?? [])]) {
        if (sparse.values) visit(sparse.values);
        if (sparse.indices) visit(sparse.indices);
      }
    }
  };
  const roots = [model.graph, ...(model.trainingInfo ?? []).flatMap((info) => [info.initialization, info.algorithm])];
  for (const root of roots) {
    if (!root) continue;
    for (const graph of graphs(root)) {
      for (const tensor of graph.initializer ?? []) visit(tensor);
      for (const sparse of graph.sparseInitializer ?? []) {
        if (sparse.values) visit(sparse.values);
        if (sparse.indices) visit(sparse.indices);
      }
      for (const node of graph.node ?? []) attributes(node.attribute);
    }
  }
  for (const fn of model.functions ?? []) {
    attributes(fn.attributeProto);
    for (const node of fn.node ?? []) {
      attributes(node.attribute);
      for (const body of subgraphs(node)) eachTensor({ graph: body }, visit);
    }
  }
}
