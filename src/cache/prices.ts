/**
 * What errors of one layer's keys and values cost in the output of its attention, so that bytes can be weighed against one another across sides and layers.
 *
 * A head's output is o = Σ p·v. An error e of a value moves it by p·e. An error e of a key moves the token's logit by δ = q·e / √D, its share by p·(δ - mean), and the
 * output by p·(δ - mean)·(v - o). Both are p² times something, so whatever the attention: of a token's errors, ‖e‖² of its value weighs as much as
 * δ²·‖v - o‖² of its key. What layers add up in is the residual stream, so errors are counted as they are there and not relative to a layer's own output: 12 to 20 % less
 * error of logits at equal bytes on both embedded models (LOG.md).
 */
import type { Factors } from '../encode/factor.ts';
import type { Metric } from '../encode/weighted.ts';
import type { LayerShape } from '../shape.ts';
import { columnEnergies } from './column-errors.ts';

/** What bytes are spent for. */
export const SPENDS = ['output', 'share', 'energy'] as const;
export type Spend = (typeof SPENDS)[number];

/** What a unit of squared error costs. */
export interface Prices {
  readonly keys: number;
  readonly values: number;
  /** What it would cost to lose all that errors are relative to: the values, of *output*. */
  readonly total: number;
  /** What the columns cost that were not factored at all. */
  readonly missing: number;
}

interface SideFactors {
  readonly keys: readonly Factors[];
  readonly values: readonly Factors[];
}

/**
 * @param factors of the segments that are looked at
 * @param metric what was weighed by, if keys were
 */
export function pricesOf({ keys, values }: SideFactors, spend: Spend, shape: LayerShape, metric?: Metric): Prices {
  const [ofKeys, ofValues] = [momentsOf(keys, metric), momentsOf(values)];
  const prices = (perKey: number, perValue: number, total: number): Prices => ({
    keys: perKey,
    values: perValue,
    total,
    missing: perKey * ofKeys.missing + perValue * ofValues.missing,
  });
  if (spend === 'energy') return prices(1, 1, ofKeys.energy + ofValues.energy);
  if (spend === 'share') return prices(inverse(ofKeys.energy), inverse(ofValues.energy), 2);
  // Σ‖v - o‖²: o is somewhere between the values' mean and nothing, as much attention stays with the sink.
  const spread = ofValues.centred;
  if (!metric) return prices(spread * inverse(ofKeys.centred), 1, ofValues.energy);
  // δ² summed over the tokens of all heads, errors being weighed by the sum of q·qᵀ over those that share a key head.
  const numTokens = keys.reduce((sum, { codes, rank }) => sum + (rank ? codes.length / rank : 0), 0);
  return prices(spread / (shape.headDim * shape.numHeads * Math.max(1, numTokens)), 1, ofValues.energy);
}

/** Energy of the rows that were factored, as they were weighed, how much of it their columns are missing, and what is left of it without the rows' mean; over all segments. */
function momentsOf(factors: readonly Factors[], metric?: Metric): { energy: number; missing: number; centred: number } {
  let [energy, missing, within, numTokens] = [0, 0, 0, 0];
  const means: { readonly numTokens: number; readonly mean: Float64Array }[] = [];
  for (const { codes, basis, rank, lostEnergy, weightedLostEnergy } of factors) {
    if (!rank) continue;
    const tokens = codes.length / rank;
    const kept = columnEnergies(codes, rank).reduce((sum, square) => sum + square, 0);
    const lost = metric ? (weightedLostEnergy ?? lostEnergy) : lostEnergy;
    const whole = kept / Math.max(1e-6, 1 - lost);
    energy += whole;
    missing += whole * lost;
    numTokens += tokens;
    const ofColumns = new Float64Array(rank);
    for (let i = 0; i < codes.length; i++) ofColumns[i % rank] = (ofColumns[i % rank] as number) + (codes[i] as number) / tokens;
    const squared = ofColumns.reduce((sum, mean) => sum + mean * mean, 0);
    within += tokens * squared;
    means.push({ numTokens: tokens, mean: metric ? new Float64Array(0) : rowOf(ofColumns, basis, rank) });
  }
  if (metric || means.length < 2) return { energy, missing, centred: Math.max(energy - within, 1e-6 * energy) };
  // Segments have bases of their own: their means are told apart in the rows' own columns.
  const all = new Float64Array(means[0]?.mean.length ?? 0);
  for (const { numTokens: tokens, mean } of means) {
    for (let w = 0; w < all.length; w++) all[w] = (all[w] as number) + (tokens / numTokens) * (mean[w] as number);
  }
  const common = numTokens * all.reduce((sum, value) => sum + value * value, 0);
  return { energy, missing, centred: Math.max(energy - common, 1e-6 * energy) };
}

/** Of the means of columns, most is in the first ones. */
const MEAN_COLUMNS = 16;

/** The mean row [W]. */
function rowOf(ofColumns: Float64Array, basis: Float32Array, rank: number): Float64Array {
  const row = new Float64Array(basis.length / rank);
  for (let c = 0; c < Math.min(rank, MEAN_COLUMNS); c++) {
    const mean = ofColumns[c] as number;
    for (let w = 0; w < row.length; w++) row[w] = (row[w] as number) + mean * (basis[c * row.length + w] as number);
  }
  return row;
}

const inverse = (energy: number): number => (energy > 0 ? 1 / energy : 1);
