/**
 * Moments of queries as keys before rotary embedding meet them.
 *
 * A query q, turned to its own position, meets the key k at position s as q·R_s·k, R_s that position's rotation. An error e of k costs
 * eᵀ·R_sᵀ·(q·qᵀ)·R_s·e, so the moment that weighs keys before rotary embedding is C turned back, R_sᵀ·C·R_s, and averaged over the positions of those that are
 * packed. Pairs that turn fast lose all but their length by that, as they should: nobody knows at which angle they will be met. Slow ones keep
 * their direction.
 */
import { assert } from '../errors.ts';
import type { Turning } from '../shape.ts';

/** Where keys stand: the mean over tokens of products of their columns' cosines and sines. */
export class MeanTurns {
  readonly #headDim: number;
  readonly #turning: Turning;
  /** Sums over tokens, each [D, D]; a column that is not turned has the angle 0. */
  readonly #cosCos: Float64Array;
  readonly #cosSin: Float64Array;
  readonly #sinSin: Float64Array;
  #numTokens = 0;

  constructor(headDim: number, turning: Turning) {
    [this.#headDim, this.#turning] = [headDim, turning];
    [this.#cosCos, this.#cosSin, this.#sinSin] = [0, 0, 0].map(() => new Float64Array(headDim * headDim)) as [
      Float64Array,
      Float64Array,
      Float64Array,
    ];
  }

  /**
   * Angles are read off a token's keys themselves, all heads together, whatever tables turned them.
   *
   * @param raw keys before rotary embedding, [Hkv·D]
   * @param turned the same keys after it
   */
  add(raw: Float32Array, turned: Float32Array): void {
    const [headDim, cosCos, cosSin, sinSin] = [this.#headDim, this.#cosCos, this.#cosSin, this.#sinSin];
    const [cos, sin] = anglesOf(raw, turned, headDim, this.#turning);
    for (let i = 0; i < headDim; i++) {
      const [ci, si] = [cos[i] as number, sin[i] as number];
      for (let j = 0; j < headDim; j++) {
        const at = i * headDim + j;
        cosCos[at] = (cosCos[at] as number) + ci * (cos[j] as number);
        cosSin[at] = (cosSin[at] as number) + ci * (sin[j] as number);
        sinSin[at] = (sinSin[at] as number) + si * (sin[j] as number);
      }
    }
    this.#numTokens++;
  }

  /**
   * The mean of R_sᵀ·C·R_s for each head, [Hkv, D, D].
   *
   * @param moment C, [Hkv, D, D], of queries after rotary embedding
   */
  turnedBack(moment: ArrayLike<number>): Float64Array {
    return this.#averaged(moment, 1);
  }

  /** The mean of R_s·C·R_sᵀ: behind {@link turnedBack}, C as if its queries stood anywhere around, as far off as the tokens are from one another. */
  turnedForth(moment: ArrayLike<number>): Float64Array {
    return this.#averaged(moment, -1);
  }

  #averaged(moment: ArrayLike<number>, direction: 1 | -1): Float64Array {
    assert(this.#numTokens > 0, 'no keys to turn moments back to');
    const [headDim, cosCos, cosSin, sinSin] = [this.#headDim, this.#cosCos, this.#cosSin, this.#sinSin];
    const out = new Float64Array(moment.length);
    const partner = Array.from({ length: headDim }, (_, i) => partnerOf(i, this.#turning));
    // Column i of R_s is cos at i and ±sin at its partner: + for the first of a pair, - for the second. Rows of it have the opposite signs.
    const sign = partner.map((other, i) => direction * Math.sign(other - i));
    for (let head = 0; head < moment.length; head += headDim * headDim) {
      const c = (i: number, j: number): number => moment[head + i * headDim + j] as number;
      for (let i = 0; i < headDim; i++) {
        const [pi, si] = [partner[i] as number, sign[i] as number];
        for (let j = 0; j < headDim; j++) {
          const [pj, sj, at] = [partner[j] as number, sign[j] as number, i * headDim + j];
          const sum =
            (cosCos[at] as number) * c(i, j) +
            sj * (cosSin[at] as number) * c(i, pj) +
            si * (cosSin[j * headDim + i] as number) * c(pi, j) +
            si * sj * (sinSin[at] as number) * c(pi, pj);
          out[head + at] = sum / this.#numTokens;
        }
      }
    }
    return out;
  }
}

/** Cosine and sine of each column's angle for one token, [D] each. A pair of zeros says nothing, and counts as not turned. */
function anglesOf(raw: Float32Array, turned: Float32Array, headDim: number, turning: Turning): readonly [Float64Array, Float64Array] {
  const [cos, sin] = [new Float64Array(headDim).fill(1), new Float64Array(headDim)];
  for (let i = 0; i < turning.numTurned; i++) {
    const other = partnerOf(i, turning);
    if (other < i) continue;
    let [c, s] = [0, 0];
    for (let h = 0; h < raw.length; h += headDim) {
      const [x, y, u, v] = [raw[h + i], raw[h + other], turned[h + i], turned[h + other]] as [number, number, number, number];
      c += x * u + y * v;
      s += x * v - y * u;
    }
    const length = Math.hypot(c, s); // tables that also stretch (YaRN) stretch all of them alike
    if (length > 0) for (const column of [i, other]) [cos[column], sin[column]] = [c / length, s / length];
  }
  return [cos, sin];
}

/** The other column of i's pair; i itself if it is not turned. */
function partnerOf(i: number, { interleaved, numTurned }: Turning): number {
  if (i >= numTurned) return i;
  if (interleaved) return i ^ 1;
  return (i + numTurned / 2) % numTurned;
}
