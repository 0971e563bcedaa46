/** What was decided of a cache's bytes, and why, as reports tell it. */
import { BITS } from '../encode/widths.ts';
import { type Preset, paperNote } from '../options/preset.ts';
import { nameOf, type Target } from '../options/target.ts';
import type { ModelShape } from '../shape.ts';
import type { AllottedBytes, AllottedSide } from './budget.ts';

/** One layer's keys or values. */
export interface SideAllocation {
  readonly columns: number;
  /** How many columns have 8, 4 and 2 bits; where they may differ. */
  readonly codeBits?: { readonly 8: number; readonly 4: number; readonly 2: number };
  readonly basisBits?: { readonly 8: number; readonly 4: number; readonly 2: number };
  /** Codes, basis and steps of all images of the prompt. */
  readonly bytes: number;
  /** Share of its energy that is estimated to be left out; of keys as they are weighed. */
  readonly lost: number;
  /** Share of all that is left out, in what bytes were spent for. */
  readonly errorShare: number;
}

/** How a budget was spent when the first images were packed. */
export interface AllocationReport {
  /** As asked for: `compression 8`, `budget 2000000` or `preset 'auto'`. */
  readonly asked: string;
  /** What the bytes were spent for; see {@link CacheOptions.spend}. */
  readonly spend: Target['spend'];
  /** Bytes the cache may take once the prompt is read, what it takes then, and the difference: no column, and no bits more of one, would fit and help. */
  readonly budgetBytes: number;
  readonly bytes: number;
  readonly unspentBytes: number;
  /** By how many bytes what came later, text and answers above all, has taken the cache beyond the budget; 0 if it has not. */
  readonly overBytes: number;
  /** Relative error to be expected of what attention adds to the residual stream; where bytes are spent for *output*. */
  readonly outputError?: number;
  readonly layers: readonly { readonly layer: number; readonly keys: SideAllocation; readonly values: SideAllocation }[];
  /** In words. */
  readonly why: readonly string[];
}

/** @param heldBytes by the cache now */
export function tellAllocation(
  target: Target,
  { layers, bytes, mostBytes, outputError }: AllottedBytes,
  shape: ModelShape,
  heldBytes: number,
): AllocationReport {
  const told = layers.map(({ keys, values }, l) => ({
    layer: shape.layers[l]?.index ?? l,
    keys: tellSide(keys),
    values: tellSide(values),
  }));
  const shareOf = (side: 'keys' | 'values', of: 'bytes' | 'errorShare'): number => told.reduce((sum, layer) => sum + layer[side][of], 0);
  const spent = shareOf('keys', 'bytes') + shareOf('values', 'bytes');
  const percent = (share: number): string => `${(100 * share).toFixed(0)} %`;
  const [most] = told
    .flatMap(({ layer, keys, values }) => [
      { name: `keys of layer ${layer}`, bytes: keys.bytes },
      { name: `values of layer ${layer}`, bytes: values.bytes },
    ])
    .sort((a, b) => b.bytes - a.bytes);
  return {
    asked: nameOf(target),
    spend: target.spend,
    budgetBytes: mostBytes,
    bytes,
    unspentBytes: mostBytes - bytes,
    overBytes: Math.max(0, heldBytes - mostBytes),
    ...(outputError !== undefined && { outputError }),
    layers: told,
    why: [
      `${nameOf(target)}: at most ${mostBytes} bytes once the prompt is read, of which ${bytes - spent} are text, sink, indices and tokens, and ${spent} codes and bases`,
      `keys take ${percent(shareOf('keys', 'bytes') / spent)} of those, with ${percent(shareOf('keys', 'errorShare'))} of what is left out; most take the ${most?.name}, ${percent((most?.bytes ?? 0) / spent)}`,
      WHY[target.spend],
      `${mostBytes - bytes} bytes are not spent: no step that helps fits into them`,
    ],
  };
}

const WHY: Readonly<Record<Target['spend'], string>> = {
  output: "each byte went where it took most error from attention's output: keys by what they do to scores, values as they are",
  share: 'each byte went where it took most of the lost share of energy, of keys and values of all layers alike',
  energy: 'each byte went where it took most squared error, whatever that does',
};

function tellSide({ rank, split, bytes, lost, errorShare }: AllottedSide): SideAllocation {
  const bitsOf = (widths: readonly number[]) => Object.fromEntries(BITS.map((bits, i) => [bits, widths[i]])) as SideAllocation['codeBits'];
  const [codeBits, basisBits] = [split?.codes, split?.basis].map((widths) => (widths?.some(Boolean) ? bitsOf(widths) : undefined));
  return { columns: rank, ...(codeBits && { codeBits }), ...(basisBits && { basisBits }), bytes, lost, errorShare };
}

/** What a preset means for this model beyond its own prose. */
export function notesOf(preset: Preset | undefined, shape: ModelShape): string[] {
  const note = paperNote(preset, shape);
  return note === undefined ? [] : [note];
}
