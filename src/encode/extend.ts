/**
 * Bases that grow: what is packed later is read through the directions held already, and brings new ones only for what those leave out.
 *
 * After Brand's incremental SVD (https://doi.org/10.1016/j.laa.2005.07.021), without its rotation: that would turn all codes there are, and codes once made are
 * never encoded again. Directions are therefore the best for what came first, and only in the order they came.
 */
import { assert } from '../errors.ts';
import type { Encoder, Factors } from './factor.ts';
import type { Dense, Products } from './products.ts';
import { lostShare, type Metric, unweighted, weighted } from './weighted.ts';

/** How far a basis may grow. */
export interface Growth {
  /** Most columns, those held included. */
  readonly rank: number;
  /** Share of the energy that may be left out before new directions are wanted; weighted energy under a metric. */
  readonly tolerance: number;
}

/** What float32 rows leave of themselves after two passes, with some to spare: rounding deserves no directions of its own. */
const ROUNDING = 1e-12;

/**
 * keys [T, W] ~ codes [T, r] · basis [r, W], where the basis begins with the rows held, bit for bit. No more rows are added than leave out `tolerance`.
 *
 * With a full basis the rows held are all there is, however much they leave out: `lostEnergy` tells.
 *
 * Columns are in the order they came, not of energy.
 *
 * @param held [n, W], rows orthonormal (those of held·L under a metric) but for the rounding of the type they are held in
 */
export async function extendBasis(
  encoder: Pick<Encoder, 'factor'>,
  products: Products<Float32Array>,
  rows: Float32Array,
  numTokens: number,
  width: number,
  held: Float32Array,
  growth: Growth,
  seed?: number,
  metric?: Metric,
): Promise<Factors> {
  assert(held.length % width === 0 && rows.length === numTokens * width, `${held.length} and ${rows.length} numbers of width ${width}`);
  const numHeld = held.length / width;
  const tolerance = Math.max(growth.tolerance, ROUNDING);
  // 1. Through the directions held; what remains is factored plainly, whatever the metric.
  const [seen, known] = metric
    ? [await weighted(rows, numTokens, metric, products), await weighted(held, numHeld, metric, products)]
    : [rows, held];
  const old = await project(seen, numTokens, known, numHeld, width, products);
  const energy = sumOfSquares(seen);
  const lostByOld = energy > 0 ? sumOfSquares(old.error) / energy : 0;
  // 2. New directions for what remains, the fewest that do.
  const room = lostByOld > tolerance ? Math.max(0, growth.rank - numHeld) : 0;
  const more = await encoder.factor(old.error, numTokens, width, room, seed);
  const { added, numNew } = await upright(more, columnsFor(more, lostByOld, tolerance), known, numHeld, width, products);
  // 3. Side by side.
  const total = numHeld + numNew;
  const codes = new Float32Array(numTokens * total);
  const remains = { values: old.error, rows: numTokens, columns: width };
  const newCodes = numNew ? (await products.timesTransposed(remains, { values: added, rows: numNew, columns: width })).values : added;
  for (let t = 0; t < numTokens; t++) {
    codes.set(old.codes.subarray(t * numHeld, (t + 1) * numHeld), t * total);
    codes.set(newCodes.subarray(t * numNew, (t + 1) * numNew), t * total + numHeld);
  }
  const basis = new Float32Array(total * width);
  basis.set(held);
  basis.set(metric ? unweighted(added, numNew, metric) : added, held.length);
  const singularValues = Float32Array.from({ length: total }, (_, c) => columnNorm(codes, c, total));
  // Counted, not summed up from singular values: those are rounded to float32, and small losses would drown in that.
  const lost = numNew
    ? lostByOld * (await lostShare(old.error, { codes: newCodes, basis: added, rank: numNew }, numTokens, products))
    : lostByOld;
  const factors = { codes, basis, rank: total, singularValues };
  if (!metric) return { ...factors, lostEnergy: lost };
  const lostEnergy = total ? await lostShare(rows, factors, numTokens, products) : lost;
  return { ...factors, lostEnergy, weightedLostEnergy: lost };
}

