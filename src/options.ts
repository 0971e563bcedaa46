/** Every option once: type, prose, default, check. */
import type { Spend } from './cache/prices.ts';
import { AttentionPackError } from './errors.ts';
import { resolveBits } from './options/bits.ts';
import { type Preset, paperTiers } from './options/preset.ts';
import { resolveRanks } from './options/ranks.ts';
import { type Counted, nameOf, resolveTarget, type Target } from './options/target.ts';
import { POLICIES, POLICY_NAMES, type PolicyName } from './policies/index.ts';
import {
  BASIS_TYPES,
  type BasisType,
  CODE_TYPES,
  type CodeType,
  type ModelShape,
  ROTARY_MODES,
  type RotaryMode,
  WINDOW_TYPES,
  type WindowType,
} from './shape.ts';
import { type ResolvedTiers, resolveTiers, type TierOptions } from './tier-options.ts';

/** When a complete image leaves the dense window for the packed part. */
export const COMPACT_AT = ['context', 'span'] as const;
export type CompactAt = (typeof COMPACT_AT)[number];

/** Which tokens share a basis. */
export const BASIS_PER = ['image', 'context'] as const;
export type BasisPer = (typeof BASIS_PER)[number];

/** What bases of keys are best at. */
export const BASES = ['plain', 'weighted'] as const;
export type Bases = (typeof BASES)[number];

/** Ranks of keys and of values. */
export interface Ranks {
  readonly keys: number;
  readonly values: number;
}

/** Whether text stays dense. */
export const TEXTS = ['dense', 'packed'] as const;
export type Text = (typeof TEXTS)[number];

/** How text is packed. */
export interface TextOptions {
  /** This many old tokens of text stand dense before a block of them is packed. Fewer take a basis of their own that is soon larger than they are. Default 128. */
  readonly every?: number;
  /** Text among this many most recent tokens, text or image, stays dense. Default: `recent` where that is given along, else 128. */
  readonly recent?: number;
}

/** How bits are shared out among columns. */
export const SPREADS = ['energy', 'even'] as const;
export type Spread = (typeof SPREADS)[number];

/** When tokens are evicted. */
export const EVICT_WHEN = ['prefill', 'packing', 'always', 'asked'] as const;
export type EvictWhen = (typeof EVICT_WHEN)[number];

/** Which tokens may be evicted. */
export const EVICT_OF = ['images', 'all'] as const;
export type EvictOf = (typeof EVICT_OF)[number];

/** What `keep` is counted for. */
export const EVICT_PER = ['context', 'image'] as const;
export type EvictPer = (typeof EVICT_PER)[number];

/**
 * How a cache lets tokens go for good. A token goes in all layers at once, since slots are shared by them; others keep their slots and positions. A dense token
 * gives its rows back; a packed one its codes, and a segment's basis goes with its last token. Segments are as long as the longest, so codes shrink
 * with the longest one. The bytes of what a policy watches are counted as held.
 */
export interface EvictOptions {
  /** See {@link PolicyName}. Those that go by attention cost five nodes a layer, which `packed()` adds if it is given this option or `mass`. */
  readonly policy: PolicyName;
  /** How many of the tokens that may be evicted stay, for each sequence: below 1 a share of all that were ever seen, from 1 on a number. */
  readonly keep: number;
  /**
   * One of: *prefill* (default): when a prompt with images, or the first one, was read to its end; its own last token has still seen everything. *packing*: of
   * images about to be packed, before they are, so that the encoder sees fewer rows and segments are shorter; goes by the attention known until
   * then. *always*: as *prefill*, and again behind every later run. *asked*: only by `cache.evict()`.
   */
  readonly when?: EvictWhen;
  /** One of: *images* (default): image tokens only, text always stays; *all*: text too. */
  readonly of?: EvictOf;
  /**
   * One of: *context* (default): `keep` is for all images of a sequence, which compete; *image*: each image keeps as many. Packed images of one size then
   * lose equal numbers of rows, so that none is padded to another's length and all of their memory is given back. Not with `of: 'all'`.
   */
  readonly per?: EvictPer;
  /** This many tokens at the start of the sequence always stay, and count towards what is kept. Default 4. */
  readonly sink?: number;
  /** This many of the newest tokens always stay, and count likewise. Default: 0 of *images*, 32 of *all*. */
  readonly recent?: number;
  /** SnapKV: how many of a prompt's newest tokens vote. Default 32. */
  readonly queries?: number;
  /** FastV: the layer whose attention counts, from 1. Default 2, the paper's, or the last where there are fewer. */
  readonly layer?: number;
  /** Random: the seed. Default 0. */
  readonly seed?: number;
}

