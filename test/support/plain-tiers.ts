/** Tiers the slow way: the feeds of a cache without tiers, dealt to tiers by loops, and the same with the columns that nobody should read set to zero. */
import * as ort from 'onnxruntime-node';
import { expect } from 'vitest';
import { codesName, leadName, leadRankName, orderName, PACKED_SLOTS } from '../../src/contract.ts';
import { Tensor } from '../../src/ort.ts';
import type { ModelShape } from '../../src/shape.ts';

export interface Dealt {
  /** Tokens of a segment that are of the first tier. */
  readonly numFirst: (numTokens: number) => number;
  /** Leading columns of keys and of values that the others have. */
  readonly leads: readonly [keys: number, values: number];
}

type Feeds = Record<string, ort.Tensor>;

/** For a graph with tiers, and for one without, whose codes have zeros instead: both must give the same. Padding is of any tier, as tokens are. */
export function dealToTiers(
  shape: ModelShape,
  feeds: Feeds,
  { numFirst, leads }: Dealt,
  random: () => number,
): { tiered: Feeds; masked: Feeds } {
  const [tiered, masked]: [Feeds, Feeds] = [{ ...feeds }, { ...feeds }];
  const [batch = 0] = (feeds[PACKED_SLOTS] as ort.Tensor).dims;
  for (const [i, side] of (['key', 'value'] as const).entries()) tiered[leadRankName(side)] = int64(leads[i] as number);
  for (const { index } of shape.layers) {
    const [, numSegments = 0, numTokens = 0] = (feeds[codesName(index, 'key')] as ort.Tensor).dims;
    const first = numFirst(numTokens);
    // By sequence and segment: its tokens in any order, the first ones of the first tier.
    const orders = Array.from({ length: batch }, () => Array.from({ length: numSegments }, () => shuffled(numTokens, random)));
    const places = orders.map((segments, b) => {
      const placed = segments.map((order, m) => order.map((t) => (b * numSegments + m) * numTokens + t));
      return [placed.flatMap((order) => order.slice(0, first)), placed.flatMap((order) => order.slice(first))] as const;
    });
    tiered[orderName(index)] = new ort.Tensor('int32', Int32Array.from(places.flat(2)), [batch, numSegments * numTokens]);
    for (const [i, side] of (['key', 'value'] as const).entries()) {
      const codes = feeds[codesName(index, side)] as ort.Tensor;
      const rank = codes.dims[3] as number;
      const lead = Math.min(leads[i] as number, rank);
      const data = codes.data as Float32Array;
      const rows = (tier: 0 | 1, width: number): Float32Array => {
        const list = places.flatMap((tiers) => tiers[tier]);
        const out = new (data.constructor as typeof Float32Array)(list.length * width);
        for (const [n, place] of list.entries()) out.set(data.subarray(place * rank, place * rank + width), n * width);
        return out;
      };
      tiered[codesName(index, side)] = new ort.Tensor(codes.type, rows(0, rank) as never, [batch, numSegments, first, rank]);
      tiered[leadName(index, side)] = new ort.Tensor(codes.type, rows(1, lead) as never, [batch, numSegments, numTokens - first, lead]);
      const zeroed = data.slice();
      for (const place of places.flatMap((tiers) => tiers[1])) zeroed.fill(0 as never, place * rank + lead, (place + 1) * rank);
      masked[codesName(index, side)] = new ort.Tensor(codes.type, zeroed as never, codes.dims);
    }
  }
  return { tiered, masked };
}

/**
 * A tiered cache's feeds as one without tiers would have them, with zeros in columns that are not read, and which places of B·M·T those are of, by layer.
 * Fails unless each place has its codes once.
 */
export function withoutTiers(shape: ModelShape, feeds: Record<string, Tensor>): { feeds: Record<string, Tensor>; seconds: Set<number>[] } {
  const joined = { ...feeds };
  const seconds = shape.layers.map(({ index }) => {
    const order = feeds[orderName(index)]?.data as Int32Array;
    expect(Array.from(order).sort((a, b) => a - b)).toEqual([...order.keys()]);
    const second = new Set<number>();
    for (const side of ['key', 'value'] as const) {
      const [codes, lead] = [codesName, leadName].map((nameOf) => feeds[nameOf(index, side)] as Tensor) as [Tensor, Tensor];
      const [batch = 0, segments = 0, numFirst = 0, rank = 0] = codes.dims;
      const [numSecond, leadRank] = lead.dims.slice(2) as [number, number];
      expect(Number(feeds[leadRankName(side)]?.data[0])).toBeGreaterThanOrEqual(leadRank);
      const data = codes.data as Float32Array;
      const whole = new (data.constructor as typeof Float32Array)(order.length * rank);
      for (const [i, place] of order.entries()) {
        const b = Math.floor(i / (order.length / batch));
        const inRow = i % (order.length / batch);
        if (inRow < segments * numFirst) {
          const row = b * segments * numFirst + inRow;
          whole.set(data.subarray(row * rank, (row + 1) * rank), place * rank);
        } else {
          const row = b * segments * numSecond + inRow - segments * numFirst;
          whole.set((lead.data as Float32Array).subarray(row * leadRank, (row + 1) * leadRank), place * rank);
          second.add(place);
        }
      }
      joined[codesName(index, side)] = new Tensor(codes.type as 'float32', whole, [batch, segments, numFirst + numSecond, rank]);
    }
    return second;
  });
  return { feeds: joined, seconds };
}

function shuffled(length: number, random: () => number): number[] {
  const list = Array.from({ length }, (_, i) => i);
  for (let i = length - 1; i > 0; i--) {
    const j = Math.floor(((random() + 1) / 2) * (i + 1));
    [list[i], list[j]] = [list[j] as number, list[i] as number];
  }
  return list;
}

function int64(value: number): ort.Tensor {
  return new ort.Tensor('int64', BigInt64Array.of(BigInt(value)), [1]);
}
