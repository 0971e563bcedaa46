/** 95 % intervals of mean scores and of differences between two cache settings, with questions about one context taken as one draw. */
import { sum } from 'simple-statistics';
import { assert } from '../../errors.ts';

/** A mean score with its 95 % interval. */
export interface Interval {
  /** Mean over questions, 0 to 1; NaN if there are none. */
  readonly mean: number;
  readonly low: number;
  readonly high: number;
  /** Questions. */
  readonly n: number;
  /** Contexts they are about: what was drawn independently. */
  readonly numContexts: number;
}

/** Mean of (setting - dense) over the same questions with its 95 % interval; -1 to 1. */
export interface PairedDifference extends Interval {
  /** Questions the setting answers better, and worse, than the dense cache. */
  readonly better: number;
  readonly worse: number;
}

/** Two-sided 95 % quantile of the normal distribution. */
const Z = 1.959963984540054;

/**
 * Mean of scores in [0, 1] with its 95 % interval.
 *
 * Scores of 0 and 1 only: Wilson's interval; all others: mean -+ t times standard error, cut to [0, 1]. Questions about one context stand or fall
 * together, so the standard error is that of contexts (clusters), and Wilson's n becomes the number of independent questions that would have
 * this error. A single context says nothing of others: [0, 1].
 *
 * @param contexts the context of each score; without it, each is its own
 */
export function interval(scores: readonly number[], contexts?: readonly string[]): Interval {
  const { mean, error, n, numContexts } = clustered(scores, contexts);
  if (n === 0) return { mean: Number.NaN, low: 0, high: 1, n, numContexts };
  if (scores.every((score) => score === 0 || score === 1)) {
    if (numContexts === n) return { mean, ...wilson(sum([...scores]), n), n, numContexts };
    if (numContexts === 1) return { mean, low: 0, high: 1, n, numContexts };
    // With all contexts alike (all right, say) the error is 0 and only their number speaks.
    const effective = error > 0 ? Math.min(n, (mean * (1 - mean)) / error ** 2) : numContexts;
    return { mean, ...wilson(mean * effective, effective), n, numContexts };
  }
  const half = numContexts > 1 ? studentT(numContexts - 1) * error : 1;
  return { mean, low: Math.max(0, mean - half), high: Math.min(1, mean + half), n, numContexts };
}

/**
 * Mean difference of a setting to the dense cache over the same questions, with its 95 % interval: mean -+ t times the standard error over contexts.
 *
 * Where no score differs, the error is 0, yet a larger sample may still show a difference: the bounds are then those of Wilson's for 0 of
 * `numContexts`, to either side.
 *
 * @param scores one per question, in the order of `dense` and `contexts`
 */
export function pairedDifference(scores: readonly number[], dense: readonly number[], contexts?: readonly string[]): PairedDifference {
  assert(scores.length === dense.length, `${scores.length} scores paired with ${dense.length}`);
  const differences = scores.map((score, i) => score - (dense[i] as number));
  const better = differences.filter((difference) => difference > 0).length;
  const worse = differences.filter((difference) => difference < 0).length;
  const { mean, error, n, numContexts } = clustered(differences, contexts);
  if (n === 0) return { mean: Number.NaN, low: -1, high: 1, n, numContexts, better, worse };
  const half = better + worse === 0 ? wilson(0, numContexts).high : numContexts > 1 ? studentT(numContexts - 1) * error : 2;
  return { mean, low: Math.max(-1, mean - half), high: Math.min(1, mean + half), n, numContexts, better, worse };
}

/** Wilson's 95 % score interval of a share; `successes` and `n` need not be whole (an effective number of draws). [0, 1] for n = 0. */
export function wilson(successes: number, n: number): { low: number; high: number } {
  if (n === 0) return { low: 0, high: 1 };
  const share = successes / n;
  const centre = (share + Z ** 2 / (2 * n)) / (1 + Z ** 2 / n);
  const half = (Z / (1 + Z ** 2 / n)) * Math.sqrt((share * (1 - share)) / n + Z ** 2 / (4 * n ** 2));
  // At the ends the bound is exact; rounding would leave it a little off.
  return { low: share === 0 ? 0 : Math.max(0, centre - half), high: share === 1 ? 1 : Math.min(1, centre + half) };
}

interface Clustered {
  readonly mean: number;
  /** Standard error of the mean; 0 for fewer than two contexts. */
  readonly error: number;
  readonly n: number;
  readonly numContexts: number;
}

/** Mean over questions and its cluster-robust standard error: sqrt(C / (C - 1) * sum of squared residual sums per context) / n. */
function clustered(scores: readonly number[], contexts: readonly string[] | undefined): Clustered {
  assert(!contexts || contexts.length === scores.length, `${scores.length} scores of ${contexts?.length} contexts`);
  const n = scores.length;
  const mean = n ? sum([...scores]) / n : Number.NaN;
  const residuals = new Map<string | number, number>();
  for (const [i, score] of scores.entries()) {
    const context = contexts?.[i] ?? i;
    residuals.set(context, (residuals.get(context) ?? 0) + score - mean);
  }
  const numContexts = residuals.size;
  const squares = sum([...residuals.values()].map((residual) => residual ** 2));
  return { mean, error: numContexts > 1 ? Math.sqrt((numContexts / (numContexts - 1)) * squares) / n : 0, n, numContexts };
}

/** Two-sided 95 % quantile of Student's t: exact for 1 and 2 degrees of freedom, else its expansion about the normal (within 0.2 %; A&S 26.7.5). */
function studentT(degrees: number): number {
  if (degrees === 1) return 12.706204736432095;
  if (degrees === 2) return 4.302652729911275;
  const terms = [
    (Z ** 3 + Z) / 4,
    (5 * Z ** 5 + 16 * Z ** 3 + 3 * Z) / 96,
    (3 * Z ** 7 + 19 * Z ** 5 + 17 * Z ** 3 - 15 * Z) / 384,
    (79 * Z ** 9 + 776 * Z ** 7 + 1482 * Z ** 5 - 1920 * Z ** 3 - 945 * Z) / 92160,
  ];
  return terms.reduce((t, term, i) => t + term / degrees ** (i + 1), Z);
}
