/** Shares a cache's bytes out: what they will be counted in once the prompt is read, what is left for columns, and which columns that buys. */
import { stepRows } from '../contract.ts';
import { type Allocation, allocate, allocateTo, type SideChoice, type SideCost } from '../encode/allocate.ts';
import type { Factors } from '../encode/factor.ts';
import type { Metric } from '../encode/weighted.ts';
import { AttentionPackError } from '../errors.ts';
import { AUTO_ERROR } from '../options/preset.ts';
import { nameOf, type Target } from '../options/target.ts';
import type { Ranks } from '../options.ts';
import { denseTokenBytes, type LayerShape } from '../shape.ts';
import { axisTableNumbers } from './axis-tables.ts';
import { measureColumns } from './column-errors.ts';
import { type PackedGraph, positionAxes } from './feeds.ts';
import { axisBytes, ELEMENT_BYTES, type Extents, footprint, WIDTHS_BYTES } from './footprint.ts';
import { isMixed, type SideLayout } from './format.ts';
import { type NewSegment, PackedPart } from './packed.ts';
import { pricesOf } from './prices.ts';

/** A segment as far as bytes go. */
export type SegmentPlaces = Pick<NewSegment, 'sequence' | 'slots' | 'positions'>;

/** A cache as it will be once its prompt is read. */
export interface Prospect extends Pick<Extents, 'batch' | 'windowRows' | 'pendingTokens' | 'tokenCapacity' | 'watched'> {
  /** Slots used by each sequence. */
  readonly numSlots: number;
  readonly segments: readonly SegmentPlaces[];
  /** How many times the tokens of all segments are numbered for tiers; 0 where none are read. */
  readonly tierOrders?: number;
}

/** How one layer's keys or values are held, and what that leaves out. */
export interface AllottedSide extends SideLayout {
  /** Of the codes and bases of all segments, steps included. */
  readonly bytes: number;
  /** Share of this side's energy, as it is weighed, that is estimated to be left out. */
  readonly lost: number;
  /** Share of all that is left out, in what bytes were spent for. */
  readonly errorShare: number;
}

export interface AllottedLayer {
  readonly keys: AllottedSide;
  readonly values: AllottedSide;
}

/** What was decided, in bytes of the prospect it was decided for. */
export interface AllottedBytes {
  readonly layers: readonly AllottedLayer[];
  /** Everything held, at most and as it came out; the difference would buy nothing. */
  readonly mostBytes: number;
  readonly bytes: number;
  /** Relative error of what attention adds to the residual stream that is to be expected; where bytes were spent for that. */
  readonly outputError?: number;
}

/** At most so many segments are looked at, so many numbers of each column, and each column up to this one. */
const LOOK = { segments: 2, numbers: 128, closely: 16 } as const;

/** Bytes of a cache, all in all, and of them those that do not depend on columns. */
export interface Room {
  readonly most: number;
  readonly fixed: number;
  /** Segments there is room for, over all sequences, and tokens in each. */
  readonly places: number;
  readonly tokens: number;
}

/** What is left for columns. Exact, but for later images' places on position axes, which are not known before they were read. */
export function roomFor(target: Target, graph: PackedGraph, { segments, numSlots, tierOrders = 0, ...counts }: Prospect): Room {
  const axes = positionAxes(graph);
  const dry = new PackedPart(graph.shape, counts.batch, { codes: 'float32', basis: 'float32' }, axes);
  const layers = graph.shape.layers.map(() => ({ keys: NOTHING, values: NOTHING }));
  dry.add(segments.map((segment) => ({ ...segment, layers })));
  const sides = graph.shape.layers.map(() => ({ keys: { rank: 0 }, values: { rank: 0 } }));
  const extents: Extents = {
    ...counts,
    segments: dry.capacity,
    segmentTokens: dry.numTokens,
    positionAxes: axes,
    sides,
    tierIndices: tierOrders * counts.batch * dry.numSegments * dry.numTokens,
    ...(dry.axisTables && { axisTables: axisTableNumbers(dry.axisTables) }),
  };
  const numMixed = Number(graph.codes === 'mixed') + Number(graph.basis === 'mixed');
  const fixed = footprint(graph.shape, graph, extents).total + 2 * graph.shape.layers.length * numMixed * WIDTHS_BYTES;
  const indices = 8 * (1 + axes) * counts.batch * dry.capacity * dry.numTokens + axisBytes(extents);
  const perToken = denseTokenBytes(graph.shape);
  const packedTokens = segments.reduce((sum, { slots }) => sum + slots.length, 0);
  const most = (): number => {
    if ('bytes' in target) return target.bytes;
    if (target.counted === 'all') return Math.floor((perToken * numSlots * counts.batch) / target.compression);
    const widths = 2 * graph.shape.layers.length * numMixed * WIDTHS_BYTES;
    return fixed - indices - widths + Math.floor((perToken * packedTokens) / target.compression);
  };
  return { most: most(), fixed, places: counts.batch * dry.capacity, tokens: dry.numTokens };
}

/** Long spans of wide rows are factored by random sketches up to this share of their columns; more take a whole eigenproblem, fifty times as long. */
const SKETCHED = { size: 256, share: 0.25 } as const;

/**
 * Columns worth factoring for what is left: as many as take it up at four bits each, and half as many again, as bytes go where they are worth most. Where an
 * error decides and not a number of bytes: as many as there could be at a third of the dense bytes.
 *
 * @param most that the options allow
 */
