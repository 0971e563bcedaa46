/** The cache settings each part measures, in one place; the words are those of `attentionpack eval --cache`. */
import { type CacheSetting, parseSettings } from '../../src/eval/settings.ts';
import type { Subject } from './part.ts';

/** Codes, bases and the dense window as small as costs no quality; dense caches are counted in float16 too. */
const FLOAT16 = 'codes=float16,basis=float16,window=float16';

/** What users of ONNX Runtime have already. */
export const QUANTISED = ['int8', 'int4'] as const;

/** Our graph with nothing packed: what of a speed is the graph's, and not the packing's. */
export const UNPACKED = 'dense-fp16';

/** Shares r1 of the visual tokens that are read by all columns; the paper's figure 4. At 1 there are no tiers. */
export const SHARES = [0.125, 0.25, 0.375, 0.5, 1] as const;
export const TIERS_OF = ['keys', 'values', 'both'] as const;
export type TiersOf = (typeof TIERS_OF)[number];

export interface TierSetting {
  readonly of: TiersOf;
  /** r1; 0: all tokens are read by the second tier's columns. */
  readonly share: number;
  readonly setting: string;
}

/** Ranks of the two tiers. Keys are rebuilt before they turn, as in the paper, whatever the model's own mode: so the two ends compare. */
const TIER_RANKS = { first: 16, second: 4 };

/** Every r1 for keys, values and both, and the two ends that need no tiers. */
export function tierSettings(): TierSetting[] {
  const plain = (rank: number): string => `packed:rank=${rank},rotary=rotate-late,${FLOAT16}`;
  const { first, second } = TIER_RANKS;
  return TIERS_OF.flatMap((of) =>
    [0, ...SHARES].flatMap((share) => {
      if (share === 1) return [{ of, share, setting: plain(first) }];
      if (share === 0) {
        const [keys, values] = [of === 'values' ? first : second, of === 'keys' ? first : second];
        return [{ of, share, setting: `packed:rank=${keys}/${values},rotary=rotate-late,${FLOAT16}` }];
      }
      return [{ of, share, setting: `${plain(first)},tiers=${share},tier-rank=${second},tier-of=${of}` }];
    }),
  );
}

export interface RankSetting {
  readonly basisPer: 'image' | 'context';
  readonly rank: number;
  readonly setting: string;
}

/** With a basis for each image, whose W·rank dominates the bytes, and with one for all. */
const RANKS = { image: [1, 2, 4, 8, 16, 32, 64], context: [4, 8, 16, 32, 64, 128] } as const;

/** No rank above the model's width; a basis for each image only pays well below it, and has no more columns than an image has tokens. */
export function rankSettings({ width }: Subject): RankSetting[] {
  return (['image', 'context'] as const).flatMap((basisPer) =>
    RANKS[basisPer]
      .filter((rank) => rank <= (basisPer === 'image' ? Math.max(1, width / 8) : width))
      .map((rank) => ({ basisPer, rank, setting: `packed:rank=${rank},basis-per=${basisPer},${FLOAT16}` })),
  );
}

/** What packing is put together with; the first is packing alone. */
export const FAMILIES = ['packing', 'quantised codes', 'eviction', 'packing and eviction'] as const;
export type Family = (typeof FAMILIES)[number];

export interface Combination {
  readonly family: Family;
  /** Whether attention reads the codes as they are, the paper's fusion; undefined where there are no codes. */
  readonly fused?: boolean;
  readonly setting: string;
}

const POLICIES = ['h2o', 'snapkv', 'random'] as const;
const KEEP = 0.5;

/** Rebuilding keys at each step beside scoring codes as they are, each with quantised codes and with eviction; eviction alone; half of the tokens kept. */
export function combinations(subject: Subject): Combination[] {
  const rank = Math.min(8, subject.width);
  const shared = 'basis-per=context';
  const fusedMode = subject.readsClips ? 'm-rope' : 'post-rope';
  const modes = [
    { fused: false, rotary: 'rotate-late' },
    { fused: true, rotary: fusedMode },
    ...(fusedMode === 'post-rope' ? [] : [{ fused: true, rotary: 'post-rope' }]),
  ];
  return [
    ...modes.flatMap(({ fused, rotary }): Combination[] => [
      { family: 'packing', fused, setting: `packed:rank=${rank},rotary=${rotary},${FLOAT16}` },
      { family: 'packing', fused, setting: `packed:rank=${Math.min(4 * rank, subject.width)},rotary=${rotary},${FLOAT16},${shared}` },
      { family: 'quantised codes', fused, setting: `packed:rank=${rank},rotary=${rotary},codes=int8,basis=int8,window=float16` },
    ]),
    {
      family: 'quantised codes',
      fused: false,
      setting: `packed:rank=${Math.min(4 * rank, subject.width)},rotary=rotate-late,codes=mixed,basis=mixed,bits=2,window=float16`,
    },
    ...POLICIES.map((policy): Combination => ({ family: 'eviction', setting: `evict:${policy},keep=${KEEP}` })),
    ...POLICIES.map(
      (policy): Combination => ({
        family: 'packing and eviction',
        fused: false,
        setting: `packed:rank=${rank},rotary=rotate-late,${FLOAT16},evict=${policy},keep=${KEEP},evict-per=image`,
      }),
    ),
  ];
}

/** Ways to hold many frames; dense is counted in float16, as others have it. */
export function frameSettings({ width }: Subject): string[] {
  const image = Math.min(8, width);
  const context = Math.min(32, width);
  return [
    ...QUANTISED,
    `packed:rank=${image},${FLOAT16}`,
    `packed:rank=${context},basis-per=context,${FLOAT16}`,
    `packed:rank=${context},basis-per=context,codes=mixed,basis=mixed,bits=2,window=float16`,
    'packed:preset=auto',
    'evict:snapkv,keep=0.25',
    'evict:random,keep=0.25',
  ];
}

/** The same context asked again and again: stock, our graph, quantised, packed in both ways. */
export function latencySettings(subject: Subject): string[] {
  const rank = Math.min(8, subject.width);
  const fused = subject.readsClips ? ['m-rope', 'post-rope'] : ['post-rope'];
  return [
    UNPACKED,
    'int8',
    ...['rotate-late', ...fused].map((rotary) => `packed:rank=${rank},rotary=${rotary},${FLOAT16}`),
    `packed:rank=${Math.min(4 * rank, subject.width)},rotary=post-rope,basis-per=context,${FLOAT16}`,
    'packed:preset=auto',
  ];
}

/**
 * Canonical names of the settings, each once: rows of an evaluation go by these.
 *
 * @throws {AttentionPackError} for a setting this version does not know
 */
export function namesOf(settings: readonly string[]): string[] {
  const names = settings.map((setting) => nameOf(setting));
  return [...new Set(names)];
}

/** @throws {AttentionPackError} likewise */
export function nameOf(setting: string): string {
  const parsed: CacheSetting | undefined = parseSettings(setting).at(-1);
  return parsed?.name ?? setting;
}
