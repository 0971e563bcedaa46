/** Arguments several commands share, and their checks. */
import type { ArgsDef } from 'citty';
import { SPENDS } from '../cache/prices.ts';
import { AttentionPackError } from '../errors.ts';
import { PRESETS } from '../options/preset.ts';
import { COUNTED } from '../options/target.ts';
import { BASES, BASIS_PER, COMPACT_AT, oneOf, type PackedOptions, SPREADS, TEXTS } from '../options.ts';
import { BASIS_TYPES, CODE_TYPES, ROTARY_MODES, WINDOW_TYPES } from '../shape.ts';
import { TIERS_OF } from '../tier-options.ts';

/** How to pack; the same words as the options of the library. */
export const packingArgs = {
  compression: {
    type: 'string',
    description:
      'times smaller than a dense float16 cache, everything counted; bits and columns are shared out for it (instead of rank and bits)',
  },
  counted: { type: 'string', description: `what --compression is of: ${COUNTED.join(' or ')} (default: all)` },
  budget: { type: 'string', description: "the same as bytes, such as 2MB or 1.5GiB, when the prompt's images are packed" },
  preset: { type: 'string', description: `${PRESETS.join(' or ')}: bytes shared out at a safe ratio, or the paper's ranks` },
  spend: { type: 'string', description: `what bytes are shared out for: ${SPENDS.join(', ')} (default: output)` },
  rank: {
    type: 'string',
    description: 'columns of the codes: one number, or keys,values (default: 64, or the width where that is smaller)',
  },
  rotary: {
    type: 'string',
    description: `${ROTARY_MODES.join(', ')} (default: m-rope where keys turn by several axes, else rotate-late where the graph allows it)`,
  },
  codes: { type: 'string', description: `element type of codes: ${CODE_TYPES.join(', ')} (default: float32)` },
  basis: { type: 'string', description: `element type of bases: ${BASIS_TYPES.join(', ')} (default: float32)` },
  bits: { type: 'string', description: 'with mixed codes or bases, bits a column has on average, 1 to 8 (default: 4)' },
  spread: { type: 'string', description: `how bits are shared out among columns: ${SPREADS.join(' or ')} (default: energy)` },
  window: { type: 'string', description: `element type of the dense window: ${WINDOW_TYPES.join(', ')} (default: the model's own)` },
  'compact-at': { type: 'string', description: `when images are packed: ${COMPACT_AT.join(' or ')} (default: context)` },
  'basis-per': { type: 'string', description: `what shares a basis: ${BASIS_PER.join(' or ')} (default: image)` },
  text: {
    type: 'string',
    description: `${TEXTS.join(' or ')}; packed, old text goes the way of images, in prompts and answers (default: dense)`,
  },
  recent: {
    type: 'string',
    description: 'this many newest tokens stay dense (default: 0, and of text 128)',
  },
  bases: {
    type: 'string',
    description: `what bases of keys are best at: ${BASES.join(' or ')} (default: weighted where 'attentionpack calibrate' was run)`,
  },
  tolerance: {
    type: 'string',
    description: 'with --basis-per context and --compact-at span, share of energy an image may lose before the basis grows (default: 0.02)',
  },
  tiers: {
    type: 'string',
    description: 'share of packed tokens that are read by all columns, those that got most attention; with --tier-rank',
  },
  'tier-rank': { type: 'string', description: 'columns that the others are read by: one number, or keys,values' },
  'tier-of': { type: 'string', description: `what is read in tiers: ${TIERS_OF.join(', ')} (default: both)` },
  'tier-every': { type: 'string', description: 'steps after which tokens are dealt to tiers anew (default: 8)' },
  chunk: { type: 'string', description: 'most tokens in one run during prefill (default: 256)' },
} as const satisfies ArgsDef;

export const jsonArg = {
  json: { type: 'boolean', description: 'print the result as one JSON object, the last line of stdout' },
} as const satisfies ArgsDef;

