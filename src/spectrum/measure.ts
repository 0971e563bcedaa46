/** Spectra of a prompt's keys and values, layer by layer: each image alone, all images together, and text. */
import { float64Products, type Products } from '../encode/products.ts';
import { type LayerRows, type PromptRows, SIDES, type Side } from './rows.ts';
import { type LostAt, type Needed, type Spectrum, spectrumOf } from './spectrum.ts';

/**
 * Tokens that are factored together. `sampledImages` are as many image tokens as there is text, evenly spread over all images: a matrix of few
 * tokens has a low rank whatever it holds, so text is to be held against these.
 */
export const GROUPS = ['eachImage', 'allImages', 'text', 'sampledImages'] as const;
export type Group = (typeof GROUPS)[number];

/** Spectrum of one group; where it has several matrices, one per image, the mean of theirs. */
export interface GroupSpectrum extends Omit<Spectrum, 'singularValues'> {
  readonly matrices: number;
  /** Of each matrix. */
  readonly singularValues: readonly (readonly number[])[];
}

export type SideSpectra = Readonly<Record<Group, GroupSpectrum>>;

export interface LayerSpectra {
  readonly layer: number;
  readonly numKvHeads: number;
  readonly headDim: number;
  /** `keysBeforeRotary` is missing where the graph does not give them. */
  readonly sides: Readonly<Partial<Record<Side, SideSpectra>>>;
}

export interface SpectrumReport {
  readonly images: number;
  /** Tokens of the prompt, of its images and the rest. */
  readonly tokens: number;
  readonly imageTokens: number;
  readonly textTokens: number;
  readonly layers: readonly LayerSpectra[];
}

/** @param onProgress called before each layer and side with how many are done, of how many */
export async function measureSpectra(
  { numTokens, images, layers }: PromptRows,
  onProgress: (done: number, of: number) => void = () => {},
): Promise<SpectrumReport> {
  const visual = images.flatMap(({ start, end }) => range(start, end));
  const isVisual = new Set(visual);
  const text = range(0, numTokens).filter((t) => !isVisual.has(t));
  const groups: Record<Group, readonly (readonly number[])[]> = {
    eachImage: images.map(({ start, end }) => range(start, end)),
    allImages: [visual],
    text: [text],
    sampledImages: [spread(visual, text.length)],
  };
  const products = await float64Products();
  try {
    const measured: LayerSpectra[] = [];
    const total = layers.reduce((count, { rows }) => count + Object.keys(rows).length, 0);
    let done = 0;
    for (const layer of layers) {
      const { index, numKvHeads, headDim } = layer.shape;
      const sides: Partial<Record<Side, SideSpectra>> = {};
      for (const side of SIDES) {
        if (!layer.rows[side]) continue;
        onProgress(done++, total);
        sides[side] = await sideSpectra(layer, side, groups, products);
      }
      measured.push({ layer: index, numKvHeads, headDim, sides });
    }
    return { images: images.length, tokens: numTokens, imageTokens: visual.length, textTokens: text.length, layers: measured };
  } finally {
    await products.dispose();
  }
}

async function sideSpectra(
  { shape: { numKvHeads, headDim }, rows }: LayerRows,
  side: Side,
  groups: Readonly<Record<Group, readonly (readonly number[])[]>>,
  products: Products<Float64Array>,
): Promise<SideSpectra> {
  const width = numKvHeads * headDim;
  const spectra: Partial<Record<Group, GroupSpectrum>> = {};
  for (const group of GROUPS) {
    const parts: Spectrum[] = [];
    for (const tokens of groups[group]) {
      const matrix = new Float32Array(tokens.length * width);
      for (const [i, t] of tokens.entries()) matrix.set(rows[side]?.subarray(t * width, (t + 1) * width) ?? [], i * width);
      parts.push(await spectrumOf(matrix, tokens.length, width, headDim, products));
    }
    spectra[group] = meanOf(parts);
  }
  return spectra as SideSpectra;
}

/** The mean of one or more spectra; where images differ in size, those past their full rank have nothing more to lose. */
export function meanOf(parts: readonly Spectrum[]): GroupSpectrum {
  const mean = (of: (part: Spectrum) => number): number => parts.reduce((total, part) => total + of(part), 0) / parts.length;
  const fullRank = ({ tokens, width }: Spectrum): number => Math.min(tokens, width);
  const largest = parts.reduce((most, part) => (fullRank(part) > fullRank(most) ? part : most));
  const at = (part: Spectrum, rank: number): LostAt | undefined => part.curve.find((point) => point.rank >= rank);
  return {
    matrices: parts.length,
    tokens: mean((part) => part.tokens),
    width: largest.width,
    energy: mean((part) => part.energy),
    effectiveRank: mean((part) => part.effectiveRank),
    meanShare: mean((part) => part.meanShare),
    curve: largest.curve.map(({ rank }) => ({
      rank,
      held: mean((part) => (rank * (part.tokens + part.width)) / (part.tokens * part.width)),
      combined: mean((part) => at(part, rank)?.combined ?? 0),
      heads: mean((part) => at(part, rank)?.heads ?? 0),
      headsBest: mean((part) => at(part, rank)?.headsBest ?? 0),
      centred: mean((part) => at(part, rank)?.centred ?? 0),
    })),
    needed: largest.needed.map(({ lost }, i) => {
      const needed = (of: Exclude<keyof Needed, 'lost'>): number => mean((part) => part.needed[i]?.[of] ?? 0);
      return {
        lost,
        rank: needed('rank'),
        held: needed('held'),
        headsHeld: needed('headsHeld'),
        headsBestHeld: needed('headsBestHeld'),
        varianceRank: needed('varianceRank'),
      };
    }),
    singularValues: parts.map((part) => part.singularValues),
  };
}

/** `count` of the tokens, evenly spread; all of them if there are no more. */
export function spread(tokens: readonly number[], count: number): readonly number[] {
  if (count >= tokens.length) return tokens;
  return Array.from({ length: count }, (_, i) => tokens[Math.floor((i * tokens.length) / count)] as number);
}

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from }, (_, i) => from + i);
}
