/** Symmetric tridiagonal matrices: reduction to one (EISPACK's tred2, https://netlib.org/eispack/), its eigenvalues, and shifted solves. */

/** A symmetric tridiagonal matrix, and how it came of the whole one: by reflection i in u_i, the first i entries of row i. */
export interface Tridiagonal {
  /** [n] */
  readonly diagonal: Float64Array;
  /** [n]; entry i couples i and i + 1, the last is 0. */
  readonly offDiagonal: Float64Array;
  /** [n, n], of which the lower triangle counts. */
  readonly reflections: Float64Array;
  /** [n]; ‖u_i‖² / 2, 0 where there was nothing to reflect. */
  readonly scales: Float64Array;
}

/** Destroys `a`, [n, n]; reads its lower triangle. */
export function tridiagonalise(a: Float64Array, n: number): Tridiagonal {
  const at = (i: number): number => a[i] as number;
  const offDiagonal = new Float64Array(n);
  const scales = new Float64Array(n);
  const p = new Float64Array(n);
  // 1. Reflect row by row from the last; u of reflection i stays in the row it emptied.
  for (let i = n - 1; i > 0; i--) {
    const u = i * n;
    let norm2 = 0;
    for (let k = 0; k < i - 1; k++) norm2 += at(u + k) * at(u + k);
    const last = at(u + i - 1);
    if (norm2 === 0) {
      offDiagonal[i - 1] = last;
      continue;
    }
    norm2 += last * last;
    const pivot = last >= 0 ? -Math.sqrt(norm2) : Math.sqrt(norm2);
    offDiagonal[i - 1] = pivot;
    const h = norm2 - last * pivot;
    scales[i] = h;
    a[u + i - 1] = last - pivot;
    symmetricTimes(a, n, i, u, p); // p = A·u
    let dot = 0;
    for (let k = 0; k < i; k++) dot += (p[k] = (p[k] as number) / h) * at(u + k);
    const half = dot / (2 * h);
    for (let k = 0; k < i; k++) p[k] = (p[k] as number) - half * at(u + k);
    for (let j = 0; j < i; j++) {
      const uj = at(u + j);
      const pj = p[j] as number;
      const row = j * n;
      for (let k = 0; k <= j; k++) a[row + k] = at(row + k) - uj * (p[k] as number) - pj * at(u + k);
    }
  }
  return { diagonal: Float64Array.from({ length: n }, (_, i) => at(i * n + i)), offDiagonal, reflections: a, scales };
}

/** p = A·u for the leading size × size block of which only the lower triangle is stored. */
function symmetricTimes(a: Float64Array, n: number, size: number, u: number, p: Float64Array): void {
  p.fill(0, 0, size);
  for (let j = 0; j < size; j++) {
    const row = j * n;
    const uj = a[u + j] as number;
    let sum = 0;
    for (let k = 0; k < j; k++) {
      const value = a[row + k] as number;
      sum += value * (a[u + k] as number);
      p[k] = (p[k] as number) + value * uj;
    }
    p[j] = (p[j] as number) + sum + (a[row + j] as number) * uj;
  }
}

/** Applies the reflections: an eigenvector of the tridiagonal matrix becomes one of the matrix itself. */
export function reflect({ reflections, scales }: Tridiagonal, vector: Float64Array): void {
  const n = vector.length;
  for (let i = 1; i < n; i++) {
    const h = scales[i] as number;
    if (h === 0) continue;
    let dot = 0;
    for (let k = 0; k < i; k++) dot += (reflections[i * n + k] as number) * (vector[k] as number);
    dot /= h;
    for (let k = 0; k < i; k++) vector[k] = (vector[k] as number) - dot * (reflections[i * n + k] as number);
  }
}

/** Eigenvalues by implicit QL without vectors (EISPACK's imtql1); destroys both arrays and returns the first, unsorted. */
export function eigenvaluesOf(d: Float64Array, e: Float64Array, n: number): Float64Array {
  const at = (list: Float64Array, i: number): number => list[i] as number;
  let largest = 0;
  for (let i = 0; i < n; i++) largest = Math.max(largest, Math.abs(at(d, i)) + Math.abs(at(e, i)));
  for (let l = 0; l < n; l++) {
    for (;;) {
      // Couplings below the rounding of the whole matrix are nothing: small eigenvalues need not be relatively exact here.
      let m = l;
      while (m < n - 1 && Math.abs(at(e, m)) > Number.EPSILON * 0.1 * largest) m++;
      if (m === l) break;
      const half = (at(d, l + 1) - at(d, l)) / (2 * at(e, l));
      let g = at(d, m) - at(d, l) + at(e, l) / (half + (half >= 0 ? 1 : -1) * Math.hypot(half, 1));
      let [s, c, shift] = [1, 1, 0];
      let i = m - 1;
      for (; i >= l; i--) {
        const f = s * at(e, i);
        const b = c * at(e, i);
        const r = Math.sqrt(f * f + g * g);
        e[i + 1] = r;
        if (r === 0) break;
        s = f / r;
        c = g / r;
        g = at(d, i + 1) - shift;
        const t = (at(d, i) - g) * s + 2 * c * b;
        shift = s * t;
        d[i + 1] = g + shift;
        g = c * t - b;
      }
      if (i >= l) d[i + 1] = at(d, i + 1) - shift;
      else {
        d[l] = at(d, l) - shift;
        e[l] = g;
      }
      e[m] = 0;
    }
  }
  return d;
}

/**
 * Solves (T - shift)·x = b in place by elimination with row exchanges (LAPACK's dgttrf).
 *
 * A pivot of 0 becomes a rounding of `magnitude`: with an eigenvalue for a shift the matrix is singular, and x its eigenvector, very long.
 */
export function solveShifted({ diagonal, offDiagonal }: Tridiagonal, shift: number, magnitude: number, b: Float64Array): void {
  const n = b.length;
  const smallest = Number.EPSILON * magnitude || Number.MIN_VALUE;
  // Row i of the upper triangle: pivots[i], first[i], second[i] in columns i, i + 1, i + 2.
  const [pivots, first, second] = [new Float64Array(n), new Float64Array(n), new Float64Array(n)];
  let pivot = (diagonal[0] as number) - shift;
  let next = n > 1 ? (offDiagonal[0] as number) : 0;
  for (let i = 0; i < n - 1; i++) {
    const below = offDiagonal[i] as number;
    const belowPivot = (diagonal[i + 1] as number) - shift;
    const belowNext = i < n - 2 ? (offDiagonal[i + 1] as number) : 0;
    if (Math.abs(pivot) >= Math.abs(below)) {
      if (Math.abs(pivot) < smallest) pivot = smallest;
      const factor = below / pivot;
      [pivots[i], first[i]] = [pivot, next];
      pivot = belowPivot - factor * next;
      next = belowNext;
      b[i + 1] = (b[i + 1] as number) - factor * (b[i] as number);
    } else {
      const factor = pivot / below;
      [pivots[i], first[i], second[i]] = [below, belowPivot, belowNext];
      pivot = next - factor * belowPivot;
      next = -factor * belowNext;
      const upper = b[i] as number;
      b[i] = b[i + 1] as number;
      b[i + 1] = upper - factor * (b[i] as number);
    }
  }
  pivots[n - 1] = Math.abs(pivot) < smallest ? smallest : pivot;
  for (let i = n - 1; i >= 0; i--) {
    const known = (first[i] as number) * (b[i + 1] ?? 0) + (second[i] as number) * (b[i + 2] ?? 0);
    b[i] = ((b[i] as number) - known) / (pivots[i] as number);
  }
}
