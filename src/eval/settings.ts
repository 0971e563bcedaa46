/** Cache settings as `--cache` names them: ways to hold a context that are measured side by side. */
import { SPENDS } from '../cache/prices.ts';
import { AttentionPackError } from '../errors.ts';
import { PRESETS } from '../options/preset.ts';
import { bytesOf, COUNTED } from '../options/target.ts';
import {
  BASES,
  BASIS_PER,
  COMPACT_AT,
  EVICT_OF,
  EVICT_PER,
  EVICT_WHEN,
  type EvictOptions,
  oneOf,
  type PackedOptions,
  type Ranks,
  SPREADS,
  TEXTS,
  type TextOptions,
} from '../options.ts';
import { SCALES, type Scales } from '../passes/quantised-cache.ts';
import { POLICY_NAMES } from '../policies/index.ts';
import { BASIS_TYPES, CODE_TYPES, ROTARY_MODES, WINDOW_TYPES } from '../shape.ts';
import { TIERS_OF, type TierOptions } from '../tier-options.ts';

/** One way to hold a context. Names are unique and canonical: the same setting always has the same one. */
export type CacheSetting =
  | { readonly kind: 'dense'; readonly name: string; readonly dtype?: 'fp32'; readonly halfResolution?: boolean }
  | { readonly kind: 'quantised'; readonly name: string; readonly bits: 8 | 4; readonly scales: Scales }
  | { readonly kind: 'packed'; readonly name: string; readonly options: PackedOptions };

/** The setting all others are held against, and always measured. */
export const DENSE = { kind: 'dense', name: 'dense' } as const satisfies CacheSetting;

/** Every name with what it means, as `--help` and reports print it. */
export const SETTINGS: Readonly<Record<string, string>> = {
  dense: 'transformers.js as it is; all others are paired with it',
  'dense-fp32': "the same in float32 weights: the noise floor of the weights' precision",
  'dense-fp16': 'our graph with nothing packed and its rows in float16: the noise floor of a float16 cache',
  'half-resolution':
    'the dense cache of pictures with half as many pixels a side: as many tokens with less in them, or fewer tokens where size decides',
  int8: "ONNX Runtime's own 8-bit cache; int8:scales=tensor for one scale a layer and side instead of one a column",
  int4: "ONNX Runtime's own 4-bit cache; likewise",
  packed:
    'images packed; packed:8 is packed:rank=8, packed:auto is packed:preset=auto; further options: compression, counted, budget, spend, rank=keys/values, rotary, codes, basis, bits, spread, window, basis-per, tolerance, bases, compact-at, sink, recent, text, text-every, text-recent, chunk, seed; tiers and tier-rank, with tier-of, tier-every; evict and keep, with evict-when, evict-of, evict-per, evict-sink, evict-recent, evict-queries, evict-layer, evict-seed',
  evict:
    'nothing packed, rows in float16, image tokens evicted by a policy: evict:snapkv,keep=0.25 is evict:evict=snapkv,keep=0.25; further options: those of packed that begin with evict',
};

/** What is measured unless told otherwise. */
export const DEFAULT_SETTINGS = 'dense,int8,int4,packed';

/** Nothing is packed: no image is older than `recent` tokens. Rows of float16, as dense caches are counted. */
const UNPACKED = { window: 'float16', rotary: 'post-rope', recent: 2 ** 30 } as const satisfies PackedOptions;

/**
 * Settings from text such as `dense,int8,packed:8,packed:rank=64/32,rotary=post-rope`: a part with `=` and no setting's name before it belongs to the
 * setting before it. Dense comes first, named or not.
 *
 * @throws {AttentionPackError} for unknown names and values, and for a setting given twice
 */
export function parseSettings(text: string): CacheSetting[] {
  const items: string[] = [];
  for (const part of text.split(',').map((item) => item.trim())) {
    const last = items.at(-1);
    if (/^[a-z-]+=/.test(part) && last !== undefined) items[items.length - 1] = `${last}${last.includes(':') ? ',' : ':'}${part}`;
    else items.push(part);
  }
  const settings = items.map(parseSetting);
  const twice = settings.find(({ name }, i) => settings.findIndex((other) => other.name === name) < i);
  if (twice) throw new AttentionPackError(`cache setting '${twice.name}' is given twice; leave one out`);
  return [DENSE, ...settings.filter(({ name }) => name !== DENSE.name)];
}