/** Codes [T, n] in rows that are almost orthonormal, and what those leave out, [T, W]. A second pass makes up for the rounding of float16 rows. */
async function project(
  rows: Float32Array,
  numTokens: number,
  held: Float32Array,
  numHeld: number,
  width: number,
  products: Products<Float32Array>,
): Promise<{ codes: Float32Array; error: Float32Array }> {
  const codes = new Float32Array(numTokens * numHeld);
  let error = rows;
  const basis = { values: held, rows: numHeld, columns: width };
  const numPasses = numHeld ? ((await isOrthonormal(basis, products)) ? 1 : 2) : 0;
  for (let pass = 0; pass < numPasses; pass++) {
    const left = await products.timesTransposed({ values: error, rows: numTokens, columns: width }, basis);
    for (let i = 0; i < codes.length; i++) codes[i] = (codes[i] as number) + (left.values[i] as number);
    const { values } = await products.times({ values: codes, rows: numTokens, columns: numHeld }, basis);
    error = rows.map((value, i) => value - (values[i] as number));
  }
  return { codes, error };
}

/** Whether rows are orthonormal but for float32's rounding; those of float16 are off by some 1e-4. */
async function isOrthonormal(basis: Dense<Float32Array>, products: Products<Float32Array>): Promise<boolean> {
  const { values, rows } = await products.timesTransposed(basis, basis);
  return values.every((value, i) => Math.abs(value - Number(i % (rows + 1) === 0)) < 1e-5);
}

/** The fewest leading columns of `more`, which factor what was lost, that leave out no more than the tolerance; all of them if none do. */
function columnsFor(more: Factors, lostByOld: number, tolerance: number): number {
  const energies = Array.from(more.singularValues, (value) => value * value);
  const all = energies.reduce((sum, value) => sum + value, 0);
  if (!(all > 0)) return 0;
  // `more` leaves out a share of its own.
  const whole = all / (1 - more.lostEnergy);
  // Summed up from the smallest: taken off the whole one by one, the last would drown in its rounding, and directions of noise be kept.
  let left = whole - all;
  for (let c = more.rank; c > 0; c--) {
    left += energies[c - 1] as number;
    if ((left / whole) * lostByOld > tolerance) return c;
  }
  return 0;
}

/** Of a row of length 1, what stands apart from the rows held is at least so long, or it is theirs, and not of what they leave out. */
const LEAST_APART = 0.5;

/**
 * The first `wanted` rows of `more`, made orthogonal to the rows held. Where what those leave out is near rounding, its directions lean on them; a basis with such
 * rows is full before it spans its space, and reading through it loses what it could hold. Those that mostly lie in the rows held are left out, with all behind.
 */
async function upright(
  more: Factors,
  wanted: number,
  held: Float32Array,
  numHeld: number,
  width: number,
  products: Products<Float32Array>,
): Promise<{ added: Float32Array; numNew: number }> {
  const added = more.basis.slice(0, wanted * width);
  if (!wanted || !numHeld) return { added, numNew: wanted };
  const basis = { values: held, rows: numHeld, columns: width };
  for (let pass = 0; pass < 2; pass++) {
    const leaning = await products.timesTransposed({ values: added, rows: wanted, columns: width }, basis);
    if (leaning.values.every((value) => Math.abs(value) < 1e-6)) break;
    const { values } = await products.times(leaning, basis);
    for (let i = 0; i < added.length; i++) added[i] = (added[i] as number) - (values[i] as number);
  }
  for (let c = 0; c < wanted; c++) {
    const row = added.subarray(c * width, (c + 1) * width);
    const norm = Math.sqrt(sumOfSquares(row));
    if (norm < LEAST_APART) return { added: added.slice(0, c * width), numNew: c };
    for (let k = 0; k < width; k++) row[k] = (row[k] as number) / norm;
  }
  return { added, numNew: wanted };
}

function sumOfSquares(values: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += (values[i] as number) ** 2;
  return sum;
}

function columnNorm(codes: Float32Array, column: number, rank: number): number {
  let sum = 0;
  for (let i = column; i < codes.length; i += rank) sum += (codes[i] as number) ** 2;
  return Math.sqrt(sum);
}
