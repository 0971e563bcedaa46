/** A cache's contents as the inputs of a packed decoder; see `contract.ts`. */
import {
  axisName,
  basisName,
  basisWidthsName,
  COLUMN_PLACES,
  COLUMN_TOKENS,
  codesName,
  codeWidthsName,
  LINE_PLACES,
  LINE_TOKENS,
  leadName,
  leadRankName,
  MOST_NEW,
  orderName,
  PACKED_ORDER,
  PACKED_POSITIONS,
  PACKED_SLOTS,
  type Side,
  stepRows,
  stepsName,
  WINDOW_SLOTS,
  windowName,
} from '../contract.ts';
import type { Metric } from '../encode/weighted.ts';
import { Tensor } from '../ort.ts';
import { type BasisType, type CodeType, type ModelShape, packsRawKeys, type RotaryMode } from '../shape.ts';
import type { AxisTables } from './axis-tables.ts';
import { mostNewByAxes } from './by-axes.ts';
import { basisRows, type CodeArray, codeLength } from './format.ts';
import type { PackedPart } from './packed.ts';
import type { PackedSide } from './side.ts';
import type { Tiers } from './tiers.ts';
import type { DenseWindow, WindowArray } from './window.ts';

/** How the decoder that reads a cache was rewritten. */
export interface PackedGraph {
  readonly shape: ModelShape;
  readonly rotary: RotaryMode;
  readonly codes: CodeType;
  readonly basis: BasisType;
  /** Whether it tells how much attention each token got. Default false. */
  readonly mass?: boolean;
  /** Whether it reads packed tokens in tiers. Default false. */
  readonly tiered?: boolean;
  /** Whether it tells the second moments of its queries. Default false. */
  readonly queryMoments?: boolean;
  /** What errors of keys cost, by layer, where the model has query moments. */
  readonly metrics?: readonly Metric[] | undefined;
  /** Whether the provider runs tensors without elements; if not, one masked row stands for none. */
  readonly emptyTensors: boolean;
}

/** Numbers kept of each packed token's position: none is read in `post-rope`, and one is kept. */
export function positionAxes({ rotary, shape }: Pick<PackedGraph, 'rotary' | 'shape'>): number {
  return packsRawKeys(rotary) ? (shape.positionAxes ?? 1) : 1;
}

/** Tensors that view the buffers of window and packed part. They stay valid until either is laid out anew. */
export function makeFeeds(graph: PackedGraph, window: DenseWindow, packed: PackedPart): Record<string, Tensor> {
  const { batch } = window;
  const feeds: Record<string, Tensor> = {};
  const rows = Math.max(window.capacity, graph.emptyTensors ? 0 : 1);
  const dummyWindow = rows > window.capacity;
  const segments = Math.max(1, packed.numSegments);
  const dummyPacked = packed.numSegments === 0 && !graph.emptyTensors;
  const tokens = dummyPacked ? 1 : packed.numTokens;
  feeds[WINDOW_SLOTS] = new Tensor('int64', dummyWindow ? masked(batch) : window.slots, [batch, rows]);
  feeds[PACKED_SLOTS] = new Tensor('int64', dummyPacked ? masked(batch) : packed.slots, [batch, segments * tokens]);
  if (packsRawKeys(graph.rotary)) {
    const axes = positionAxes(graph);
    const positions = dummyPacked ? new BigInt64Array(batch * axes) : packed.positions;
    feeds[PACKED_POSITIONS] = new Tensor('int64', positions, [batch, segments * tokens, ...(axes > 1 ? [axes] : [])]);
  }
  const { axisTables } = packed;
  if (axisTables) {
    const ranks = graph.shape.layers.map((_, l) => packed.layer(l).keys.rank);
    const extents = { segments: batch * packed.numSegments, tokens: packed.numTokens, ranks };
    const mostNew = mostNewByAxes(graph.shape, axisTables, extents);
    Object.assign(feeds, axisFeeds(axisTables, [batch, segments], mostNew, graph.emptyTensors ? 0 : 1));
  }
  graph.shape.layers.forEach(({ index, numKvHeads, headDim }, l) => {
    const dense = window.layer(l);
    const layer = packed.layer(l);
    for (const [side, array, held] of [
      ['key', dense.keys, layer.keys],
      ['value', dense.values, layer.values],
    ] as const) {
      const filled = dummyWindow ? zerosLike(array, batch * numKvHeads * headDim) : array;
      const factors = dummyPacked ? dummySide(held, batch, numKvHeads * headDim) : held;
      feeds[windowName(index, side)] = new Tensor(graph.shape.windowType, filled as Float32Array, [batch, numKvHeads, rows, headDim]);
      Object.assign(feeds, factorFeeds(graph, index, side, factors, { batch, segments, tokens, numKvHeads, headDim }));
    }
  });
  if (packed.tiers) Object.assign(feeds, tierFeeds(graph, packed, packed.tiers, [batch, segments]));
  return feeds;
}

