/** Fewer bits: int8 codes with the scale folded into the basis, and half precision both ways. */
import { Float16Array } from '@petamoriken/float16';
import { assert } from '../errors.ts';

export interface QuantisedFactors {
  /** [T, r], -127 to 127. */
  readonly codes: Int8Array;
  /** [r, W]: basis rows times their column's step, so that codes · basis is the keys with nothing left to multiply. */
  readonly basis: Float32Array;
}

const LEVELS = 127;

/**
 * int8 codes with one symmetric step per column: |error| of each code is at most half a step, max|column| / 127 / 2.
 *
 * @param codes [T, r]
 * @param basis [r, W]
 */
export function quantiseCodes(codes: Float32Array, basis: Float32Array, rank: number): QuantisedFactors {
  assert(
    rank > 0 ? codes.length % rank === 0 && basis.length % rank === 0 : !codes.length && !basis.length,
    `rank ${rank} does not divide codes and basis`,
  );
  const steps = columnSteps(codes, rank);
  const out = { codes: new Int8Array(codes.length), basis: new Float32Array(basis.length) };
  for (let i = 0; i < codes.length; i++) {
    const step = steps[i % rank] as number;
    if (step > 0) out.codes[i] = Math.max(-LEVELS, Math.min(LEVELS, Math.round((codes[i] as number) / step)));
  }
  const width = basis.length / rank;
  for (let i = 0; i < basis.length; i++) out.basis[i] = (basis[i] as number) * (steps[Math.floor(i / width)] as number);
  return out;
}

/** The step of each column: its largest magnitude / 127; 0 for a column of zeros. */
export function columnSteps(codes: Float32Array, rank: number): Float64Array {
  const steps = new Float64Array(rank);
  for (let i = 0; i < codes.length; i++) steps[i % rank] = Math.max(steps[i % rank] as number, Math.abs(codes[i] as number));
  return steps.map((largest) => largest / LEVELS);
}

/** int8 levels of one column around 0, at its largest magnitude / 127; a column of zeros has step 0. */
export function quantiseSymmetric(numbers: Float32Array): { readonly numbers: Int8Array; readonly step: number; readonly error: number } {
  const step = columnSteps(numbers, 1)[0] as number;
  const levels = new Int8Array(numbers.length);
  let error = 0;
  for (let i = 0; i < numbers.length; i++) {
    if (step > 0) levels[i] = Math.max(-LEVELS, Math.min(LEVELS, Math.round((numbers[i] as number) / step)));
    error += ((numbers[i] as number) - step * (levels[i] as number)) ** 2;
  }
  return { numbers: levels, step, error };
}

/** Half precision bits of float32 numbers, as ONNX Runtime takes float16 tensors on Node 20. Beyond ±65504 they become infinite. */
export function toFloat16(values: Float32Array): Uint16Array {
  return new Uint16Array(new Float16Array(values).buffer as ArrayBuffer);
}

export function fromFloat16(bits: Uint16Array): Float32Array {
  return new Float32Array(new Float16Array(bits.buffer as ArrayBuffer, bits.byteOffset, bits.length));
}