/** Packing options from parsed arguments; names the argument in every complaint. */
export function packingOptions(args: Readonly<Record<string, unknown>>): PackedOptions {
  const text = (name: string): string | undefined => (args[name] === undefined ? undefined : String(args[name]));
  const [rank, rotary, codes, basis, bits, spread, window, compactAt, basisPer, keptText, recent, bases, tolerance, chunk] = [
    'rank',
    'rotary',
    'codes',
    'basis',
    'bits',
    'spread',
    'window',
    'compact-at',
    'basis-per',
    'text',
    'recent',
    'bases',
    'tolerance',
    'chunk',
  ].map(text);
  const [compression, counted, budget, preset, spend] = ['compression', 'counted', 'budget', 'preset', 'spend'].map(text);
  return {
    ...tierOptions(text),
    ...(compression === undefined ? {} : { compression: numberOf('--compression', compression) }),
    ...(counted === undefined ? {} : { counted: oneOf('--counted', counted, COUNTED) }),
    ...(budget === undefined ? {} : { budget }),
    ...(preset === undefined ? {} : { preset: oneOf('--preset', preset, PRESETS) }),
    ...(spend === undefined ? {} : { spend: oneOf('--spend', spend, SPENDS) }),
    ...(rank === undefined ? {} : { rank: parseRank('--rank', rank) }),
    ...(rotary === undefined ? {} : { rotary: oneOf('--rotary', rotary, ROTARY_MODES) }),
    ...(codes === undefined ? {} : { codes: oneOf('--codes', codes, CODE_TYPES) }),
    ...(basis === undefined ? {} : { basis: oneOf('--basis', basis, BASIS_TYPES) }),
    ...(bits === undefined ? {} : { bits: bitsPerColumn('--bits', bits) }),
    ...(spread === undefined ? {} : { spread: oneOf('--spread', spread, SPREADS) }),
    ...(window === undefined ? {} : { window: oneOf('--window', window, WINDOW_TYPES) }),
    ...(compactAt === undefined ? {} : { compactAt: oneOf('--compact-at', compactAt, COMPACT_AT) }),
    ...(basisPer === undefined ? {} : { basisPer: oneOf('--basis-per', basisPer, BASIS_PER) }),
    ...(keptText === undefined ? {} : { text: oneOf('--text', keptText, TEXTS) }),
    ...(recent === undefined ? {} : { recent: recent.trim() === '0' ? 0 : wholeNumber('--recent', recent) }),
    ...(bases === undefined ? {} : { bases: oneOf('--bases', bases, BASES) }),
    ...(tolerance === undefined ? {} : { tolerance: share('--tolerance', tolerance) }),
    ...(chunk === undefined ? {} : { chunk: wholeNumber('--chunk', chunk) }),
  };
}

/** @throws {AttentionPackError} unless a share and the others' rank are both given, or nothing of tiers */
function tierOptions(text: (name: string) => string | undefined): PackedOptions {
  const [tiers, rank, of, every] = ['tiers', 'tier-rank', 'tier-of', 'tier-every'].map(text);
  if (tiers === undefined && rank === undefined && of === undefined && every === undefined) return {};
  if (tiers === undefined || rank === undefined)
    throw new AttentionPackError(
      '--tiers takes a share of tokens and needs --tier-rank, the columns the others are read by; such as --tiers 0.25 --tier-rank 16',
    );
  return {
    tiers: {
      share: tiers === '1' ? 1 : share('--tiers', tiers),
      rank: parseRank('--tier-rank', rank),
      ...(of === undefined ? {} : { of: oneOf('--tier-of', of, TIERS_OF) }),
      ...(every === undefined ? {} : { every: wholeNumber('--tier-every', every) }),
    },
  };
}

function parseRank(name: string, text: string): number | { keys: number; values: number } {
  const parts = text.split(',').map((part) => wholeNumber(name, part));
  const [keys, values] = parts;
  if (keys === undefined || parts.length > 2) throw new AttentionPackError(`${name} takes one number or keys,values; got '${text}'`);
  return values === undefined ? keys : { keys, values };
}

/** @throws {AttentionPackError} unless the text is a number from 0 to below 1 */
export function share(name: string, text: string): number {
  if (!/^0?\.\d+$|^0$/.test(text)) throw new AttentionPackError(`${name} takes a share from 0 to below 1; got '${text}'`);
  return Number(text);
}

/** @throws {AttentionPackError} unless the text is a number */
export function numberOf(name: string, text: string): number {
  if (!/^\d+(\.\d+)?$/.test(text)) throw new AttentionPackError(`${name} takes a number; got '${text}'`);
  return Number(text);
}

/** @throws {AttentionPackError} unless the text is a number from 1 to 8 */
export function bitsPerColumn(name: string, text: string): number {
  const bits = Number(text);
  if (!/^\d+(\.\d+)?$/.test(text) || !(bits >= 1 && bits <= 8))
    throw new AttentionPackError(`${name} takes a number from 1 to 8; got '${text}'`);
  return bits;
}

/** @throws {AttentionPackError} unless the text is a whole number >= 1 */
export function wholeNumber(name: string, text: string): number {
  if (!/^[1-9]\d*$/.test(text.trim())) throw new AttentionPackError(`${name} takes a whole number >= 1; got '${text}'`);
  return Number(text);
}

/** @throws {AttentionPackError} if a positional argument was left out */
export function needed(name: string, value: string | undefined): string {
  if (value === undefined || value === '') throw new AttentionPackError(`<${name}> is missing; see --help`);
  return value;
}
