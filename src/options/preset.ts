/** Whole settings by one word. */
import { AttentionPackError } from '../errors.ts';
import type { CacheOptions, GraphOptions, Ranks } from '../options.ts';
import type { ModelShape } from '../shape.ts';
import type { TierOptions } from '../tier-options.ts';

export const PRESETS = ['auto', 'paper'] as const;
export type Preset = (typeof PRESETS)[number];

/** The paper's rank for LLaVA-1.5-7B (arXiv 2603.23914). */
export const PAPER_RANK = 64;

/** The paper's release packs again when so many tokens of text have come (A-OKVQA; 500 for others). */
const PAPER_TEXT = 100;

/** The paper's tiers: a quarter of the tokens is read by all columns; by how many the others, it does not say. Here half. */
export function paperTiers({ keys, values }: Ranks): TierOptions {
  return { share: 0.25, rank: { keys: Math.ceil(keys / 2), values: Math.ceil(values / 2) }, every: 1 };
}

/** How many times smaller *auto* holds images at most. */
export const AUTO_COMPRESSION = 16;

/**
 * The relative error that *auto* puts up with of what attention adds to the residual stream, by estimate: images that are not so easily packed, small ones of
 * grouped-query models above all, get the bytes that takes. At 0.08 both embedded models stay nearer to the dense cache than ONNX Runtime's int4 cache does,
 * pack-gqa's images about 4 times smaller, pack-mha's 10 to 12 times (LOG.md).
 */
export const AUTO_ERROR = 0.08;

/** Options that say how many bytes are held in some way or another. */
const SIZES = ['compression', 'budget', 'rank', 'bits', 'spread'] as const;

/** Whether options say how much is kept, in some way or another. */
export function saySize(options: CacheOptions): boolean {
  return options.preset !== undefined || SIZES.some((name) => options[name] !== undefined);
}

/** Options with *auto* put in where nothing says how much is kept. */
export function withDefaultPreset<O extends CacheOptions>(options: O): O {
  return saySize(options) ? options : { ...options, preset: 'auto' };
}

/** What cache options a preset stands for; those given along win. */
export function presetCache({ preset, ...given }: CacheOptions): CacheOptions {
  if (preset === 'paper') return { basisPer: 'image', text: { every: PAPER_TEXT }, ...given, preset };
  return preset === undefined ? given : { ...given, preset };
}

/** Graph options that go with cache options where they are not given: bytes are best shared out where columns may differ in bits. */
export function presetGraph({ preset, compression, budget }: CacheOptions, canMix: boolean): GraphOptions {
  if (preset === 'paper') return { rotary: 'rotate-late', codes: 'float16', basis: 'float16', window: 'float16' };
  if (preset === undefined && compression === undefined && budget === undefined) return {};
  const type = canMix ? 'mixed' : 'float16';
  return { codes: type, basis: type, window: 'float16' };
}

/** @throws {AttentionPackError} for a preset beside what it decides itself */
export function checkAlone(options: CacheOptions): void {
  const given = SIZES.filter((name) => options[name] !== undefined);
  const [whole] = given.filter((name) => name === 'compression' || name === 'budget');
  const other = options.preset !== undefined ? given[0] : whole && given.find((name) => name !== whole);
  if (other === undefined) return;
  const first = options.preset !== undefined ? `preset '${options.preset}'` : whole;
  throw new AttentionPackError(`${first} and ${other} both say how much is kept; give one of them`);
}

/** What of the paper's way this model cannot have; undefined if nothing. */
export function paperNote(preset: Preset | undefined, shape: ModelShape): string | undefined {
  const width = Math.min(...shape.layers.map(({ numKvHeads, headDim }) => numKvHeads * headDim));
  if (preset !== 'paper' || width >= PAPER_RANK) return undefined;
  return `the paper's rank ${PAPER_RANK} exceeds the ${width} columns of this model's narrowest layer: rank ${width} is used, which loses nothing and saves little`;
}