/** @throws {AttentionPackError} for an unknown name or value */
export function parseSetting(text: string): CacheSetting {
  const [name = '', rest] = splitOnce(text, ':');
  const given = rest === undefined ? [] : rest.split(',').map((part) => splitOnce(part, '='));
  switch (name) {
    case 'dense':
      return plain(text, given, DENSE);
    case 'dense-fp32':
      return plain(text, given, { kind: 'dense', name, dtype: 'fp32' });
    case 'dense-fp16':
      return plain(text, given, { kind: 'packed', name, options: UNPACKED });
    case 'half-resolution':
      return plain(text, given, { kind: 'dense', name, halfResolution: true });
    case 'int8':
    case 'int4':
      return quantised(text, name, given);
    case 'packed':
      return packedSetting(text, given);
    case 'evict':
      return evictSetting(text, given);
    default:
      throw new AttentionPackError(`'${text}' is not a cache setting; use ${Object.keys(SETTINGS).join(', ')}`);
  }
}

type Given = readonly (readonly [string, string?])[];

function plain(text: string, given: Given, setting: CacheSetting): CacheSetting {
  if (given.length) throw new AttentionPackError(`cache setting '${setting.name}' takes no options; got '${text}'`);
  return setting;
}

function quantised(text: string, name: 'int8' | 'int4', given: Given): CacheSetting {
  let scales: Scales = 'channel';
  for (const [key, value] of given) {
    if (key !== 'scales' || value === undefined)
      throw new AttentionPackError(`'${text}': ${name} takes scales=${SCALES.join(' or scales=')}; got '${key}'`);
    scales = oneOf(`${name}:scales`, value, SCALES);
  }
  return { kind: 'quantised', name: scales === 'channel' ? name : `${name}:scales=${scales}`, bits: name === 'int8' ? 8 : 4, scales };
}

/** How each option of `packed` is read; the words of the command line. */
const PACKED_OPTIONS: Readonly<Record<string, (value: string, where: string) => PackedOptions>> = {
  preset: (value, where) => ({ preset: oneOf(where, value, PRESETS) }),
  compression: (value, where) => ({ compression: times(value, where) }),
  counted: (value, where) => ({ counted: oneOf(where, value, COUNTED) }),
  budget: (value) => ({ budget: bytesOf(value) }),
  spend: (value, where) => ({ spend: oneOf(where, value, SPENDS) }),
  rank: (value, where) => ({ rank: ranks(value, where) }),
  rotary: (value, where) => ({ rotary: oneOf(where, value, ROTARY_MODES) }),
  codes: (value, where) => ({ codes: oneOf(where, value, CODE_TYPES) }),
  basis: (value, where) => ({ basis: oneOf(where, value, BASIS_TYPES) }),
  bits: (value, where) => ({ bits: bitsPerColumn(value, where) }),
  spread: (value, where) => ({ spread: oneOf(where, value, SPREADS) }),
  window: (value, where) => ({ window: oneOf(where, value, WINDOW_TYPES) }),
  'basis-per': (value, where) => ({ basisPer: oneOf(where, value, BASIS_PER) }),
  tolerance: (value, where) => ({ tolerance: shareBelowOne(value, where) }),
  bases: (value, where) => ({ bases: oneOf(where, value, BASES) }),
  'compact-at': (value, where) => ({ compactAt: oneOf(where, value, COMPACT_AT) }),
  sink: (value, where) => ({ sink: whole(value, where, 0) }),
  recent: (value, where) => ({ recent: whole(value, where, 0) }),
  text: (value, where) => ({ text: oneOf(where, value, TEXTS) }),
  chunk: (value, where) => ({ chunk: whole(value, where, 1) }),
  seed: (value, where) => ({ seed: whole(value, where, 0) }),
};

