/** The packings whose loyalty is measured: rotary mode x shared or own basis x rank, each at the smallest element types that cost no quality. */
import type { BasisPer, PackedOptions } from '../../src/options.ts';
import type { RotaryMode } from '../../src/shape.ts';

export interface Setting {
  readonly rotary: RotaryMode;
  readonly basisPer: BasisPer;
  readonly codes: 'float16' | 'int8';
  readonly rank: number;
}

/** Graphs to load: element types and rotary mode are fixed in a graph, the rest is the cache's. */
export const GRAPHS: readonly Pick<Setting, 'rotary' | 'codes'>[] = [
  { rotary: 'rotate-late', codes: 'float16' },
  { rotary: 'post-rope', codes: 'float16' },
  { rotary: 'post-rope', codes: 'int8' },
];

/** Ranks with one basis per image, whose W·rank dominates the bytes, and with one basis for all images. */
const RANKS: Readonly<Record<BasisPer, readonly number[]>> = {
  image: [1, 2, 4, 8, 11, 16],
  context: [2, 4, 8, 16, 32],
};

/** Packings of one graph. */
export function settingsOf(graph: Pick<Setting, 'rotary' | 'codes'>): Setting[] {
  return (['image', 'context'] as const).flatMap((basisPer) => RANKS[basisPer].map((rank) => ({ ...graph, basisPer, rank })));
}

export function graphOptions({ rotary, codes }: Pick<Setting, 'rotary' | 'codes'>): PackedOptions {
  return { rotary, codes, basis: 'float16' };
}

/** Name of the curve a setting lies on. */
export function curveOf({ rotary, basisPer, codes }: Setting): string {
  return `${rotary}, basis per ${basisPer}, ${codes} codes`;
}
