/** Rotary embedding's frequencies and the cos/sin tables GroupQueryAttention reads. Scaling as in transformers' `modeling_rope_utils.py`. */
import { AttentionPackError } from '../errors.ts';
import { Fields } from './fields.ts';

/** How positions turn into angles. `linear` divides every frequency, `llama3` only the slow ones, smoothly. */
export type Rope =
  | { readonly type: 'default'; readonly theta: number }
  | { readonly type: 'linear'; readonly theta: number; readonly factor: number }
  | {
      readonly type: 'llama3';
      readonly theta: number;
      readonly factor: number;
      readonly lowFactor: number;
      readonly highFactor: number;
      readonly originalPositions: number;
    };

export interface RopeDefaults {
  readonly maxPositions: number;
  readonly theta: number;
}

/** Rotary settings from `rope_parameters` (transformers 5) or `rope_theta` and `rope_scaling` (before). */
export function readRope(fields: Fields, { maxPositions, theta: defaultTheta }: RopeDefaults): Rope {
  const name = fields.has('rope_parameters') ? 'rope_parameters' : 'rope_scaling';
  const scaling = fields.has(name) ? fields.object(name) : new Fields({}, `${fields.where}: ${name}`);
  const partial = scaling.number('partial_rotary_factor', fields.number('partial_rotary_factor', 1));
  if (partial !== 1) throw new AttentionPackError(`${fields.where}: partial_rotary_factor is ${partial}; only 1 is converted`);
  const theta = scaling.number('rope_theta', fields.number('rope_theta', defaultTheta));
  const type = scaling.oneOf(scaling.has('rope_type') ? 'rope_type' : 'type', ['default', 'linear', 'llama3'], 'default');
  if (type === 'default') return { type, theta };
  const factor = scaling.number('factor');
  if (type === 'linear') return { type, theta, factor };
  return {
    type,
    theta,
    factor,
    lowFactor: scaling.number('low_freq_factor'),
    highFactor: scaling.number('high_freq_factor'),
    originalPositions: scaling.number('original_max_position_embeddings', maxPositions),
  };
}

/** cos and sin of position · frequency, each [positions, D/2]. */
export function ropeTables(rope: Rope, positions: number, headDim: number): { cos: Float32Array; sin: Float32Array } {
  const frequencies = ropeFrequencies(rope, headDim);
  const half = frequencies.length;
  const cos = new Float32Array(positions * half);
  const sin = new Float32Array(positions * half);
  for (let position = 0; position < positions; position++) {
    for (let i = 0; i < half; i++) {
      // float32 product, as transformers computes it: at position 30000 the rounding of the angle is worth 1e-3
      const angle = Math.fround(position * (frequencies[i] as number));
      cos[position * half + i] = Math.cos(angle);
      sin[position * half + i] = Math.sin(angle);
    }
  }
  return { cos, sin };
}

function ropeFrequencies(rope: Rope, headDim: number): Float32Array {
  return Float32Array.from({ length: headDim / 2 }, (_, i) => {
    const frequency = Math.fround(1 / rope.theta ** ((2 * i) / headDim));
    if (rope.type === 'default') return frequency;
    if (rope.type === 'linear') return frequency / rope.factor;
    const { factor, lowFactor, highFactor, originalPositions } = rope;
    const wavelength = (2 * Math.PI) / frequency;
    if (wavelength < originalPositions / highFactor) return frequency;
    if (wavelength > originalPositions / lowFactor) return frequency / factor;
    const smooth = (originalPositions / wavelength - lowFactor) / (highFactor - lowFactor);
    return ((1 - smooth) * frequency) / factor + smooth * frequency;
  });
}