/** How one cache packs. Every field has a default; see each. */
export interface CacheOptions {
  /**
   * Times smaller than a dense float16 cache of the same tokens, everything counted: codes, bases, steps, indices, and the dense window with sink and text. The
   * first prompt with images decides how columns, codes and bases of each layer and side are held so that attention's output suffers least, and meets it to
   * within less than the next useful step, once it is read; `report().allocation` says how. Further images are held likewise. Instead of `rank`, `bits`
   * and `spread`. Default: none.
   */
  readonly compression?: number;
  /** What `compression` is of. One of: *all* (default): everything the cache holds; *images*: packed images alone, whatever text takes. */
  readonly counted?: Counted;
  /**
   * The same with bytes: a number, or text such as `'256MB'` or `'1.5GiB'`, for one cache with all its sequences. A prompt whose images do not fit beside what is
   * held is an error that says by how much, and leaves the cache as it was. Text and answers behind the images come on top; `report().allocation` tells.
   */
  readonly budget?: number | string;
  /**
   * One of: *auto*: as `compression`, but of the packed images alone and whatever the text, as small as an error of 8 % by estimate
   * allows and at most 16 times; see `options/preset.ts`. *paper*: rank 64 for keys and values or W where that is less, a basis for each image, float16 for all, keys before rotary embedding,
   * a quarter of the tokens read by all columns and the others by half of them, text packed every 100 tokens. What is given along wins. Default: *auto* for a
   * model loaded without `compression`, `budget`, `rank`, `bits` and `spread`.
   */
  readonly preset?: Preset;
  /**
   * What `compression`, `budget` and *auto* spend bytes for. One of: *output* (default): attention's output, errors of keys being weighed by what they do to scores
   * and how far values then differ; *share*: the lost share of the energy of each layer's keys and values alike; *energy*: squared errors as they are, layers
   * and sides with large numbers first. The latter two are controls.
   */
  readonly spend?: Spend;
  /**
   * Columns of the codes: one number for keys and values, or one each. An image of T tokens keeps min(T, rank) columns; its bytes per layer are
   * (T + W)·rank elements for keys and again for values, against 2·T·W dense. Default: *auto* decides (see `preset`); 64, the paper's, or W where that is smaller, beside `bits` or `spread`.
   */
  readonly rank?: number | Ranks;
  /**
   * Where codes or bases are *mixed*: bits per column on average, 1 to 8. The first images packed take at most as many bytes as `rank` columns of so many bits; where
   * bits are spread by energy those may be fewer columns with more bits each, so choose a high rank: 32 of 2 bits lose less than 16 of 4. Default 4.
   */
  readonly bits?: number;
  /**
   * One of: *energy* (default): what is packed first decides, for each layer and side, how many columns have 8, 4, 2 or no bits in codes and in bases, so that
   * the squared error is least for the bytes; *even*: all columns have `bits`, which must then be 8, 4 or 2.
   */
  readonly spread?: Spread;
  /**
   * One of: *context* (default; the paper's): all images of a prompt are packed together after the last of them, so that they see one another
   * exactly, and the dense rows of all of them exist for a while; *span*: each image is packed as soon as its last token was seen, so that
   * at most one image is dense at a time, and later images see earlier ones packed. Text behind the images, and so the first answer
   * token, always reads packed images.
   */
  readonly compactAt?: CompactAt;
  /**
   * One of: *image* (default; the paper's): each image is factored alone and brings its own basis, W·rank elements per layer for keys and again
   * for values; *context*: the images packed together, all of one prompt, share one. With many small images the bases are most of the bytes,
   * so sharing pays for a far higher rank. With `compactAt: 'span'` there is one basis for all images of a sequence, which grows with each of them by what
   * `tolerance` asks for, up to `rank`; codes and bases must then be floats.
   */
  readonly basisPer?: BasisPer;
  /**
   * Of a basis that grows: share of an image's energy (weighted energy where `bases` are) that may be lost before the basis gets new directions for it. Smaller
   * keeps more and fills the basis sooner; what comes when it is full has to do with what is there. Default 0.02.
   */
  readonly tolerance?: number;
  /**
   * What bases of keys are best at. One of: *plain*: keys themselves; *weighted*: scores, errors being weighed by what queries behind images ask for, which
   * `attentionpack calibrate` has found out (see `moments`). Same bytes, same work when read. Default: *weighted* where the model has moments, else *plain*.
   * Bases of values are always plain: weighing tokens by the attention paid to them so far made answers worse, not better.
   */
  readonly bases?: Bases;
  /** This many tokens at the start of the sequence are never packed; attention sinks there. Default 4. */
  readonly sink?: number;
  /** Images among this many most recent tokens stay dense for now. Default 0. Text, where it is packed, has a number of its own: `text.recent`. */
  readonly recent?: number;
  /**
   * One of: *dense* (default): only images are packed; *packed*, or {@link TextOptions}: text too, that of prompts and that of answers, except for sink and newest tokens.
   * Dense text caps what packing images can save: 94 of 670 tokens dense, and all is at most 7.1 times smaller.
   *
   * Text that shares a basis with images (`basisPer: 'context'`) is packed along with them and costs only its codes. Else a block of `every` old tokens or more is a
   * segment with a basis of its own, with `compactAt: 'context'` when a call is over, with *span* as soon as it is there, so that long text is never all dense; and
   * where the basis grows (*context* and *span*), blocks join it. In `m-rope` a token of text stands alone on each axis, so caches of much text are read as in `rotate-late`.
   */
  readonly text?: Text | TextOptions;
  /** Most tokens in one run of the decoder during prefill. Attention probabilities take H·N·(T + S) floats, so wide models want less. Default 256. */
  readonly chunk?: number;
  /** Seed of the randomised SVD. Default 0. */
  readonly seed?: number;
  /** Which tokens are let go, and when; see {@link EvictOptions}. `false`: none, where the model's own default is another. Default: none. */
  readonly evict?: EvictOptions | false;
  /** Which packed tokens are read by all columns, and by how many the others; see {@link TierOptions}. `false`: all by all, where the model's own default is another. Default: none. */
  readonly tiers?: TierOptions | false;
}

