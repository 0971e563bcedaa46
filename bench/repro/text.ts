/** Numbers and tables as the page prints them. */
import type { Interval, PairedDifference } from '../../src/eval/metrics.ts';

export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  return [line(head), `|${head.map(() => '---').join('|')}|`, ...rows.map(line)].join('\n');
}

export const percent = (share: number, digits = 1): string => `${(100 * share).toFixed(digits)} %`;

/** 87.5 % (80.1 to 92.3) */
export const spread = ({ mean, low, high }: Interval): string =>
  `${percent(mean)} (${(100 * low).toFixed(1)} to ${(100 * high).toFixed(1)})`;

/** In points, with its interval. */
export function against(difference: PairedDifference | undefined): string {
  if (!difference) return '';
  const { mean, low, high } = difference;
  return `${points(mean)} (${points(low)} to ${points(high)})`;
}

export const points = (share: number): string => `${share < 0 ? '−' : '+'}${Math.abs(100 * share).toFixed(1)}`;

export const times = (factor: number): string => factor.toFixed(factor < 10 ? 2 : 1);

/** Two or three digits, never as a power. */
export const short = (value: number): string => (value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2));

export const megabytes = (bytes: number): string => `${short(bytes / 1e6)} MB`;

export const code = (setting: string): string => `\`${setting}\``;

/** a, b and c */
export function listed(items: readonly string[]): string {
  return items.length < 2 ? items.join('') : `${items.slice(0, -1).join(', ')} and ${items.at(-1)}`;
}
