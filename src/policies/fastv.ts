/**
 * FastV: visual tokens that get little attention after the first few layers go.
 *
 * arXiv 2403.06764. There they are dropped during the prefill, from layer K + 1 on only, which also saves computing them. Here the slots of window and packed
 * part are shared by all layers, so tokens are judged by the attention of layer K alone, and leave every layer once they have been read: memory is
 * saved in the first K layers too, and what stood behind the pictures in the prompt has still seen all of them.
 */
import type { Policy } from './policy.ts';

export const fastv: Policy = {
  watch: ({ layer }) => ({ mass: { rule: 'sum', queries: 'all', layer: layer - 1 } }),
  score: ({ mass }) => mass,
};
