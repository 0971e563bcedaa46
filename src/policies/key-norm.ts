/**
 * Tokens with short keys stay: a key of low L2 norm tends to get much attention, so no attention need be measured.
 *
 * Devoto et al. 2024, "A Simple and Effective L2 Norm-Based Strategy for KV Cache Compression", arXiv 2406.11430. There each head keeps its own tokens, and
 * the first two layers keep all; here norms are averaged over heads and layers.
 */
import type { Policy } from './policy.ts';

export const keyNorm: Policy = {
  watch: () => ({ keyNorms: true }),
  score: ({ keyNorms }) => keyNorms.map((norm) => -norm),
};
