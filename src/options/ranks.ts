/** Ranks as asked for, or the most columns there may be where bytes are shared out. */
import { AttentionPackError } from '../errors.ts';
import { type CacheOptions, count, type Ranks, type ResolvedCacheOptions } from '../options.ts';
import type { ModelShape } from '../shape.ts';
import { PAPER_RANK } from './preset.ts';
import type { Target } from './target.ts';

/** The widest rows factored exactly, whose columns may all be kept; of wider ones, a randomised factorisation of more columns takes too long. */
const EXACT_WIDTH = 512;
const MOST_COLUMNS = 128;

/** @throws {AttentionPackError} for a rank beyond the model's width, or no whole number */
export function resolveRanks(
  options: CacheOptions,
  shape: ModelShape,
  defaults: Partial<ResolvedCacheOptions>,
  target: Target | undefined,
): Ranks {
  const widths = shape.layers.map(({ numKvHeads, headDim }) => numKvHeads * headDim);
  if (target) {
    const most = Math.max(...widths.map((width) => (width <= EXACT_WIDTH ? width : MOST_COLUMNS)));
    return { keys: most, values: most };
  }
  // A model that shares bytes out has no ranks of its own for a cache that does not.
  const own = defaults.target ? undefined : defaults.rank;
  const preset = options.preset === 'paper' ? undefined : own;
  const rank = options.rank ?? preset ?? Math.min(PAPER_RANK, ...widths);
  const ranks = typeof rank === 'object' ? rank : { keys: rank, values: rank };
  for (const side of ['keys', 'values'] as const) {
    count(`rank of ${side}`, ranks[side], 1);
    const layer = shape.layers.find(({ numKvHeads, headDim }) => ranks[side] > numKvHeads * headDim);
    if (layer) {
      const width = layer.numKvHeads * layer.headDim;
      throw new AttentionPackError(
        `rank ${ranks[side]} exceeds the ${width} columns of layer ${layer.index}'s ${side}; use rank <= ${width}`,
      );
    }
  }
  return ranks;
}
