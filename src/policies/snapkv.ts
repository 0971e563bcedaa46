/**
 * SnapKV: the newest tokens of a prompt vote for what they attend to, and neighbours of what they vote for stay with it.
 *
 * arXiv 2404.14469; the pool of five is its release's. There each head keeps its own tokens; here votes are averaged over heads and layers. Votes come
 * from whatever ends the prompt: a question behind the pictures if it is part of it, the pictures' own last tokens if it comes later.
 */
import type { Policy } from './policy.ts';

/** Tokens averaged around each one, itself included. */
const POOL = 5;

export const snapkv: Policy = {
  watch: ({ queries }) => ({ mass: { rule: 'sum', queries, layer: 'all' } }),
  score: ({ mass }) => pooled(mass),
};

/** The mean of each number and its neighbours; fewer of them at the ends. */
function pooled(votes: Float32Array): Float64Array {
  const reach = (POOL - 1) / 2;
  return Float64Array.from(votes, (_, i) => {
    const [from, to] = [Math.max(0, i - reach), Math.min(votes.length, i + reach + 1)];
    return votes.subarray(from, to).reduce((sum, vote) => sum + vote, 0) / (to - from);
  });
}
