/** Bytes of a cache by formula. Tests hold them equal to the bytes of the buffers actually held. */
import type { ModelShape } from '../shape.ts';
import { basisRows, codeLength, type Format, type SideLayout, stepLength } from './format.ts';

/** Of *mixed* codes and bases: of the bytes their columns share. */
export const ELEMENT_BYTES = { float32: 4, float16: 2, int8: 1, mixed: 1 } as const;

/** The counts a cache's size follows from. */
export interface Extents {
  readonly batch: number;
  /** S: window rows per sequence, unused ones included. */
  readonly windowRows: number;
  /** Packed segments per sequence and tokens per segment there is room for. */
  readonly segments: number;
  readonly segmentTokens: number;
  /** Per layer, the rank of keys and of values, and how many of their columns have which bits if they are *mixed*. */
  readonly sides: readonly { readonly keys: SideLayout; readonly values: SideLayout }[];
  /** Numbers in a token's rotary position. Default 1. */
  readonly positionAxes?: number;
  /** Numbers in the tables of where tokens stand on each axis; only in `m-rope`. */
  readonly axisTables?: { readonly positions: number; readonly indices: number };
  /** Numbers that say which tokens' codes lie where, in tiers. */
  readonly tierIndices?: number;
  /** Tokens waiting to be packed whose unrotated keys and positions are kept; 0 once they are. */
  readonly pendingTokens: number;
  /** Tokens per sequence there is room to remember: an id of four bytes and a mask byte each. */
  readonly tokenCapacity: number;
  /** Numbers kept of each token for eviction and for tiers, and tokens per sequence there is room for; none unless somebody watches. */
  readonly watched?: readonly { readonly numbers: number; readonly capacity: number }[];
}

export interface Footprint {
  /** Exact rows: sink, recent, and text and images not yet packed. */
  readonly window: number;
  readonly codes: number;
  readonly bases: number;
  /** Steps and zeros of integer codes and bases, and how many columns have which bits. */
  readonly steps: number;
  /** Slots, positions and tables of them, token ids and the padding mask. */
  readonly indices: number;
  /** Unrotated keys of what is to be packed and is not yet, and their positions. */
  readonly pending: number;
  /** What eviction and tiers go by: attention or key norms, four bytes a token. */
  readonly watched: number;
  readonly total: number;
}

const INDEX_BYTES = 8;
/** Three counts of eight bytes, for codes or bases that are *mixed*. */
export const WIDTHS_BYTES = 24;
const AXIS_INDEX_BYTES = 4;
const TOKEN_BYTES = 5;
const PENDING_POSITION_BYTES = 4;

/** Bytes of the tables of where tokens stand on each axis, and of whose codes lie where. */
export function axisBytes({ axisTables, tierIndices = 0 }: Extents): number {
  return INDEX_BYTES * (axisTables?.positions ?? 0) + AXIS_INDEX_BYTES * ((axisTables?.indices ?? 0) + tierIndices);
}

/** Bytes of a cache with these extents. */
export function footprint(shape: ModelShape, format: Format, extents: Extents): Footprint {
  const { batch, windowRows, segments, segmentTokens, sides, positionAxes = 1 } = extents;
  const width = (l: number): number => (shape.layers[l]?.numKvHeads ?? 0) * (shape.layers[l]?.headDim ?? 0);
  const sum = (of: (l: number) => number): number => shape.layers.reduce((total, _, l) => total + of(l), 0);
  const both = (l: number, of: (side: SideLayout) => number): number => {
    const layer = sides[l];
    return layer ? of(layer.keys) + of(layer.values) : 0;
  };
  const numMixed = Number(format.codes === 'mixed') + Number(format.basis === 'mixed');
  const window = sum((l) => 2 * batch * windowRows * width(l) * ELEMENT_BYTES[shape.windowType]);
  const codes = batch * segments * segmentTokens * sum((l) => both(l, (side) => codeLength(format, side) * ELEMENT_BYTES[format.codes]));
  const bases = batch * segments * sum((l) => width(l) * both(l, (side) => basisRows(format, side) * ELEMENT_BYTES[format.basis]));
  const steps =
    batch * segments * sum((l) => both(l, (side) => stepLength(format, side) * ELEMENT_BYTES.float32)) +
    sum((l) => both(l, ({ split }) => (split ? numMixed * WIDTHS_BYTES : 0)));
  const indices =
    INDEX_BYTES * batch * (windowRows + (1 + positionAxes) * segments * segmentTokens) +
    TOKEN_BYTES * batch * extents.tokenCapacity +
    axisBytes(extents);
  const pending = extents.pendingTokens * (sum((l) => width(l) * ELEMENT_BYTES.float32) + PENDING_POSITION_BYTES * positionAxes);
  const watched = (extents.watched ?? []).reduce(
    (sum, { numbers, capacity }) => sum + ELEMENT_BYTES.float32 * batch * numbers * capacity,
    0,
  );
  const total = window + codes + bases + steps + indices + pending + watched;
  return { window, codes, bases, steps, indices, pending, watched, total };
}
