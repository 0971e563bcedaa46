/** Random keys and values: normally distributed, repeated from a short stretch, since making gigabytes of noise would outlast the benchmark. */

const STRETCH = 1 << 18;
let stretch: Float32Array | undefined;

/** `length` numbers of variance 1; different seeds begin at different places of the stretch. */
export function noise(length: number, seed: number): Float32Array {
  stretch ??= normals(STRETCH);
  const out = new Float32Array(length);
  // An odd stride keeps rows of a power of two from repeating each other.
  let from = (seed * 40503 + 12345) % STRETCH;
  for (let at = 0; at < length; ) {
    const count = Math.min(length - at, STRETCH - from);
    out.set(stretch.subarray(from, from + count), at);
    at += count;
    from = (from + count + 7919) % STRETCH;
  }
  return out;
}

/** Box-Muller over a linear congruential generator: the same bits in every process. */
function normals(count: number): Float32Array {
  let state = 20261123;
  const uniform = (): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state + 1) / 4294967297;
  };
  return Float32Array.from({ length: count }, () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform()));
}
