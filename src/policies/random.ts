/** The control: tokens stay by lot. A policy that is not better than this has learnt nothing from what it looks at. */
import type { Policy } from './policy.ts';

export const random: Policy = {
  watch: () => ({}),
  score: ({ slots, firstSlot }, { seed }) => slots.map((slot) => lot(seed, slot - firstSlot)),
};

/** A number in [0, 2^32) drawn by seed and place alone, so that a token's lot depends neither on others nor on padding. murmur3's finaliser. */
function lot(seed: number, place: number): number {
  let hash = Math.imul(seed + 1, 0x9e3779b1) ^ Math.imul(place + 1, 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}
