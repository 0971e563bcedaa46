/** Options of tiers: which packed tokens are read by all columns, and by how many the others. */
import { AttentionPackError } from './errors.ts';
import type { Ranks } from './options.ts';

/** What is read in tiers. */
export const TIERS_OF = ['both', 'keys', 'values'] as const;
export type TiersOf = (typeof TIERS_OF)[number];

/**
 * Attention-aware decompression (AttentionPack, arXiv 2603.23914): in each layer and sequence, the packed tokens that got most attention are read by all
 * columns of their codes, the others by their leading ones, which hold most of their energy. Nothing is let go: all columns stay in memory, and a token whose
 * attention rises is read by all of them again. Attention is a moving average over runs, the newest weighing half.
 *
 * What it saves is reading codes, not bytes: it pays where codes are most of a step's work, long segments of many columns, and costs some 15 nodes a layer.
 */
export interface TierOptions {
  /** r1: share of each segment's tokens that are read by all columns, above 0 and at most 1, rounded up. The paper's: 0.125, 0.25, 0.375, 0.5. */
  readonly share: number;
  /** r2: columns that the others are read by, of those that `rank` keeps: one number for keys and values, or one each. */
  readonly rank: number | Ranks;
  /** One of: *both* (default); *keys* or *values*: the other side is read by all columns of all tokens. */
  readonly of?: TiersOf;
  /** Steps after which tokens are dealt anew; a prompt of several tokens always deals them. Default 8. */
  readonly every?: number;
}

export interface ResolvedTiers {
  readonly share: number;
  readonly rank: Ranks;
  readonly of: TiersOf;
  readonly every: number;
}

const DEFAULT_EVERY = 8;

/**
 * @param ranks columns that are kept
 * @throws {AttentionPackError} for a share that reads nothing, or more columns than are kept
 */
export function resolveTiers(options: TierOptions, ranks: Ranks): ResolvedTiers {
  const { share, rank, of = 'both', every = DEFAULT_EVERY } = options;
  const shown = (value: unknown): string => (typeof value === 'string' ? `'${value}'` : String(value));
  if (typeof share !== 'number' || !(share > 0 && share <= 1))
    throw new AttentionPackError(`tiers.share must be a number above 0 and at most 1, got ${shown(share)}`);
  if (!TIERS_OF.includes(of)) throw new AttentionPackError(`tiers.of must be one of ${TIERS_OF.join(', ')}; got '${of}'`);
  if (!Number.isInteger(every) || every < 1) throw new AttentionPackError(`tiers.every must be a whole number >= 1, got ${shown(every)}`);
  const leads = typeof rank === 'object' ? rank : { keys: rank, values: rank };
  for (const side of ['keys', 'values'] as const) {
    if (of !== 'both' && of !== side) continue;
    const lead: unknown = leads[side];
    if (!Number.isInteger(lead) || (lead as number) < 1)
      throw new AttentionPackError(`tiers.rank of ${side} must be a whole number >= 1, got ${shown(lead)}`);
    if ((lead as number) > ranks[side])
      throw new AttentionPackError(
        `tiers.rank ${lead} exceeds the ${ranks[side]} columns that rank keeps of ${side}; use tiers.rank <= ${ranks[side]}`,
      );
  }
  return { share, rank: leads, of, every };
}
