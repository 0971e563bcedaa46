/** What a decoder must be rewritten for so that a cache can be as wanted. */
import { type CacheOptions, type GraphOptions, needsMass } from '../options.ts';
import { presetGraph } from './preset.ts';

/**
 * Graph options that go with cache options, where they are not given themselves.
 *
 * @param cache presets taken apart; see `presetCache`
 * @param device as transformers.js takes it
 */
export function graphFor(cache: CacheOptions, given: GraphOptions, device?: unknown): GraphOptions {
  const { tiered = Boolean(cache.tiers ?? cache.preset === 'paper') } = given;
  const { mass = tiered || needsMass(cache.evict) } = given;
  return { ...presetGraph(cache, device !== 'webgpu' && !tiered), ...given, tiered, mass };
}