/** How a decoder is rewritten; fixed when the model is loaded, since the graph's inputs have these types. */
export interface GraphOptions {
  /**
   * See {@link RotaryMode}. Default: `m-rope` where keys turn by several axes, as in Qwen2-VL (not on WebGPU, where nobody has measured it), else
   * `rotate-late` where the graph allows it, else `post-rope`; the report says which.
   */
  readonly rotary?: RotaryMode;
  /**
   * Element type of codes. `float16` halves and `int8` quarters them against `float32`; a Cast turns them back at each step. `mixed`: columns of 8, 4 and 2 bits, see
   * `bits`; unpacking them takes a few passes over bytes more than the Cast of `int8` and about 25 small nodes a layer and side. Not on WebGPU. Default `float32`.
   */
  readonly codes?: CodeType;
  /**
   * Element type of bases, likewise. `int8` has a step for each row; `mixed` rows of 8, 4 and 2 bits, and where codes are mixed too, both share one budget of
   * `bits`. With many small images bases are most of the bytes, and of what is unpacked at each step: where images share one it is least. Default `float32`.
   */
  readonly basis?: BasisType;
  /**
   * Element type of the dense window: text, and images not yet packed. `float16` halves it against `float32` at the cost of a Cast of the window at each
   * step and of rounding (about 5e-4 of each key and value). Default: the model's own, that of its `past_key_values`.
   */
  readonly window?: WindowType;
  /**
   * Whether the decoder also gives keys before rotary embedding where `post-rope` packs those after it, if its graph has them; for looking at, as
   * `attentionpack inspect --spectrum` does. Costs a copy of the new tokens' keys in every step. Default false.
   */
  readonly rawKeys?: boolean;
  /**
   * Whether the decoder also tells how much attention each token got, for policies of `evict` that go by it. Costs five nodes a layer, and reading the weights
   * of the queries that count once more. Default: whether `evict`, given along, needs it.
   */
  readonly mass?: boolean;
  /**
   * Whether the decoder reads packed tokens in tiers. Costs some 15 nodes a layer (26 in `rotate-late`) beside those of `mass`, also for caches without `tiers`. Not with
   * `mixed` types, nor on WebGPU; where keys turn by several axes `rotary` is then `rotate-late`. Default: whether `tiers` is given along.
   */
  readonly tiered?: boolean;
  /** Whether the decoder also tells the second moment of its queries, which `calibrate` gathers. Costs three to five nodes a layer. Default false. */
  readonly queryMoments?: boolean;
  /**
   * File that `attentionpack calibrate` wrote, for bases that are *weighted*; 4·L·Hkv·D² bytes in memory, for all caches together. `false`: none. Default:
   * `query_moments.safetensors` in the model's folder, if it is there.
   */
  readonly moments?: string | false;
}

