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

/** Rounds of rounding and fitting at most, and the share of the error below which a round is the last one: few columns gain more than a percent beyond. */
const MOST_ROUNDS = 5;
const WORTH = 0.01;

/**
 * Rounds to levels, fits step and zero to them by least squares, and so on (Lloyd 1982, for evenly spaced levels): the error never rises.
 * It begins where no number is cut off or where a normal distribution would want it, whichever misses less: flat columns and those with outliers differ.
 * At 8 bits the second is not looked for.
 */
export function quantiseColumn(numbers: ArrayLike<number>, bits: Bits): Column {
  const { mean, deviation, least, most } = spread(numbers);
  const numLevels = LEVELS[bits];
  if (!(most > least)) return { levels: new Uint8Array(numbers.length), step: least, zero: least === 0 ? 0 : -1, error: 0 };
  const range = (most - least) / (numLevels - 1);
  const whole = rounded(numbers, numLevels, range, -least / range);
  if (bits === 8) return refined(numbers, numLevels, whole);
  const step = NORMAL_STEP[bits] * deviation;
  const normal = rounded(numbers, numLevels, step, (numLevels - 1) / 2 - mean / step);
  return refined(numbers, numLevels, normal.error < whole.error ? normal : whole);
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

function refined(numbers: ArrayLike<number>, numLevels: number, first: Column): Column {
  let best = first;
  for (let round = 1; round < MOST_ROUNDS; round++) {
    const fit = fitted(numbers, best.levels);
    if (!fit) break;
    const found = rounded(numbers, numLevels, fit.step, fit.zero);
    const isLast = !(found.error < best.error * (1 - WORTH));
    if (found.error < best.error) best = found;
    if (isLast) break;
  }
  return best;
}

function rounded(numbers: ArrayLike<number>, numLevels: number, step: number, zero: number): Column {
  const levels = new Uint8Array(numbers.length);
  const [perStep, highest] = [1 / step, numLevels - 1];
  let error = 0;
  for (let i = 0; i < numbers.length; i++) {
    const number = numbers[i] as number;
    const place = Math.floor(number * perStep + zero + 0.5);
    const level = place < 0 ? 0 : Math.min(place, highest);
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
