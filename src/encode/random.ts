/** Seeded random numbers for test matrices of randomised algorithms: the same seed gives the same bits everywhere. */

/** Uniform in [-1, 1), `count` of them. Sketches need independent numbers of mean 0; Gaussian ones would cost ten times as much. */
export function uniform<A extends Float32Array | Float64Array>(into: A, seed: number): A {
  // mulberry32, https://gist.github.com/tommyettinger/46a874533244883189143505d203312c
  let state = seed | 0;
  for (let i = 0; i < into.length; i++) {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    into[i] = (t ^ (t >>> 14)) / 2 ** 31;
  }
  return into;
}