export interface PackedOptions extends CacheOptions, GraphOptions {}

/** Options after the border: complete, checked, trusted. */
export interface ResolvedCacheOptions {
  readonly rank: Ranks;
  readonly compactAt: CompactAt;
  readonly basisPer: BasisPer;
  readonly bases?: Bases;
  readonly tolerance?: number;
  readonly sink: number;
  readonly recent: number;
  readonly chunk: number;
  readonly seed: number;
  /** `false`: dense. */
  readonly text?: Required<TextOptions> | false;
  readonly evict?: ResolvedEviction | false;
  readonly tiers?: ResolvedTiers | false;
  /** Undefined: not said. */
  readonly bits?: number;
  readonly spread?: Spread;
  /** Present: bytes are shared out, and `rank` is only the most columns there may be. */
  readonly target?: Target;
  readonly preset?: Preset;
}

export type ResolvedEviction = Required<EvictOptions>;

/** Of the energy that a growing basis may lose for an image. */
const DEFAULT_TOLERANCE = 0.02;

/** Whether a sequence has one basis, which grows as its images are packed. */
export function isGrowing({ basisPer, compactAt }: Pick<ResolvedCacheOptions, 'basisPer' | 'compactAt'>): boolean {
  return basisPer === 'context' && compactAt === 'span';
}

/**
 * How far a basis may grow; undefined where none does.
 *
 * @throws {AttentionPackError} if codes or bases are held as levels, whose steps are made for the tokens that are there
 */
export function growthOf(
  { codes, basis }: { readonly codes: CodeType; readonly basis: BasisType },
  options: ResolvedCacheOptions,
): { readonly rank: Ranks; readonly tolerance: number } | undefined {
  if (!isGrowing(options)) return undefined;
  if ([codes, basis].some((type) => type !== 'float32' && type !== 'float16')) {
    throw new AttentionPackError(
      `a basis that grows (basisPer 'context', compactAt 'span') needs codes and basis float32 or float16, got '${codes}' and '${basis}'`,
    );
  }
  return { rank: options.rank, tolerance: options.tolerance ?? DEFAULT_TOLERANCE };
}

/**
 * Checks cache options against a model and fills in what is left out: from `defaults`, or as the options' own prose says.
 *
 * @throws {AttentionPackError} for a rank beyond the model's width, negative or fractional counts, unknown names, options that exclude one another.
 */
