/** How many bytes a cache may take, as asked for. */
import { SPENDS, type Spend } from '../cache/prices.ts';
import { AttentionPackError } from '../errors.ts';
import { type CacheOptions, oneOf, type ResolvedCacheOptions } from '../options.ts';
import { AUTO_COMPRESSION, checkAlone, PRESETS } from './preset.ts';

/** What bytes are shared out for, and how many. */
export type Target = { readonly spend: Spend } & (
  | { readonly of: 'cache'; readonly compression: number }
  | { readonly of: 'cache'; readonly bytes: number }
  | { readonly of: 'images'; readonly compression: number }
);

/** As users named it. */
export function nameOf(target: Target): string {
  if (target.of === 'images') return "preset 'auto'";
  return 'bytes' in target ? `budget ${target.bytes}` : `compression ${target.compression}`;
}

/**
 * @returns undefined where ranks and bits say what is kept
 * @throws {AttentionPackError} for values that are none, and options that exclude one another
 */
export function resolveTarget(options: CacheOptions, defaults: Partial<ResolvedCacheOptions>): Target | undefined {
  checkAlone(options);
  const { compression, budget, preset, rank, bits, spread } = options;
  if (preset !== undefined) oneOf('preset', preset, PRESETS);
  const spend = oneOf('spend', options.spend ?? defaults.target?.spend ?? 'output', SPENDS);
  if (compression !== undefined) {
    if (typeof compression !== 'number' || !(compression >= 1 && compression < Number.POSITIVE_INFINITY))
      throw new AttentionPackError(`compression must be a number >= 1 (8: eight times smaller), got ${shown(compression)}`);
    return { of: 'cache', compression, spend };
  }
  if (budget !== undefined) return { of: 'cache', bytes: bytesOf(budget), spend };
  if (preset === 'auto') return { of: 'images', compression: AUTO_COMPRESSION, spend };
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
