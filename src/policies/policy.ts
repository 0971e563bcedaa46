/** What an eviction policy is: a number for each token, and the tokens with the lowest numbers go. */

/** What the cache must watch while it runs, so that a policy has its facts. Counted in the cache's bytes: four for each number kept of a token. */
export interface Watch {
  /** Attention each token gets. */
  readonly mass?: MassWatch;
  /** Lengths of keys. */
  readonly keyNorms?: true;
}

export interface MassWatch {
  /** `sum`: over all queries that count; `average`: moving, half for the newest run and half for all before it. */
  readonly rule: 'sum' | 'average';
  /** Which queries of a prompt count: all, or this many of its newest, and then those of earlier prompts no more. Later single steps always count. */
  readonly queries: 'all' | number;
  /** Which layers are averaged: all, or this one, counted from 0. */
  readonly layer: 'all' | number;
}

/** What is known of those tokens of one sequence that may go, in the order of their slots. Arrays hold one number for each of them. */
export interface TokenFacts {
  readonly slots: readonly number[];
  /** Slot of the sequence's first token; the padding before it depends on the batch. */
  readonly firstSlot: number;
  /** Attention, as the policy's {@link Watch} says; of no use to others. */
  readonly mass: Float32Array;
  /** L2 norms of keys, mean over layers and key heads; only where watched. */
  readonly keyNorms: Float32Array;
}

/** What a policy may be told beside its facts. */
export interface PolicySettings {
  /** SnapKV: how many of a prompt's newest tokens vote. */
  readonly queries: number;
  /** FastV: after how many layers it looks. */
  readonly layer: number;
  /** Random: the seed. */
  readonly seed: number;
}

export interface Policy {
  watch(settings: PolicySettings): Watch;
  /** One number for each token; the higher, the rather it stays. It depends on nothing but the facts, so asking for fewer keeps a subset. */
  score(facts: TokenFacts, settings: PolicySettings): ArrayLike<number>;
}

/**
 * Slots of the `numGone` tokens with the lowest scores, in slot order. Among equals the earlier goes.
 */
export function lowest(policy: Policy, facts: TokenFacts, numGone: number, settings: PolicySettings): number[] {
  const scores = policy.score(facts, settings);
  const order = facts.slots.map((_, i) => i).sort((a, b) => (scores[a] as number) - (scores[b] as number) || a - b);
  return order
    .slice(0, numGone)
    .sort((a, b) => a - b)
    .map((i) => facts.slots[i] as number);
}
