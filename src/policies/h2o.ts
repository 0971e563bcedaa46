/**
 * Heavy hitters: tokens that got most attention over all queries so far stay.
 *
 * H2O, arXiv 2306.14048. There each head of each layer keeps its own tokens, and half of the budget is the newest tokens; here a token goes in
 * all layers at once, by its mean over them, and `recent` says how many of the newest stay.
 */
import type { Policy } from './policy.ts';

export const h2o: Policy = {
  watch: () => ({ mass: { rule: 'sum', queries: 'all', layer: 'all' } }),
  score: ({ mass }) => mass,
};