export function resolveCacheOptions(
  options: CacheOptions,
  shape: ModelShape,
  defaults: Partial<ResolvedCacheOptions> = {},
): ResolvedCacheOptions {
  const target = resolveTarget(options, defaults);
  const ranks = resolveRanks(options, shape, defaults, target);
  const compactAt = oneOf('compactAt', options.compactAt ?? defaults.compactAt ?? 'context', COMPACT_AT);
  const basisPer = oneOf('basisPer', options.basisPer ?? defaults.basisPer ?? 'image', BASIS_PER);
  const tolerance = options.tolerance ?? defaults.tolerance ?? DEFAULT_TOLERANCE;
  if (typeof tolerance !== 'number' || !(tolerance >= 0 && tolerance < 1))
    throw new AttentionPackError(
      `tolerance must be a share from 0 to below 1, got ${typeof tolerance === 'string' ? `'${tolerance}'` : tolerance}`,
    );
  if (options.tolerance !== undefined && !isGrowing({ basisPer, compactAt }))
    throw new AttentionPackError(
      `tolerance is of a basis that grows, which needs basisPer 'context' and compactAt 'span'; got '${basisPer}' and '${compactAt}'`,
    );
  if (target && isGrowing({ basisPer, compactAt }))
    throw new AttentionPackError(
      `${nameOf(target)} cannot be had of a basis that grows, whose size is not known before (basisPer 'context', compactAt 'span'); use compactAt 'context' or basisPer 'image', or give rank`,
    );
  const text = options.text === undefined ? (defaults.text ?? false) : resolveText(options.text, options.recent);
  const recent = count('recent', options.recent ?? defaults.recent ?? 0, 0);
  if (target && text && (compactAt === 'span' || recent > 0))
    throw new AttentionPackError(
      `${nameOf(target)} cannot be had of packed text with ${recent > 0 ? `recent ${recent}` : "compactAt 'span'"}, where what shares a basis is not known before; use ${recent > 0 ? 'text: { recent }, which leaves images alone' : "compactAt 'context'"}, or give rank`,
    );
  const preset = options.preset ?? defaults.preset;
  return {
    rank: ranks,
    compactAt,
    basisPer,
    tolerance,
    bases: oneOf('bases', options.bases ?? defaults.bases ?? 'plain', BASES),
    sink: count('sink', options.sink ?? defaults.sink ?? 4, 0),
    recent,
    chunk: count('chunk', options.chunk ?? defaults.chunk ?? 256, 1),
    seed: count('seed', options.seed ?? defaults.seed ?? 0, 0),
    ...(target ? { target } : resolveBits(options, defaults, ranks)),
    ...(preset && { preset }),
    text,
    evict: options.evict ? resolveEviction(options.evict, shape) : (options.evict ?? defaults.evict ?? false),
    tiers: resolvedTiers(options.tiers ?? (options.preset === 'paper' ? paperTiers(ranks) : (defaults.tiers ?? false)), ranks),
  };
}

/** Old tokens of text that are packed at once, and newest tokens that are not. */
const DEFAULT_TEXT = { every: 128, recent: 128 } as const;

/** @throws {AttentionPackError} for an unknown word, negative or fractional counts */
function resolveText(text: Text | TextOptions, recent: number | undefined): Required<TextOptions> | false {
  if (typeof text !== 'object' || text === null) {
    return oneOf('text', text, TEXTS) === 'packed' && { ...DEFAULT_TEXT, ...(recent !== undefined && { recent }) };
  }
  return {
    every: count('text.every', text.every ?? DEFAULT_TEXT.every, 1),
    recent: count('text.recent', text.recent ?? recent ?? DEFAULT_TEXT.recent, 0),
  };
}

/**
 * @param graph how the decoder was rewritten
 * @throws {AttentionPackError} if bases are to be weighted by moments that the model has not
 */
export function checkBases({ metrics }: { readonly metrics?: readonly unknown[] | undefined }, { bases }: ResolvedCacheOptions): void {
  if (bases !== 'weighted' || metrics) return;
  throw new AttentionPackError(
    "bases 'weighted' needs the model's query moments; make them with 'attentionpack calibrate <model>', then load it again or name them as moments",
  );
}

