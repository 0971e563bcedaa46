/** The parts of the reproduction: adding one is adding a file here and one in figures/. */
import type { Part } from './part.ts';
import { combinations } from './parts/combinations.ts';
import { frames } from './parts/frames.ts';
import { latency } from './parts/latency.ts';
import { rank } from './parts/rank.ts';
import { tiers } from './parts/tiers.ts';
import { variance } from './parts/variance.ts';

/** In the order of their names. */
export const PARTS: readonly Part<unknown>[] = [variance, tiers, rank, combinations, frames, latency];