/** How each word of packed text is read; any of them packs it. */
const TEXT_OPTIONS: Readonly<Record<string, (value: string, where: string) => TextOptions>> = {
  'text-every': (value, where) => ({ every: whole(value, where, 1) }),
  'text-recent': (value, where) => ({ recent: whole(value, where, 0) }),
};

/** How each word of tiers is read. */
const TIER_WORDS: Readonly<Record<string, (value: string, where: string) => Partial<TierOptions>>> = {
  tiers: (value, where) => ({ share: shareOrOne(value, where) }),
  'tier-rank': (value, where) => ({ rank: ranks(value, where) }),
  'tier-of': (value, where) => ({ of: oneOf(where, value, TIERS_OF) }),
  'tier-every': (value, where) => ({ every: whole(value, where, 1) }),
};

/** How each word of eviction is read; `keep` alone has no prefix, since nothing else is kept. */
const EVICT_OPTIONS: Readonly<Record<string, (value: string, where: string) => Partial<EvictOptions>>> = {
  evict: (value, where) => ({ policy: oneOf(where, value, POLICY_NAMES) }),
  keep: (value, where) => ({ keep: shareOrWhole(value, where) }),
  'evict-when': (value, where) => ({ when: oneOf(where, value, EVICT_WHEN) }),
  'evict-of': (value, where) => ({ of: oneOf(where, value, EVICT_OF) }),
  'evict-per': (value, where) => ({ per: oneOf(where, value, EVICT_PER) }),
  'evict-sink': (value, where) => ({ sink: whole(value, where, 0) }),
  'evict-recent': (value, where) => ({ recent: whole(value, where, 0) }),
  'evict-queries': (value, where) => ({ queries: whole(value, where, 1) }),
  'evict-layer': (value, where) => ({ layer: whole(value, where, 1) }),
  'evict-seed': (value, where) => ({ seed: whole(value, where, 0) }),
};

function packedSetting(text: string, given: Given): CacheSetting {
  const words = [PACKED_OPTIONS, TEXT_OPTIONS, TIER_WORDS, EVICT_OPTIONS].flatMap((options) => Object.keys(options));
  const values = valuesOf(text, 'packed', given, words, 'rank');
  const { text: word, ...others } = read(PACKED_OPTIONS, values, 'packed') as PackedOptions;
  const counts = read(TEXT_OPTIONS, values, 'packed') as TextOptions;
  const hasCounts = Object.keys(counts).length > 0;
  if (hasCounts && word === 'dense')
    throw new AttentionPackError(`'${text}': text-every and text-recent are of packed text, and text is dense`);
  const options: PackedOptions = { ...others, ...(hasCounts ? { text: counts } : word && { text: word }) };
  const [tiers, evict] = [tiersOf(text, values), evictOf(text, 'packed', values)];
  const all = { ...options, ...(tiers && { tiers }), ...(evict && { evict }) };
  return { kind: 'packed', name: nameOf('packed', values, words, 'rank'), options: all };
}

function evictSetting(text: string, given: Given): CacheSetting {
  const words = Object.keys(EVICT_OPTIONS);
  const values = valuesOf(text, 'evict', given, words, 'evict');
  const evict = evictOf(text, 'evict', values);
  if (!evict) throw new AttentionPackError(`'${text}': evict takes a policy: ${POLICY_NAMES.join(', ')}; and keep`);
  return { kind: 'packed', name: nameOf('evict', values, words, 'evict'), options: { ...UNPACKED, evict } };
}

/** @throws {AttentionPackError} if a share and the others' rank are not both given, or options of tiers without them */
function tiersOf(text: string, values: ReadonlyMap<string, string>): TierOptions | undefined {
  const { share, rank, ...others } = read(TIER_WORDS, values, 'packed') as Partial<TierOptions>;
  if (share !== undefined && rank !== undefined) return { share, rank, ...others };
  if (share === undefined && rank === undefined && !Object.keys(others).length) return undefined;
  throw new AttentionPackError(`'${text}': tiers need a share and the rank of the others, such as tiers=0.25,tier-rank=16`);
}