/** Codes as tiers read them, in the place of whole ones, and in which order. Empty tensors are ordinary where tiers are. */
function tierFeeds(
  graph: PackedGraph,
  packed: PackedPart,
  tiers: Tiers,
  [batch, segments]: readonly [number, number],
): Record<string, Tensor> {
  const feeds: Record<string, Tensor> = {};
  const [numInFirst, numInSecond] = tiers.rows;
  const codes = (data: CodeArray, tokens: number, rank: number): Tensor =>
    new Tensor(graph.codes as 'float32', data as Float32Array, [batch, segments, tokens, rank]);
  graph.shape.layers.forEach(({ index }, l) => {
    const order = tiers.order(l);
    feeds[orderName(index)] = new Tensor('int32', order, [batch, order.length / batch]);
    for (const [side, of] of [
      ['key', 'keys'],
      ['value', 'values'],
    ] as const) {
      const held = packed.whole(l)[of];
      const { first, lead, leadRank } = tiers.views(held, of);
      feeds[codesName(index, side)] = codes(first, numInFirst, held.rank);
      feeds[leadName(index, side)] = codes(lead, numInSecond, leadRank);
      feeds[leadRankName(side)] = new Tensor('int64', BigInt64Array.of(BigInt(tiers.rule.leads[of])), [1]);
    }
  });
  return feeds;
}

interface FactorDims {
  readonly batch: number;
  readonly segments: number;
  readonly tokens: number;
  readonly numKvHeads: number;
  readonly headDim: number;
}

/** Codes, basis and what says how to read them, of one layer and side. */
function factorFeeds(graph: PackedGraph, index: number, side: Side, held: PackedSide, dims: FactorDims): Record<string, Tensor> {
  const { batch, segments, tokens, numKvHeads, headDim } = dims;
  const typed = (type: CodeType | BasisType, data: PackedSide['codes' | 'basis'], shape: readonly number[]): Tensor =>
    new Tensor(type === 'mixed' ? 'uint8' : type, data as Float32Array, shape);
  const feeds: Record<string, Tensor> = {
    [codesName(index, side)]: typed(graph.codes, held.codes, [batch, segments, tokens, codeLength(graph, held)]),
    [basisName(index, side)]: typed(graph.basis, held.basis, [batch, segments, numKvHeads, basisRows(graph, held), headDim]),
  };
  const numRows = stepRows(graph.codes, graph.basis);
  if (numRows) feeds[stepsName(index, side)] = new Tensor('float32', held.steps, [batch, segments, numRows, held.rank]);
  const widths = (counts: BigInt64Array): Tensor => new Tensor('int64', counts.length ? counts : new BigInt64Array(3), [3]);
  if (graph.codes === 'mixed') feeds[codeWidthsName(index, side)] = widths(held.codeWidths);
  if (graph.basis === 'mixed') feeds[basisWidthsName(index, side)] = widths(held.basisWidths);
  return feeds;
}

/**
 * The inputs of `m-rope`.
 *
 * @param segments [B, M]
 * @param least elements of a dimension at least
 */
export function axisFeeds(tables: AxisTables, segments: readonly [number, number], mostNew: number, least: 0 | 1): Record<string, Tensor> {
  const { positions, lines, columns, order } = tables;
  const int32 = (data: Int32Array, rows: number, width: number): Tensor => {
    const dims = [Math.max(rows, least), Math.max(width, least)] as const;
    return new Tensor('int32', data.length ? data : new Int32Array(dims[0] * dims[1]), dims);
  };
  const sweep = ({ places, tokens, width }: AxisTables['lines'], numAxes: number): [Tensor, Tensor] => {
    const length = places.length / numAxes;
    return [int32(places, numAxes, length), int32(tokens, length, width)];
  };
  const [linePlaces, lineTokens] = sweep(lines, positions.length - 1);
  const [columnPlaces, columnTokens] = sweep(columns, 1);
  const feeds: Record<string, Tensor> = {
    [LINE_PLACES]: linePlaces,
    [LINE_TOKENS]: lineTokens,
    [COLUMN_PLACES]: columnPlaces,
    [COLUMN_TOKENS]: columnTokens,
    [PACKED_ORDER]: int32(order, 2, order.length / 2),
    [MOST_NEW]: new Tensor('int64', BigInt64Array.of(BigInt(mostNew)), [1]),
  };
  const numSegments = segments[0] * segments[1];
  positions.forEach((list, axis) => {
    const length = Math.max(list.length / numSegments, least);
    feeds[axisName(axis)] = new Tensor('int64', list.length ? list : new BigInt64Array(numSegments * length), [...segments, length]);
  });
  return feeds;
}

function masked(batch: number): BigInt64Array {
  return new BigInt64Array(batch).fill(-1n);
}

function zerosLike(array: WindowArray, length: number): WindowArray {
  return array instanceof Float32Array ? new Float32Array(length) : new Uint16Array(length);
}

/** One column of zeros, for providers that cannot run empty tensors; those take no *mixed* codes or bases. */
function dummySide(side: PackedSide, batch: number, width: number): PackedSide {
  const Codes = side.codes.constructor as new (length: number) => PackedSide['codes'];
  const Basis = side.basis.constructor as new (length: number) => PackedSide['basis'];
  return { ...side, rank: 1, codes: new Codes(batch), basis: new Basis(batch * width), steps: new Float32Array(batch) };
}
