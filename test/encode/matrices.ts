/** Matrices with a known spectrum, and what the tests measure on factors, all in plain loops. */
import type { Factors } from '../../src/encode/index.ts';

/** Independent standard normal numbers, seeded (Box-Muller over mulberry32). */
export function gaussian(count: number, seed: number): Float32Array {
  let state = seed;
  const random = (): number => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  return Float32Array.from({ length: count }, () => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random()));
}

/** [T, W] whose i-th singular value is spectrum(i), up to float32 rounding; `numDirections` of them, the others 0. */
export function spectrumMatrix(
  numTokens: number,
  width: number,
  spectrum: (i: number) => number,
  seed: number,
  numDirections = Math.min(numTokens, width),
): Float32Array {
  const count = Math.min(numDirections, numTokens, width);
  const left = orthonormal(count, numTokens, seed);
  const right = orthonormal(count, width, seed + 1);
  const rows = new Float64Array(numTokens * width);
  for (let i = 0; i < count; i++) {
    for (let t = 0; t < numTokens; t++) {
      const scale = spectrum(i) * (left[i * numTokens + t] as number);
      for (let k = 0; k < width; k++) rows[t * width + k] = (rows[t * width + k] as number) + scale * (right[i * width + k] as number);
    }
  }
  return new Float32Array(rows);
}

/** [count, length] orthonormal rows by Gram-Schmidt, twice. */
function orthonormal(count: number, length: number, seed: number): Float64Array {
  const rows = new Float64Array(gaussian(count * length, seed));
  for (let i = 0; i < count; i++) {
    const row = rows.subarray(i * length, (i + 1) * length);
    for (let pass = 0; pass < 2; pass++) {
      for (let j = 0; j < i; j++) {
        const other = rows.subarray(j * length, (j + 1) * length);
        const dot = row.reduce((sum, value, k) => sum + value * (other[k] as number), 0);
        for (let k = 0; k < length; k++) row[k] = (row[k] as number) - dot * (other[k] as number);
      }
      const norm = Math.hypot(...row);
      for (let k = 0; k < length; k++) row[k] = (row[k] as number) / norm;
    }
  }
  return rows;
}

export function energyOf(rows: Float32Array): number {
  return rows.reduce((sum, value) => sum + value * value, 0);
}

/** ‖rows - codes · basis‖ / ‖rows‖; 0 for a matrix of zeros. */
export function errorOf(rows: Float32Array, factors: Pick<Factors, 'codes' | 'basis' | 'rank'>, numTokens: number, width: number): number {
  const rebuilt = reconstruct(factors, numTokens, width);
  const energy = energyOf(rows);
  return energy === 0 ? 0 : Math.sqrt(rows.reduce((sum, value, i) => sum + (value - (rebuilt[i] as number)) ** 2, 0) / energy);
}

/** codes · basis, [T, W]. */
export function reconstruct(
  { codes, basis, rank }: { codes: ArrayLike<number>; basis: ArrayLike<number>; rank: number },
  numTokens: number,
  width: number,
): Float64Array {
  const rows = new Float64Array(numTokens * width);
  for (let t = 0; t < numTokens; t++) {
    for (let c = 0; c < rank; c++) {
      const code = codes[t * rank + c] as number;
      for (let k = 0; k < width; k++) rows[t * width + k] = (rows[t * width + k] as number) + code * (basis[c * width + k] as number);
    }
  }
  return rows;
}

/** The largest deviation of basis · basisᵀ from the identity. */
export function orthonormalityOf(basis: Float32Array | Float64Array, rank: number, width: number): number {
  let worst = 0;
  for (let i = 0; i < rank; i++) {
    for (let j = 0; j <= i; j++) {
      let dot = 0;
      for (let k = 0; k < width; k++) dot += (basis[i * width + k] as number) * (basis[j * width + k] as number);
      worst = Math.max(worst, Math.abs(dot - Number(i === j)));
    }
  }
  return worst;
}
