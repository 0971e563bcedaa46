/** The spectrum of one matrix of keys or values [T, W]: lost energy against rank, and the ranks and bytes that a given loss takes. */
import type { Products } from '../encode/products.ts';
import { centred, columnsFor, effectiveRank, energiesOf, lostByColumns, sum } from './energies.ts';
import { dealtByEnergy, dealtInTurn, headColumnsFor, headRows, numbersHeld } from './heads.ts';

/** Losses for which the needed rank is told. */
export const TARGETS = [0.1, 0.05, 0.01] as const;

/** Shares of energy lost at one rank, 0 to 1. */
export interface LostAt {
  readonly rank: number;
  /** Numbers that codes and basis of this rank hold over those of the dense matrix: r·(T + W) / (T·W). Above 1 it does not pay. */
  readonly held: number;
  /** The best factoring of all heads side by side. */
  readonly combined: number;
  /** Each head alone at equal ranks, and as many bytes; see `heads.ts`. */
  readonly heads: number;
  /** The same with the ranks that suit each head best. */
  readonly headsBest: number;
  /** Combined, after the mean token was taken off and kept: W numbers more than `held` says. */
  readonly centred: number;
}

/** What losing at most `lost` of the energy takes. */
export interface Needed {
  readonly lost: number;
  readonly rank: number;
  /** Share of the dense numbers, as in {@link LostAt}. */
  readonly held: number;
  readonly headsHeld: number;
  readonly headsBestHeld: number;
  /** Rank that loses at most this share of what is left once the mean token is taken off: of the differences between tokens. */
  readonly varianceRank: number;
}

export interface Spectrum {
  readonly tokens: number;
  readonly width: number;
  /** ‖rows‖² */
  readonly energy: number;
  readonly effectiveRank: number;
  /** Share of the energy that the mean token holds. */
  readonly meanShare: number;
  /** At ranks 1, 2, 3, 4, 6, 8, 12, ... and min(T, W). */
  readonly curve: readonly LostAt[];
  /** For each of {@link TARGETS}. */
  readonly needed: readonly Needed[];
  /** [min(T, W)], descending, six digits. */
  readonly singularValues: readonly number[];
}

/** @param rows [T, W], W = Hkv·D, finite */
export async function spectrumOf(
  rows: Float32Array,
  numTokens: number,
  width: number,
  headDim: number,
  products: Products<Float64Array>,
): Promise<Spectrum> {
  const energies = await energiesOf(rows, numTokens, width, products);
  const alone: Float64Array[] = [];
  for (let h = 0; h < width / headDim; h++) {
    alone.push(await energiesOf(headRows(rows, numTokens, width, headDim, h), numTokens, headDim, products));
  }
  const rest = centred(rows, numTokens, width);
  const restEnergies = await energiesOf(rest.rows, numTokens, width, products);
  const energy = sum(energies);
  const lost = {
    combined: lostByColumns(energies),
    heads: lostByColumns(dealtInTurn(alone)),
    headsBest: lostByColumns(dealtByEnergy(alone)),
    centred: lostByColumns(restEnergies, energy),
    variance: lostByColumns(restEnergies),
  };
  const dense = numTokens * width;
  const headsHeld = (of: Float64Array, share: number): number => numbersHeld(columnsFor(of, share), numTokens, headDim) / dense;
  return {
    tokens: numTokens,
    width,
    energy,
    effectiveRank: effectiveRank(energies),
    meanShare: rest.meanShare,
    curve: ranksUpTo(Math.min(numTokens, width)).map((rank) => {
      const columns = headColumnsFor(rank, numTokens, width, headDim);
      return {
        rank,
        held: numbersHeld(rank, numTokens, width) / dense,
        combined: lost.combined[rank] ?? 0,
        heads: lost.heads[columns] ?? 0,
        headsBest: lost.headsBest[columns] ?? 0,
        centred: lost.centred[rank] ?? 0,
      };
    }),
    needed: TARGETS.map((share) => {
      const rank = columnsFor(lost.combined, share);
      return {
        lost: share,
        rank,
        held: numbersHeld(rank, numTokens, width) / dense,
        headsHeld: headsHeld(lost.heads, share),
        headsBestHeld: headsHeld(lost.headsBest, share),
        varianceRank: columnsFor(lost.variance, share),
      };
    }),
    singularValues: Array.from(energies, (value) => Number(Math.sqrt(value).toPrecision(6))),
  };
}

/** 1, 2, 3, 4, 6, 8, 12, 16, 24, ... and `full` itself. */
export function ranksUpTo(full: number): number[] {
  const ranks: number[] = [];
  for (let power = 1; power < full; power *= 2) {
    ranks.push(power);
    if (power > 1 && 1.5 * power < full) ranks.push(1.5 * power);
  }
  return full > 0 ? [...ranks, full] : [];
}
