/** Bits of *mixed* columns: checks, and what is meant where nothing is said. */
import { AttentionPackError } from '../errors.ts';
import { type CacheOptions, oneOf, type Ranks, type ResolvedCacheOptions, SPREADS, type Spread } from '../options.ts';
import type { BasisType, CodeType } from '../shape.ts';

/** Bits per column where nothing is said. */
const DEFAULT_BITS = 4;

export function resolveBits(
  options: CacheOptions,
  defaults: Partial<ResolvedCacheOptions>,
  { keys, values }: Ranks,
): { bits?: number; spread?: Spread } {
  const bits = options.bits ?? defaults.bits;
  const spread = options.spread ?? defaults.spread;
  if (spread !== undefined) oneOf('spread', spread, SPREADS);
  if (bits !== undefined) {
    if (typeof bits !== 'number' || !(bits >= 1 && bits <= 8))
      throw new AttentionPackError(`bits must be a number from 1 to 8, got ${typeof bits === 'string' ? `'${bits}'` : bits}`);
    if (spread === 'even' && ![8, 4, 2].includes(bits))
      throw new AttentionPackError(`bits must be 8, 4 or 2 where spread is 'even', got ${bits}`);
    const least = Math.min(keys, values);
    if (bits * least < 8)
      throw new AttentionPackError(
        `${bits} bits a column of rank ${least} are less than a byte a token; use bits >= ${Math.ceil(8 / least)} or a higher rank`,
      );
  }
  return { ...(bits !== undefined && { bits }), ...(spread !== undefined && { spread }) };
}

/**
 * @param graph how the decoder was rewritten
 * @throws {AttentionPackError} if bits are given that no column has, or are too few by default
 */
export function checkBits({ codes, basis }: { codes: CodeType; basis: BasisType }, { bits, spread, rank }: ResolvedCacheOptions): void {
  const isMixed = codes === 'mixed' || basis === 'mixed';
  if (!isMixed && (bits !== undefined || spread !== undefined)) {
    throw new AttentionPackError(
      `${bits !== undefined ? 'bits' : 'spread'} needs codes or basis 'mixed', and the model was loaded with codes '${codes}' and basis '${basis}'`,
    );
  }
  const least = Math.min(rank.keys, rank.values);
  if (isMixed && bits === undefined && least * DEFAULT_BITS < 8)
    throw new AttentionPackError(
      `rank ${least} with the default of ${DEFAULT_BITS} bits a column is less than a byte a token; use bits: 8 or a higher rank`,
    );
}

/** What *mixed* columns are shared out by. */
export function columnsWanted({ rank, bits = DEFAULT_BITS, spread = 'energy' }: ResolvedCacheOptions): {
  rank: Ranks;
  bits: number;
  spread: Spread;
} {
  return { rank, bits, spread };
}
