/** How many bytes a cache may take, as asked for. */
import { SPENDS, type Spend } from '../cache/prices.ts';
import { AttentionPackError } from '../errors.ts';
import { type CacheOptions, oneOf, type ResolvedCacheOptions } from '../options.ts';
import { AUTO_COMPRESSION, checkAlone, PRESETS } from './preset.ts';

/** What bytes are shared out for, and how many. */
export type Target = { readonly spend: Spend; readonly isAuto?: boolean } & (
  | { readonly counted: 'all'; readonly bytes: number }
  | { readonly counted: Counted; readonly compression: number }
);

/** What a compression is of. */
export const COUNTED = ['all', 'images'] as const;
export type Counted = (typeof COUNTED)[number];

/** As users named it. */
export function nameOf(target: Target): string {
  if (target.isAuto) return "preset 'auto'";
  if ('bytes' in target) return `budget ${target.bytes}`;
  return `compression ${target.compression}${target.counted === 'images' ? ' of images' : ''}`;
}

/**
 * @returns undefined where ranks and bits say what is kept
 * @throws {AttentionPackError} for values that are none, and options that exclude one another
 */
export function resolveTarget(options: CacheOptions, defaults: Partial<ResolvedCacheOptions>): Target | undefined {
  checkAlone(options);
  const { compression, counted, budget, preset, rank, bits, spread } = options;
  if (preset !== undefined) oneOf('preset', preset, PRESETS);
  const spend = oneOf('spend', options.spend ?? defaults.target?.spend ?? 'output', SPENDS);
  if (counted !== undefined) oneOf('counted', counted, COUNTED);
  if (counted !== undefined && compression === undefined) throw new AttentionPackError('counted says what compression is of, and needs it');
  if (compression !== undefined) {
    if (typeof compression !== 'number' || !(compression >= 1 && compression < Number.POSITIVE_INFINITY))
      throw new AttentionPackError(`compression must be a number >= 1 (8: eight times smaller), got ${shown(compression)}`);
    return { counted: counted ?? 'all', compression, spend };
  }
  if (budget !== undefined) return { counted: 'all', bytes: bytesOf(budget), spend };
  if (preset === 'auto') return { counted: 'images', compression: AUTO_COMPRESSION, spend, isAuto: true };
  const isFixed = preset !== undefined || rank !== undefined || bits !== undefined || spread !== undefined;
  const target = isFixed || !defaults.target ? undefined : { ...defaults.target, spend };
  if (!target && options.spend !== undefined)
    throw new AttentionPackError("spend says what bytes are shared out for, and needs compression, budget or preset 'auto'");
  return target;
}

const UNITS = ['B', 'KB', 'MB', 'GB', 'TB'] as const;

/** @throws {AttentionPackError} unless it is a whole number of bytes, or a number with a unit */
export function bytesOf(budget: number | string): number {
  const complain = (): never => {
    throw new AttentionPackError(`budget must be a number of bytes, or text such as '256MB' or '1.5GiB', got ${shown(budget)}`);
  };
  if (typeof budget === 'number') return Number.isInteger(budget) && budget > 0 ? budget : complain();
  const [, number = '', unit = ''] = /^(\d+(?:\.\d+)?)\s*([kmgt]?i?b)?$/i.exec(String(budget).trim()) ?? complain();
  const base = /i/i.test(unit) ? 1024 : 1000;
  const power = Math.max(0, UNITS.indexOf(unit.toUpperCase().replace('I', '') as (typeof UNITS)[number]));
  const bytes = Math.floor(Number(number) * base ** power);
  return bytes > 0 ? bytes : complain();
}

const shown = (value: unknown): string => (typeof value === 'string' ? `'${value}'` : String(value));
