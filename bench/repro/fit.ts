/** How many frames a cache of fixed bytes holds. */

/** What a setting takes for so many frames. */
export interface FrameBytes {
  readonly setting: string;
  readonly frames: number;
  readonly bytes: number;
}

/**
 * The most frames of those measured whose cache is no larger than `budget`; undefined if not even the fewest fit. Bytes grow with frames, but a larger
 * number is taken even where a smaller one does not fit.
 */
export function framesThatFit<T extends FrameBytes>(measured: readonly T[], setting: string, budget: number): T | undefined {
  let best: T | undefined;
  for (const entry of measured) {
    if (entry.setting === setting && entry.bytes <= budget && entry.frames > (best?.frames ?? 0)) best = entry;
  }
  return best;
}
