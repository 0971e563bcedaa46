/**
 * Sinks and the newest: what came last stays, with the first few tokens, which `sink` protects.
 *
 * StreamingLLM, arXiv 2309.17453. There positions are counted within the cache; here tokens keep the positions they were read at.
 */
import type { Policy } from './policy.ts';

export const streamingLlm: Policy = {
  watch: () => ({}),
  score: ({ slots }) => slots,
};