/** @throws {AttentionPackError} for unknown names, a share or number that keeps nothing, a layer the model has not. */
export function resolveEviction(options: EvictOptions, shape: ModelShape): ResolvedEviction {
  const numLayers = shape.layers.length;
  const of = oneOf('evict.of', options.of ?? 'images', EVICT_OF);
  const per = oneOf('evict.per', options.per ?? 'context', EVICT_PER);
  if (per === 'image' && of === 'all')
    throw new AttentionPackError("evict.per 'image' needs evict.of 'images', got 'all'; text belongs to no image");
  const { keep } = options;
  if (typeof keep !== 'number' || !(keep > 0 && (keep < 1 || Number.isInteger(keep))))
    throw new AttentionPackError(
      `evict.keep must be a share between 0 and 1 or a whole number of tokens >= 1, got ${typeof keep === 'string' ? `'${keep}'` : keep}`,
    );
  const layer = count('evict.layer', options.layer ?? Math.min(2, numLayers), 1);
  if (layer > numLayers)
    throw new AttentionPackError(`evict.layer ${layer} exceeds the model's ${numLayers} layers; use 1 to ${numLayers}`);
  return {
    policy: oneOf('evict.policy', options.policy, POLICY_NAMES),
    keep,
    when: oneOf('evict.when', options.when ?? 'prefill', EVICT_WHEN),
    of,
    per,
    sink: count('evict.sink', options.sink ?? 4, 0),
    recent: count('evict.recent', options.recent ?? (of === 'all' ? 32 : 0), 0),
    queries: count('evict.queries', options.queries ?? 32, 1),
    layer,
    seed: count('evict.seed', options.seed ?? 0, 0),
  };
}

/** Whether a policy goes by attention, which only a graph rewritten for it gives. */
export function needsMass(evict: EvictOptions | false | undefined): boolean {
  if (!evict || !Object.hasOwn(POLICIES, evict.policy)) return false;
  return POLICIES[evict.policy].watch({ queries: 1, layer: 1, seed: 0 }).mass !== undefined;
}

const resolvedTiers = (tiers: TierOptions | false, ranks: Ranks): ResolvedTiers | false => tiers && resolveTiers(tiers, ranks);

/** @throws {AttentionPackError} for unknown names. */
export function checkGraphOptions(options: GraphOptions): GraphOptions {
  if (options.rotary !== undefined) oneOf('rotary', options.rotary, ROTARY_MODES);
  if (options.codes !== undefined) oneOf('codes', options.codes, CODE_TYPES);
  if (options.basis !== undefined) oneOf('basis', options.basis, BASIS_TYPES);
  if (options.window !== undefined) oneOf('window', options.window, WINDOW_TYPES);
  if (options.rawKeys !== undefined && typeof options.rawKeys !== 'boolean')
    throw new AttentionPackError(`rawKeys must be true or false; got '${options.rawKeys}'`);
  if (options.mass !== undefined && typeof options.mass !== 'boolean')
    throw new AttentionPackError(`mass must be true or false; got '${options.mass}'`);
  if (options.tiered !== undefined && typeof options.tiered !== 'boolean')
    throw new AttentionPackError(`tiered must be true or false; got '${options.tiered}'`);
  if (options.queryMoments !== undefined && typeof options.queryMoments !== 'boolean')
    throw new AttentionPackError(`queryMoments must be true or false; got '${options.queryMoments}'`);
  if (options.moments !== undefined && options.moments !== false && typeof options.moments !== 'string')
    throw new AttentionPackError(`moments must be a file's name or false; got '${options.moments}'`);
  return options;
}

export function count(name: string, value: number, least: number): number {
  if (!Number.isInteger(value) || value < least)
    throw new AttentionPackError(`${name} must be a whole number >= ${least}, got ${typeof value === 'string' ? `'${value}'` : value}`);
  return value;
}

/** @throws {AttentionPackError} naming the value and what is allowed. */
export function oneOf<const T extends string>(name: string, value: string, allowed: readonly T[]): T {
  const found = allowed.find((candidate) => candidate === value);
  if (!found) throw new AttentionPackError(`${name} must be one of ${allowed.join(', ')}; got '${value}'`);
  return found;
}
