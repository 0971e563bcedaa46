/** The packings whose loyalty is measured: rotary mode x shared or own basis x rank, each at the smallest element types that cost no quality. */
import type { CacheSetting } from '../../src/eval/settings.ts';
import { parseSetting } from '../../src/eval/settings.ts';
import type { BasisPer } from '../../src/options.ts';
import type { RotaryMode } from '../../src/shape.ts';

export interface Packing {
  readonly rotary: RotaryMode;
  readonly basisPer: BasisPer;
  /** Of codes and bases; mixed: of two bits a column on average. */
  readonly codes: 'float16' | 'mixed';
  readonly rank: number;
}

const GRAPHS: readonly Pick<Packing, 'rotary' | 'codes'>[] = [
  { rotary: 'rotate-late', codes: 'float16' },
  { rotary: 'post-rope', codes: 'float16' },
  { rotary: 'rotate-late', codes: 'mixed' },
];

/** Ranks with one basis per image, whose W·rank dominates the bytes, and with one basis for all images; higher ones where a column has few bits. */
const RANKS: Readonly<Record<Packing['codes'], Readonly<Record<BasisPer, readonly number[]>>>> = {
  float16: { image: [1, 2, 4, 8, 11, 16], context: [4, 8, 16, 32, 48] },
  mixed: { image: [8, 16, 32], context: [16, 32, 64, 128] },
};

export const PACKINGS: readonly Packing[] = GRAPHS.flatMap((graph) =>
  (['image', 'context'] as const).flatMap((basisPer) => RANKS[graph.codes][basisPer].map((rank) => ({ ...graph, basisPer, rank }))),
);

export function settingOf({ rotary, basisPer, codes, rank }: Packing): CacheSetting {
  const bits = codes === 'mixed' ? ',bits=2' : '';
  return parseSetting(`packed:rank=${rank},rotary=${rotary},codes=${codes},basis=${codes}${bits},basis-per=${basisPer}`);
}

/** Name of the curve a packing lies on. */
export function curveOf({ rotary, basisPer, codes }: Packing): string {
  return `${rotary}, basis per ${basisPer}, ${codes} codes`;
}
