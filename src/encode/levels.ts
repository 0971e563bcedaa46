/** One column of numbers as whole levels of 8, 4 or 2 bits, at the step and zero that leave the least squared error. */
import { type Bits, LEVELS } from './widths.ts';

/** A column that reads as (level - zero) · step. */
export interface Column {
  /** 0 to 2^bits - 1 each. */
  readonly levels: Uint8Array;
  readonly step: number;
  /** The level, or the place between two, that stands for 0. */
  readonly zero: number;
  /** Σ (number - what is read)². */
  readonly error: number;
}

/** Steps with the least squared error for a normal distribution, in standard deviations (Max 1960, table II). */
const NORMAL_STEP: Readonly<Record<Bits, number>> = { 8: 0.0308, 4: 0.3352, 2: 0.9957 };

/** Rounding and fitting by turns; each round falls less than the one before, and a column seldom needs more. */
const MOST_ROUNDS = 8;
/** A round that takes less than this share off the error is the last one. */
const WORTH = 1e-3;

/**
 * Rounds to levels, fits step and zero to them by least squares, and so on (Lloyd 1982, for evenly spaced levels): the error never rises.
 * It begins twice, where a normal distribution would want it and where no number is cut off: few bits of a column with outliers end up
 * better from the one, flat columns from the other. At 8 bits the difference is not worth looking for.
 */
export function quantiseColumn(numbers: ArrayLike<number>, bits: Bits): Column {
  const { mean, deviation, least, most } = spread(numbers);
  const levels = LEVELS[bits];
  if (!(most > least)) return { levels: new Uint8Array(numbers.length), step: least, zero: least === 0 ? 0 : -1, error: 0 };
  const range = (most - least) / (levels - 1);
  const whole = refine(numbers, levels, range, -least / range);
  if (bits === 8) return whole;
  const step = NORMAL_STEP[bits] * deviation;
  const normal = refine(numbers, levels, step, (levels - 1) / 2 - mean / step);
  return normal.error < whole.error ? normal : whole;
}

function spread(numbers: ArrayLike<number>): { mean: number; deviation: number; least: number; most: number } {
  let [sum, least, most] = [0, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (let i = 0; i < numbers.length; i++) {
    const number = numbers[i] as number;
    sum += number;
    if (number < least) least = number;
    if (number > most) most = number;
  }
  const mean = numbers.length ? sum / numbers.length : 0;
  let squares = 0;
  for (let i = 0; i < numbers.length; i++) squares += ((numbers[i] as number) - mean) ** 2;
  if (!numbers.length) return { mean, deviation: 0, least: 0, most: 0 };
  return { mean, deviation: Math.sqrt(squares / numbers.length), least, most };
}

function refine(numbers: ArrayLike<number>, numLevels: number, step: number, zero: number): Column {
  let best: Column | undefined;
  let [nowStep, nowZero] = [step, zero];
  for (let round = 0; round < MOST_ROUNDS; round++) {
    const found = rounded(numbers, numLevels, nowStep, nowZero);
    const falls = !best || found.error < best.error * (1 - WORTH);
    if (!best || found.error < best.error) best = found;
    const fit = falls ? fitted(numbers, found.levels) : undefined;
    if (!fit) break;
    [nowStep, nowZero] = [fit.step, fit.zero];
  }
  return best as Column;
}

function rounded(numbers: ArrayLike<number>, numLevels: number, step: number, zero: number): Column {
  const levels = new Uint8Array(numbers.length);
  let error = 0;
  for (let i = 0; i < numbers.length; i++) {
    const number = numbers[i] as number;
    const place = Math.round(number / step + zero);
    const level = place < 0 ? 0 : place > numLevels - 1 ? numLevels - 1 : place;
    levels[i] = level;
    const left = number - (level - zero) * step;
    error += left * left;
  }
  return { levels, step, zero, error };
}

/** The line through (level, number) with the least squared error; undefined if all levels are one. */
function fitted(numbers: ArrayLike<number>, levels: Uint8Array): { step: number; zero: number } | undefined {
  let [sumLevels, sumNumbers] = [0, 0];
  for (let i = 0; i < levels.length; i++) {
    sumLevels += levels[i] as number;
    sumNumbers += numbers[i] as number;
  }
  const [meanLevel, meanNumber] = [sumLevels / levels.length, sumNumbers / levels.length];
  let [squares, products] = [0, 0];
  for (let i = 0; i < levels.length; i++) {
    const away = (levels[i] as number) - meanLevel;
    squares += away * away;
    products += away * ((numbers[i] as number) - meanNumber);
  }
  const step = products / squares;
  return squares > 0 && step > 0 ? { step, zero: meanLevel - meanNumber / step } : undefined;
}