export function columnsFor(
  { isAuto }: Target,
  { most: budget, fixed, places, tokens }: Room,
  { shape: { layers } }: PackedGraph,
  most: Ranks,
): Ranks {
  const widths = layers.reduce((sum, { numKvHeads, headDim }) => sum + numKvHeads * headDim, 0);
  const columnBytes = places * (2 * layers.length * tokens + 2 * widths);
  const isLong = tokens > SKETCHED.size && widths / layers.length > SKETCHED.size;
  const dense = 4 * places * tokens * widths; // float16, keys and values
  const room = isAuto ? dense / 3 : Math.max(0, budget - fixed);
  const wanted = Math.max(8, Math.ceil((1.5 * 2 * room) / columnBytes));
  const rank = isAuto && isLong ? Math.min(wanted, Math.ceil((SKETCHED.share * widths) / layers.length)) : wanted;
  return { keys: Math.min(rank, most.keys), values: Math.min(rank, most.values) };
}

/**
 * @param segments those there are; with others to come, what is decided on these is for all
 * @param metrics what keys were weighed by, if they were
 * @throws {AttentionPackError} if not even one column of each side fits
 */
export function allot(
  target: Target,
  graph: PackedGraph,
  room: Room,
  segments: readonly NewSegment[],
  metrics: readonly Metric[] | undefined,
): AllottedBytes {
  const every = Math.ceil(segments.length / LOOK.segments);
  const looked = segments.filter((_, i) => i % every === 0);
  let [total, missing] = [0, 0];
  const costs = graph.shape.layers.flatMap((shape, l) => {
    const of = (side: 'keys' | 'values'): Factors[] => looked.flatMap(({ layers }) => layers[l]?.[side] ?? []);
    const prices = pricesOf({ keys: of('keys'), values: of('values') }, target.spend, shape, metrics?.[l]);
    total += prices.total;
    missing += prices.missing;
    return [sideCost(graph, shape, room, of('keys'), prices.keys, metrics?.[l]), sideCost(graph, shape, room, of('values'), prices.values)];
  });
  const left = room.most - room.fixed;
  const within = allocate(costs, left);
  const { choices, bytes, error } = target.isAuto ? larger(within, allocateTo(costs, AUTO_ERROR ** 2 * total - missing)) : within;
  if (bytes > left && target.counted === 'all') throw tooLittle(target, room, bytes);
  const side = (i: number): AllottedSide => {
    const [{ rank, codes, basis, ...choice }, { dropped }] = [choices[i], costs[i]] as [SideChoice, SideCost];
    const all = dropped.reduce((sum, column) => sum + column, 0);
    return {
      rank,
      ...(isMixed(graph) && { split: { codes, basis } }),
      bytes: choice.bytes,
      lost: all > 0 ? Math.min(1, choice.error / all) : 0,
      errorShare: error > 0 ? choice.error / error : 0,
    };
  };
  const layers = graph.shape.layers.map((_, l) => ({ keys: side(2 * l), values: side(2 * l + 1) }));
  return {
    layers,
    mostBytes: Math.max(room.most, room.fixed + bytes),
    bytes: room.fixed + bytes,
    ...(target.spend === 'output' && total > 0 && { outputError: Math.sqrt((error + missing) / total) }),
  };
}

const larger = (a: Allocation, b: Allocation): Allocation => (a.bytes >= b.bytes ? a : b);

function sideCost(
  graph: PackedGraph,
  { numKvHeads, headDim }: LayerShape,
  { places, tokens }: Room,
  factors: readonly Factors[],
  price: number,
  metric?: Metric,
): SideCost {
  const width = numKvHeads * headDim;
  const most = Math.max(1, ...factors.map(({ rank }) => rank));
  const variance = metric && varianceOf(metric);
  const { dropped, codes, basis } = measureColumns(factors, graph, most, width, { ...LOOK, ...(variance !== undefined && { variance }) });
  const priced = (errors: typeof codes): typeof codes =>
    errors && { 8: scaled(errors[8], price), 4: scaled(errors[4], price), 2: scaled(errors[2], price) };
  return {
    dropped: scaled(dropped, price),
    codes: { length: places * tokens, errors: priced(codes), bytes: ELEMENT_BYTES[graph.codes] },
    basis: { length: places * width, errors: priced(basis), bytes: ELEMENT_BYTES[graph.basis] },
    columnBytes: places * stepRows(graph.codes, graph.basis) * ELEMENT_BYTES.float32,
  };
}

const scaled = (numbers: Float64Array, by: number): Float64Array => numbers.map((number) => number * by);

/** Mean square of ‖e·L‖ for unit errors e of any direction. */
function varianceOf({ roots, headDim }: Metric): number {
  return (roots.reduce((sum, root) => sum + root * root, 0) / roots.length) * headDim;
}

function tooLittle(target: Target, room: Room, least: number): AttentionPackError {
  const [asked, needed] = [room.most, room.fixed + least];
  const parts = `text, sink, indices and tokens take ${room.fixed} and the least there is of images ${least}`;
  const most = 'bytes' in target ? `budget >= ${needed}` : `compression <= ${Math.floor((10 * target.compression * asked) / needed) / 10}`;
  return new AttentionPackError(
    `${nameOf(target)} asks for ${asked} bytes at most, but ${parts}, ${needed} in all; use ${most}, or preset 'auto', which lets text be`,
  );
}

const NOTHING: Factors = {
  codes: new Float32Array(0),
  basis: new Float32Array(0),
  rank: 0,
  lostEnergy: 0,
  singularValues: new Float32Array(0),
};
