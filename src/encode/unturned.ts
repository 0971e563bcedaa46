/**
 * Moments of queries as keys before rotary embedding meet them.
 *
 * A query q, turned to its own position, meets the key k at position s as q·R_s·k, R_s that position's rotation. An error e of k costs
 * eᵀ·R_sᵀ·(q·qᵀ)·R_s·e, so the moment that weighs keys before rotary embedding is C turned back, R_sᵀ·C·R_s, and averaged over the positions of those that are
 * packed. Pairs that turn fast lose all but their length by that, as they should: nobody knows at which angle they will be met. Slow ones keep
 * their direction.
 */
import { assert } from '../errors.ts';

/** How rotary embedding pairs the columns of a head. */
export interface Turning {
  /** Whether a pair is columns 2i and 2i + 1, or i and i + half of those turned. */
  readonly interleaved: boolean;
  /** Leading columns of a head that are turned. */
  readonly numTurned: number;
}

/** Means over tokens of products of the columns' cosines and sines, each [D, D]; a column that is not turned has the angle 0. */
export interface MeanTurns {
  readonly turning: Turning;
  readonly cosCos: Float64Array;
  readonly cosSin: Float64Array;
  readonly sinSin: Float64Array;
}

/**
 * Angles are read off the keys themselves, all heads together, whatever tables turned them.
 *
 * @param raw keys before rotary embedding, [T, Hkv·D]
 * @param turned the same keys after it
 */
export function meanTurns(raw: Float32Array, turned: Float32Array, numTokens: number, headDim: number, turning: Turning): MeanTurns {
  assert(numTokens > 0 && raw.length === turned.length, `${raw.length} and ${turned.length} numbers of keys of ${numTokens} tokens`);
  const size = headDim * headDim;
  const means: MeanTurns = { turning, cosCos: new Float64Array(size), cosSin: new Float64Array(size), sinSin: new Float64Array(size) };
  const width = raw.length / numTokens;
  for (let t = 0; t < numTokens; t++) {
    const [cos, sin] = anglesOf(raw.subarray(t * width, (t + 1) * width), turned.subarray(t * width, (t + 1) * width), headDim, turning);
    for (let i = 0; i < headDim; i++) {
      const [ci, si] = [(cos[i] as number) / numTokens, (sin[i] as number) / numTokens];
      for (let j = 0; j < headDim; j++) {
        const at = i * headDim + j;
        means.cosCos[at] = (means.cosCos[at] as number) + ci * (cos[j] as number);
        means.cosSin[at] = (means.cosSin[at] as number) + ci * (sin[j] as number);
        means.sinSin[at] = (means.sinSin[at] as number) + si * (sin[j] as number);
      }
    }
  }
  return means;
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

/**
 * The mean of R_sᵀ·C·R_s for each head, [Hkv, D, D].
 *
 * @param moment C, [Hkv, D, D], of queries after rotary embedding
 */
export function turnedBack(moment: ArrayLike<number>, headDim: number, { turning, cosCos, cosSin, sinSin }: MeanTurns): Float32Array {
  const size = headDim * headDim;
  const out = new Float32Array(moment.length);
  const partner = Array.from({ length: headDim }, (_, i) => partnerOf(i, turning));
  // Column i of R_s is cos at i and ±sin at its partner: + for the first of a pair, - for the second.
  const sign = partner.map((other, i) => Math.sign(other - i));
  for (let head = 0; head < moment.length; head += size) {
    const c = (i: number, j: number): number => moment[head + i * headDim + j] as number;
    for (let i = 0; i < headDim; i++) {
      const [pi, si] = [partner[i] as number, sign[i] as number];
      for (let j = 0; j < headDim; j++) {
        const [pj, sj, at] = [partner[j] as number, sign[j] as number, i * headDim + j];
        out[head + at] =
          (cosCos[at] as number) * c(i, j) +
          sj * (cosSin[at] as number) * c(i, pj) +
          si * (cosSin[j * headDim + i] as number) * c(pi, j) +
          si * sj * (sinSin[at] as number) * c(pi, pj);
      }
    }
  }
  return out;
}