/** @throws {AttentionPackError} if policy and what it keeps are not both given, or options of it without them */
function evictOf(text: string, name: string, values: ReadonlyMap<string, string>): EvictOptions | undefined {
  const { policy, keep, ...others } = read(EVICT_OPTIONS, values, name) as Partial<EvictOptions>;
  if (policy !== undefined && keep !== undefined) return { policy, keep, ...others };
  if (policy === undefined && keep === undefined && !Object.keys(others).length) return undefined;
  throw new AttentionPackError(`'${text}': evict needs a policy and what to keep of it, such as evict=snapkv,keep=0.25`);
}

/** Values by word. @param short the word that may be left out */
function valuesOf(text: string, name: string, given: Given, words: readonly string[], short: string): Map<string, string> {
  const values = new Map<string, string>();
  for (const [key, value] of given) {
    const [option, said] = value === undefined ? [PRESETS.some((preset) => preset === key) ? 'preset' : short, key] : [key, value];
    if (!words.includes(option)) throw new AttentionPackError(`'${text}': ${name} has no option '${option}'; it has ${words.join(', ')}`);
    if (values.has(option)) throw new AttentionPackError(`'${text}': ${option} is given twice`);
    values.set(option, said);
  }
  return values;
}

function read<T>(
  options: Readonly<Record<string, (value: string, where: string) => T>>,
  values: ReadonlyMap<string, string>,
  name: string,
): T {
  return Object.assign({}, ...[...values].map(([key, value]) => options[key]?.(value, `${name}:${key}`))) as T;
}

/** Options in the order of the words; the short one goes without its name. */
function nameOf(name: string, values: ReadonlyMap<string, string>, words: readonly string[], short: string): string {
  const parts = words.flatMap((key) => {
    const value = values.get(key);
    return value === undefined ? [] : [key === short ? value : `${key}=${key === 'keep' ? Number(value) : value}`];
  });
  return parts.length ? `${name}:${parts.join(',')}` : name;
}

function ranks(text: string, where: string): number | Ranks {
  const [keys = '', values] = splitOnce(text, '/');
  const first = whole(keys, where, 1);
  return values === undefined ? first : { keys: first, values: whole(values, where, 1) };
}

function shareBelowOne(text: string, where: string): number {
  // One way to write each: settings go by their names.
  if (!/^0(\.\d*[1-9])?$/.test(text)) throw new AttentionPackError(`${where} takes a share below 1 such as 0.02; got '${text}'`);
  return Number(text);
}

function shareOrOne(text: string, where: string): number {
  if (!/^(0\.\d*[1-9]|1)$/.test(text)) throw new AttentionPackError(`${where} takes a share such as 0.25, at most 1; got '${text}'`);
  return Number(text);
}

function times(text: string, where: string): number {
  if (!/^[1-9]\d*(\.\d*[1-9])?$/.test(text)) throw new AttentionPackError(`${where} takes a number >= 1 such as 8; got '${text}'`);
  return Number(text);
}

function bitsPerColumn(text: string, where: string): number {
  const bits = Number(text);
  if (!/^\d*\.?\d+$/.test(text) || !(bits >= 1 && bits <= 8))
    throw new AttentionPackError(`${where} takes a number from 1 to 8; got '${text}'`);
  return bits;
}

function whole(text: string, where: string, least: number): number {
  if (!/^\d+$/.test(text) || Number(text) < least) throw new AttentionPackError(`${where} takes a whole number >= ${least}; got '${text}'`);
  return Number(text);
}

function shareOrWhole(text: string, where: string): number {
  const value = /^(0?\.)?\d+$/.test(text) ? Number(text) : 0;
  if (value <= 0) throw new AttentionPackError(`${where} takes a share below 1 or a whole number >= 1; got '${text}'`);
  return value;
}

function splitOnce(text: string, separator: string): [string, string?] {
  const at = text.indexOf(separator);
  return at < 0 ? [text] : [text.slice(0, at), text.slice(at + separator.length)];
}
