/** A dense span's keys or values -> codes and basis: chooses the exact or the randomised way and settles order, signs and energies. */
import { AttentionPackError, assert } from '../errors.ts';
import { extendBasis, type Growth } from './extend.ts';
import { gramFactor, type RawFactors } from './gram.ts';
import { type Dense, float32Products, float64Products, type Products } from './products.ts';
import { randomizedSvd } from './randomized-svd.ts';
import { factorWeighted, type Metric } from './weighted.ts';

/** What a factorisation returns: keys [T, W] ~ codes [T, r] · basis [r, W]. */
export interface Factors {
  /** [T, r], columns in falling order of energy. */
  readonly codes: Float32Array;
  /** [r, W], orthonormal rows; the largest entry of each is positive. Under a metric neither holds, but the former of basis·L; see `weighted.ts`. */
  readonly basis: Float32Array;
  /** Columns given: the rank asked for, but at most min(T, W). Columns beyond the matrix's own rank have codes of 0. */
  readonly rank: number;
  /** Share of the energy ‖keys‖² left out, 0 to 1; the relative error is its root. */
  readonly lostEnergy: number;
  /** Under a metric: the share of ‖keys·L‖² left out, which no other factors of this rank make smaller. */
  readonly weightedLostEnergy?: number;
  /** [r], the singular values kept, descending. */
  readonly singularValues: Float32Array;
}

export interface Encoder {
  /**
   * @param rows keys or values [T, W], finite.
   * @param rank columns wanted; 0 leaves everything out.
   * @param seed of the randomised way; the same seed and rows give the same bits.
   * @param metric what errors cost; default: all directions alike.
   * @throws {AttentionPackError} if rows hold NaN or infinity.
   */
  factor(rows: Float32Array, numTokens: number, width: number, rank: number, seed?: number, metric?: Metric): Promise<Factors>;
  /** The same with a basis that begins with the rows `held` [n, W], of which there may be none, and grows only as far as it must; see `extend.ts`. */
  extend(
    rows: Float32Array,
    numTokens: number,
    width: number,
    held: Float32Array,
    growth: Growth,
    seed?: number,
    metric?: Metric,
  ): Promise<Factors>;
  dispose(): Promise<void>;
}

/**
 * Whether the Gram matrix pays. Its eigenproblem, in JavaScript, grows with the cube of min(T, W): at rank 64 on a quiet core about 30 ms for
 * 256 and 150 for 512, where the randomised SVD takes 15. Asked for most of the columns, that one has no advantage.
 */
function isExact(smaller: number, rank: number): boolean {
  return smaller <= 256 || (smaller <= 512 && 4 * rank > smaller);
}

/** An encoder with its own ONNX Runtime sessions, made when first needed and shared by all calls. */
export async function createEncoder(): Promise<Encoder> {
  const double = await float64Products();
  let single: Promise<Products<Float32Array>> | undefined;
  const plain = async (rows: Float32Array, numTokens: number, width: number, rank: number, seed = 1): Promise<Factors> => {
    assert(rows.length === numTokens * width, `${rows.length} numbers for rows [${numTokens}, ${width}]`);
    assert(Number.isInteger(rank) && rank >= 0, `rank ${rank}`);
    const { energy, largest } = checkedEnergy(rows, numTokens, width);
    const kept = Math.min(rank, numTokens, width);
    if (kept === 0) return empty(energy);
    const matrix = { values: rows, rows: numTokens, columns: width };
    if (largest === 0 || isExact(Math.min(numTokens, width), kept)) {
      const raw = await gramFactor({ ...matrix, values: new Float64Array(rows) }, kept, double);
      return settle(raw, energy, 1);
    }
    single ??= float32Products();
    const unit = largest > 1e10 || largest < 1e-10 ? 2 ** Math.floor(Math.log2(largest)) : 1;
    const scaled = unit === 1 ? rows : rows.map((value) => value / unit);
    return settle(await randomizedSvd({ ...matrix, values: scaled }, kept, await single, double, seed), energy, unit);
  };
  return {
    async factor(rows, numTokens, width, rank, seed, metric) {
      if (!metric) return plain(rows, numTokens, width, rank, seed);
      return factorWeighted({ factor: plain }, await (single ??= float32Products()), rows, numTokens, rank, metric, seed);
    },
    async extend(rows, numTokens, width, held, growth, seed, metric) {
      return extendBasis({ factor: plain }, await (single ??= float32Products()), rows, numTokens, width, held, growth, seed, metric);
    },
    async dispose() {
      await double.dispose();
      await (await single)?.dispose();
    },
  };
}

/** ‖rows‖² and the largest magnitude, or an error that says where rows are not finite. */
function checkedEnergy(rows: Float32Array, numTokens: number, width: number): { energy: number; largest: number } {
  let energy = 0;
  let largest = 0;
  for (let i = 0; i < rows.length; i++) {
    const value = rows[i] as number;
    energy += value * value;
    if (value > largest) largest = value;
    else if (-value > largest) largest = -value;
  }
  if (Number.isFinite(energy)) return { energy, largest };
  const bad = rows.findIndex((value) => !Number.isFinite(value));
  throw new AttentionPackError(
    `keys or values [${numTokens}, ${width}] hold ${rows[bad]} at token ${Math.floor(bad / width)}, column ${bad % width}: ` +
      'they must be finite to be packed; the decoder overflowed, try it in another precision (fp32, q4)',
  );
}

function empty(energy: number): Factors {
  const none = new Float32Array(0);
  return { codes: none, basis: none, rank: 0, lostEnergy: energy > 0 ? 1 : 0, singularValues: none };
}

/** Orders columns by the energy they really hold, makes signs definite, rounds to float32. `unit` is what the rows were divided by. */
function settle({ codes, basis }: RawFactors, energy: number, unit: number): Factors {
  const [numTokens, rank, width] = [codes.rows, codes.columns, basis.columns];
  const energies = new Float64Array(rank);
  for (let i = 0; i < codes.values.length; i++) energies[i % rank] = (energies[i % rank] as number) + (codes.values[i] as number) ** 2;
  const order = Array.from(energies.keys()).sort((a, b) => (energies[b] as number) - (energies[a] as number) || a - b);
  const out = { codes: new Float32Array(numTokens * rank), basis: new Float32Array(rank * width), singularValues: new Float32Array(rank) };
  let kept = 0;
  for (const [to, from] of order.entries()) {
    const sign = signOfLargest(basis, from);
    for (let k = 0; k < width; k++) out.basis[to * width + k] = sign * (basis.values[from * width + k] as number);
    for (let t = 0; t < numTokens; t++) out.codes[t * rank + to] = sign * unit * (codes.values[t * rank + from] as number);
    const columnEnergy = (energies[from] as number) * unit * unit;
    out.singularValues[to] = Math.sqrt(columnEnergy);
    kept += columnEnergy;
  }
  const lostEnergy = energy > 0 ? Math.min(1, Math.max(0, (energy - kept) / energy)) : 0;
  return { ...out, rank, lostEnergy };
}

/** 1 or -1: what makes the row's entry of the largest magnitude (the first of equals) positive. */
function signOfLargest(basis: Dense<Float32Array | Float64Array>, row: number): number {
  let largest = 0;
  let sign = 1;
  for (let k = row * basis.columns; k < (row + 1) * basis.columns; k++) {
    const value = basis.values[k] as number;
    // A hair's breadth above: entries equal but for rounding must not take turns.
    if (Math.abs(value) > largest * (1 + 1e-6)) {
      largest = Math.abs(value);
      sign = value < 0 ? -1 : 1;
    }
  }
  return sign;
}
