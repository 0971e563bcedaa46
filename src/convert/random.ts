/** Random weights of any shape, cheap enough for billions: for measuring speed and memory, not for what the model says. */
import { type QuantisedRows, type QuantiseOptions, quantiseRows } from './quantise.ts';
import type { WeightSource } from './weight-source.ts';

/**
 * Uniform weights of a standard deviation that keeps activations near one: 1/sqrt(columns) for a matrix; ones for norms, zeros for biases.
 *
 * The same seed, name and rows always give the same weights, whatever was read before.
 */
export class RandomWeights implements WeightSource {
  readonly #seed: number;
  readonly #tied: boolean;
  readonly #dims = new Map<string, readonly number[]>();

  constructor(seed: number, tied: boolean) {
    this.#seed = seed;
    this.#tied = tied;
  }

  has(name: string): boolean {
    return !(this.#tied && name === 'lm_head.weight');
  }

  /** Remembers the shape: a random source has whatever it is asked for. */
  expect(name: string, dims: readonly number[]): void {
    this.#dims.set(name, dims);
  }

  rows(name: string, start: number, end: number): Float32Array {
    const columns = this.#columns(name);
    const values = new Float32Array((end - start) * columns);
    if (isNorm(name)) return values.fill(1);
    if (name.endsWith('.bias')) return values;
    const words = randomWords(values.length, this.#wordSeed(name, start));
    const step = (2 * deviation(columns) * Math.sqrt(3)) / 2 ** 32; // a uniform variable spans sqrt(12) deviations
    for (let i = 0; i < words.length; i++) values[i] = ((words[i] as number) - 2 ** 31) * step;
    return values;
  }

  quantisedRows(name: string, start: number, end: number, options: QuantiseOptions): QuantisedRows {
    const columns = this.#columns(name);
    const { bits, blockSize } = options;
    // Padding of a last block must be zero; random bytes are not.
    if (columns % blockSize !== 0) return quantiseRows(this.rows(name, start, end), columns, options);
    const numRows = end - start;
    const blocks = columns / blockSize;
    const codeBytes = (numRows * columns * bits) / 8;
    const codes = new Uint8Array(randomWords(Math.ceil(codeBytes / 4), this.#wordSeed(name, start)).buffer, 0, codeBytes);
    const scales = new Float32Array(numRows * blocks).fill((deviation(columns) * Math.sqrt(12)) / 2 ** bits);
    if (bits === 8) return { codes, scales };
    // Codes 0..15 have mean 7.5: zero points of 7 and 8 in turn, or each product shifts by the sum of its input, and scores reach hundreds.
    return { codes, scales, zeroPoints: new Uint8Array(numRows * Math.ceil(blocks / 2)).fill(0x87) };
  }

  close(): void {}

  #columns(name: string): number {
    return (this.#dims.get(name) ?? []).slice(1).reduce((product, dim) => product * dim, 1);
  }

  #wordSeed(name: string, start: number): number {
    let hash = this.#seed ^ Math.imul(start + 1, 0x9e3779b1);
    for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), 0x01000193); // FNV-1a
    return hash;
  }
}

function isNorm(name: string): boolean {
  return /norm\d?\.weight$/.test(name);
}

function deviation(columns: number): number {
  return 1 / Math.sqrt(columns);
}

/** Marsaglia's xorshift32: one word a nanosecond, and no run of a power of two to show in the weights. */
function randomWords(count: number, seed: number): Uint32Array {
  const words = new Uint32Array(count);
  let state = seed | 1;
  for (let i = 0; i < count; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[i] = state;
  }
  return words;
}
