/** With how many new tokens it is cheaper to score packed keys by axes than to rebuild and turn them: the choice `m-rope` makes in each step. */
import type { ModelShape } from '../shape.ts';
import type { AxisTables } from './axis-tables.ts';

/**
 * Costs in multiply-adds of a large product: those of products of few rows, numbers moved (gathered, turned, written), and the nodes that are more.
 * Fitted to 14 contexts of 256 to 4096 tokens on x86 with AVX-512, ONNX Runtime's CPU provider, one thread, where such a product takes 0.022 ns. Only
 * their ratios matter; a wrong one costs time, never exactness.
 */
const COST = { smallProduct: 1.5, move: 26, nodes: 2.2e6 } as const;

/** With 16 new tokens, keys rebuilt were cheaper in every context measured, and what is projected takes memory with each of them. */
const MOST_EVER = 8;

/** What is packed. */
export interface PackedExtents {
  /** B·M */
  readonly segments: number;
  /** T */
  readonly tokens: number;
  /** Rank of keys of each layer. */
  readonly ranks: readonly number[];
}

/** The most new tokens for which scores by axes are cheaper, all layers together; 0 if they never are. */
export function mostNewByAxes(
  { layers, axisColumns = [] }: ModelShape,
  tables: AxisTables,
  { segments, tokens, ranks }: PackedExtents,
): number {
  if (!segments || !tokens) return 0;
  const { smallProduct, move, nodes } = COST;
  const all = segments * tokens;
  const places = tables.positions.map(({ length }) => length);
  const sum = (of: (axis: number) => number): number => places.reduce((total, _, axis) => total + of(axis), 0);
  const numPlaces = sum((axis) => places[axis] as number);
  const numTurned = sum((axis) => (places[axis] as number) * (axisColumns[axis]?.length ?? 0));
  const numTokens = tables.lines.tokens.length + tables.columns.tokens.length;
  // Each axis' u is gathered for each line or column, and those of a line are added.
  const numGathered = 2 * tables.lines.places.length + tables.columns.places.length;
  const [once, perNew] = layers.reduce(
    ([once, perNew], { numHeads, numKvHeads, headDim }, l) => {
      const rank = ranks[l] ?? 0;
      const width = numKvHeads * headDim;
      const rebuilt = all * width * (rank + move);
      const perRebuilt = numHeads * all * headDim * smallProduct;
      const gathered = numTokens * rank * move + segments * width * rank * move + nodes;
      const projected = numHeads * (numTurned * (rank + 2 * move) + (numPlaces + numGathered) * rank * move);
      const scored = numHeads * (numTokens * rank * smallProduct + 3 * all * move);
      return [once + rebuilt - gathered, perNew + projected + scored - perRebuilt];
    },
    [0, 0],
  );
  if (once <= 0) return 0;
  return perNew <= 0 ? MOST_EVER : Math.min(MOST_EVER, Math.floor(once / perNew));
}
