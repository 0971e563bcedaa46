/** Seeded random draws, the same on every machine. */
import { xoroshiro128plus } from 'pure-rand/generator/xoroshiro128plus';

/** Draws from one seeded stream. */
export interface Random {
  /** Uniform in [low, high). */
  uniform(low: number, high: number): number;
  /** Uniform integer in 0 … limit - 1. */
  below(limit: number): number;
  /** True with this probability. */
  chance(probability: number): boolean;
  /** One of the values. */
  pick<T>(values: readonly T[]): T;
  /** `count` different values in random order; all of them if `count` is their number. */
  sample<T>(values: readonly T[], count: number): T[];
  /** A seed for another stream: an unsigned 32-bit integer. */
  seed(): number;
}

export function seeded(seed: number): Random {
  const generator = xoroshiro128plus(seed | 0);
  // Neighbouring seeds begin alike, so the first draws are thrown away.
  for (let i = 0; i < 8; i++) generator.next();
  const fraction = () => (generator.next() >>> 0) / 2 ** 32;
  const below = (limit: number) => Math.floor(fraction() * limit);
  const pick = <T>(values: readonly T[]): T => values[below(values.length)] as T;
  return {
    uniform: (low, high) => low + (high - low) * fraction(),
    below,
    chance: (probability) => fraction() < probability,
    pick,
    sample(values, count) {
      const chosen = new Set<number>();
      while (chosen.size < Math.min(count, values.length)) chosen.add(below(values.length));
      return [...chosen].map((i) => values[i] as (typeof values)[number]);
    },
    seed: () => generator.next() >>> 0,
  };
}

/** Mixes a seed with numbers or names into another seed (FNV-1a), so that streams of different purpose do not meet. */
export function mixSeed(...parts: readonly (number | string)[]): number {
  let hash = 0x811c9dc5;
  for (const character of parts.join('/')) hash = Math.imul(hash ^ character.charCodeAt(0), 0x01000193);
  return hash >>> 0;
}
