/** Who takes part, in the order of the first round. */
import type { Opponent } from './opponent.ts';
import { packedOpponent } from './packed.ts';
import { stock } from './stock.ts';

const PAPER = { keys: 64, values: 64 };

/** The row that is held against `stock`. */
export const PACKED = 'packed';

export const OPPONENTS: readonly Opponent[] = [
  stock,
  packedOpponent({
    name: 'dense-window',
    description: 'the packed decoder with nothing packed: all tokens in the window',
    span: 'none',
    rank: PAPER,
    codes: 'float32',
    rotary: 'post-rope',
  }),
  packedOpponent({
    name: PACKED,
    description: 'images of 576 tokens, rank 64/64, float32 codes, post-rope',
    span: 'image',
    rank: PAPER,
    codes: 'float32',
    rotary: 'post-rope',
  }),
  packedOpponent({
    name: 'packed-int8',
    description: 'the same with int8 codes',
    span: 'image',
    rank: PAPER,
    codes: 'int8',
    rotary: 'post-rope',
  }),
  packedOpponent({
    name: 'packed-half',
    description: 'the same with codes, bases and window in float16',
    span: 'image',
    rank: PAPER,
    codes: 'float16',
    basis: 'float16',
    window: 'float16',
    rotary: 'post-rope',
  }),
  packedOpponent({
    name: 'packed-span',
    description: 'all images as one span, rank 96/48, float32 codes, post-rope',
    span: 'context',
    rank: { keys: 96, values: 48 },
    codes: 'float32',
    rotary: 'post-rope',
  }),
  packedOpponent({
    name: 'packed-late',
    description: 'images of 576 tokens, rank 64/64, float32 codes, rotate-late',
    span: 'image',
    rank: PAPER,
    codes: 'float32',
    rotary: 'rotate-late',
  }),
  packedOpponent({
    name: 'packed-context',
    description: 'like packed, but all images wait dense for the last one, as is the default of packed()',
    span: 'image',
    rank: PAPER,
    codes: 'float32',
    rotary: 'post-rope',
    compactAt: 'context',
  }),
];

/** Left out unless asked for: steps are those of `packed`; only the way there, and so the peak of memory, differs. */
export const ON_REQUEST: readonly string[] = ['packed-context'];
