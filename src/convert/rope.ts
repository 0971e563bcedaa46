/** Rotary embedding's frequencies and the cos/sin tables GroupQueryAttention reads. Scaling as in transformers' `modeling_rope_utils.py`. */
import { AttentionPackError } from '../errors.ts';
import { Fields } from './fields.ts';

/** How positions turn into angles. */
export type Rope = Frequencies & {
  /**
   * M-RoPE: rotary pairs that turn by time, height and width, in turns: [16, 24, 24] are the first 16, the next 24, the last 24. Undefined: all turn by
   * one position.
   */
  readonly sections?: readonly number[];
};

/** `linear` divides every frequency, `llama3` only the slow ones, smoothly. */
export type Frequencies =
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
  readonly headDim: number;
  readonly maxPositions: number;
  readonly theta: number;
  /** Of M-RoPE, which only decoders that have it here have. */
  readonly sections?: readonly number[] | undefined;
}

/** Rotary settings from `rope_parameters` (transformers 5) or `rope_theta` and `rope_scaling` (before). */
export function readRope(fields: Fields, defaults: RopeDefaults): Rope {
  const name = fields.has('rope_parameters') ? 'rope_parameters' : 'rope_scaling';
  const scaling = fields.has(name) ? fields.object(name) : new Fields({}, `${fields.where}: ${name}`);
  const partial = scaling.number('partial_rotary_factor', fields.number('partial_rotary_factor', 1));
  if (partial !== 1) throw new AttentionPackError(`${fields.where}: partial_rotary_factor is ${partial}; only 1 is converted`);
  const theta = scaling.number('rope_theta', fields.number('rope_theta', defaults.theta));
  const sections = defaults.sections ? { sections: readSections(scaling, defaults.sections, defaults.headDim) } : {};
  const known = defaults.sections ? (['default', 'mrope', 'linear', 'llama3'] as const) : (['default', 'linear', 'llama3'] as const);
  const type = scaling.oneOf<(typeof known)[number]>(scaling.has('rope_type') ? 'rope_type' : 'type', known, 'default');
  // 'mrope' is the default type's name where mrope_section is to be read
  if (type === 'default' || type === 'mrope') return { type: 'default', theta, ...sections };
  const factor = scaling.number('factor');
  if (type === 'linear') return { type, theta, factor, ...sections };
  return {
    ...sections,
    type,
    theta,
    factor,
    lowFactor: scaling.number('low_freq_factor'),
    highFactor: scaling.number('high_freq_factor'),
    originalPositions: scaling.number('original_max_position_embeddings', defaults.maxPositions),
  };
}

/** Rotary pairs of each axis, in turns; together they must be all of a head's. */
function readSections(scaling: Fields, usual: readonly number[], headDim: number): readonly number[] {
  const { value, where } = scaling.raw('mrope_section', usual);
  const sections = Array.isArray(value) ? (value as unknown[]) : [];
  const sum = sections.reduce<number>(
    (total, count) => (Number.isSafeInteger(count) && Number(count) >= 0 ? total + Number(count) : Number.NaN),
    0,
  );
  if (sum !== headDim / 2) {
    throw new AttentionPackError(
      `${where} is ${JSON.stringify(value)}; it must divide the ${headDim / 2} rotary pairs of a head of ${headDim} among time, height and width`,
    );
  }
  return sections as number[];
}

/** Axis of each rotary pair: 0 time, 1 height, 2 width. */
export function axesOfPairs(sections: readonly number[]): number[] {
  return sections.flatMap((count, i) => new Array<number>(count).fill(i % NUM_AXES));
}

/** Time, height, width. */
export const NUM_AXES = 3;

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

/** Radians per position of each rotary pair, [D/2]. */
export function ropeFrequencies(rope: Rope, headDim: number): Float32Array {
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
