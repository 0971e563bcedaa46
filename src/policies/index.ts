/** All eviction policies by name, each with one clause. */
import { fastv } from './fastv.ts';
import { h2o } from './h2o.ts';
import { importance } from './importance.ts';
import { keyNorm } from './key-norm.ts';
import type { Policy } from './policy.ts';
import { random } from './random.ts';
import { snapkv } from './snapkv.ts';
import { streamingLlm } from './streaming-llm.ts';

export const POLICY_NAMES = ['h2o', 'snapkv', 'streaming-llm', 'key-norm', 'fastv', 'importance', 'random'] as const;

/**
 * Which tokens stay. One of: *h2o*: those that got most attention so far; *snapkv*: those the prompt's newest tokens attend to, and their
 * neighbours; *streaming-llm*: the newest; *key-norm*: those with short keys; *fastv*: those that got most attention in one early layer; *importance*:
 * those that got most of late, a moving average; *random*: by lot, the control.
 */
export type PolicyName = (typeof POLICY_NAMES)[number];

export const POLICIES: Readonly<Record<PolicyName, Policy>> = {
  h2o,
  snapkv,
  'streaming-llm': streamingLlm,
  'key-norm': keyNorm,
  fastv,
  importance,
  random,
};

export { lowest, type MassWatch, type Policy, type PolicySettings, type TokenFacts, type Watch } from './policy.ts';
