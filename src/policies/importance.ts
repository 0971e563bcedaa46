/**
 * The importance attention-aware decompression goes by, used to evict: a moving average of the attention each token gets.
 *
 * AttentionPack, arXiv 2603.23914. It forgets what mattered long ago, which the sums of heavy hitters never do.
 */
import type { Policy } from './policy.ts';

export const importance: Policy = {
  watch: () => ({ mass: { rule: 'average', queries: 'all', layer: 'all' } }),
  score: ({ mass }) => mass,
};
