/** Lost energy of keys and values against rank, over groups of tokens: images, text and both together; the paper's figure 2. */
import { float64Products, type Products } from '../../src/encode/products.ts';
import { lostByColumns, sum } from '../../src/spectrum/energies.ts';
import { spread } from '../../src/spectrum/measure.ts';
import type { PromptRows, Side } from '../../src/spectrum/rows.ts';
import { SIDES } from '../../src/spectrum/rows.ts';
import { type Spectrum, spectrumOf } from '../../src/spectrum/spectrum.ts';

/** `sampled`: as many image tokens as there is text, evenly spread; a matrix of few tokens has a low rank whatever it holds. */
export const GROUPS = ['image', 'images', 'sampled', 'text', 'together'] as const;
export type Group = (typeof GROUPS)[number];

export interface LostPoint {
  readonly rank: number;
  /** Share of energy lost, mean over contexts and layers, with the least and the most of them. */
  readonly combined: number;
  readonly least: number;
  readonly most: number;
  /** Each head alone, at equal bytes. */
  readonly heads: number;
  /** Of `together`: images and text with a basis each, at equal numbers held, split as suits them best. */
  readonly apart?: number;
}

export interface LostCurve {
  readonly side: Side;
  readonly group: Group;
  /** Mean tokens of a matrix, and how many matrices this is the mean of. */
  readonly tokens: number;
  readonly matrices: number;
  readonly points: readonly LostPoint[];
}

/** The curve of one matrix. */
export type MatrixCurve = Pick<LostCurve, 'side' | 'group' | 'tokens'> & {
  readonly points: readonly Pick<LostPoint, 'rank' | 'combined' | 'heads' | 'apart'>[];
};

/** Curves of every layer, side and group of one prompt. `image` is the first image alone. */
export async function spectraOf({ numTokens, images, layers }: PromptRows): Promise<MatrixCurve[]> {
  const visual = images.flatMap(({ start, end }) => range(start, end));
  const isVisual = new Set(visual);
  const text = range(0, numTokens).filter((t) => !isVisual.has(t));
  const first = images[0];
  const tokensOf: Record<Group, readonly number[]> = {
    image: first ? range(first.start, first.end) : [],
    images: visual,
    sampled: spread(visual, text.length),
    text,
    together: range(0, numTokens),
  };
  const products = await float64Products();
  const curves: MatrixCurve[] = [];
  try {
    for (const { shape, rows } of layers) {
      const width = shape.numKvHeads * shape.headDim;
      for (const side of SIDES) {
        const of = rows[side];
        if (!of) continue;
        const spectra = {} as Record<Group, Spectrum>;
        for (const group of GROUPS) spectra[group] = await spectrum(of, tokensOf[group], width, shape.headDim, products);
        for (const group of GROUPS) curves.push(curveOf(side, group, spectra));
      }
    }
    return curves;
  } finally {
    await products.dispose();
  }
}

function spectrum(
  rows: Float32Array,
  tokens: readonly number[],
  width: number,
  headDim: number,
  products: Products<Float64Array>,
): Promise<Spectrum> {
  const matrix = new Float32Array(tokens.length * width);
  for (const [i, t] of tokens.entries()) matrix.set(rows.subarray(t * width, (t + 1) * width), i * width);
  return spectrumOf(matrix, tokens.length, width, headDim, products);
}

function curveOf(side: Side, group: Group, spectra: Readonly<Record<Group, Spectrum>>): MatrixCurve {
  const { tokens, width, curve } = spectra[group];
  const [images, text] = [partOf(spectra.images), partOf(spectra.text)];
  return {
    side,
    group,
    tokens,
    points: curve.map(({ rank, combined, heads }) => ({
      rank,
      combined: digits(combined),
      heads: digits(heads),
      ...(group === 'together' && { apart: digits(lostApart(images, text, width, rank)) }),
    })),
  };
}

/** One of two groups of tokens that are factored apart. */
export interface ApartGroup {
  /** Squared singular values, descending. */
  readonly energies: Float64Array;
  readonly tokens: number;
}

const partOf = ({ singularValues, tokens }: Spectrum): ApartGroup => ({
  energies: Float64Array.from(singularValues, (value) => value * value),
  tokens,
});

/**
 * Share of the energy of both groups lost by the best two ranks whose codes and bases hold no more numbers than `rank` columns of the groups
 * together do: rank·(T + W).
 */
export function lostApart(a: ApartGroup, b: ApartGroup, width: number, rank: number): number {
  const total = sum(a.energies) + sum(b.energies);
  if (total === 0) return 0;
  const [lostA, lostB] = [lostByColumns(a.energies, total), lostByColumns(b.energies, total)];
  const numbers = rank * (a.tokens + b.tokens + width);
  let least = 1;
  for (let columns = 0; columns < lostA.length; columns++) {
    const left = numbers - columns * (a.tokens + width);
    if (left < 0) break;
    const others = Math.min(lostB.length - 1, Math.floor(left / (b.tokens + width)));
    least = Math.min(least, (lostA[columns] ?? 0) + (lostB[others] ?? 0));
  }
  return least;
}

/** Matrices of one side and group -> their mean. Ranks past a smaller matrix's full rank lose nothing there. */
export function meanCurves(curves: readonly MatrixCurve[]): LostCurve[] {
  return SIDES.flatMap((side) =>
    GROUPS.flatMap((group): LostCurve[] => {
      const own = curves.filter((curve) => curve.side === side && curve.group === group);
      const longest = own.reduce<readonly { readonly rank: number }[]>(
        (most, { points }) => (points.length > most.length ? points : most),
        [],
      );
      if (!own.length) return [];
      const mean = (values: readonly number[]): number => digits(values.reduce((total, value) => total + value, 0) / values.length);
      return [
        {
          side,
          group,
          tokens: mean(own.map(({ tokens }) => tokens)),
          matrices: own.length,
          points: longest.map(({ rank }) => {
            const at = own.map(({ points }) => points.find((point) => point.rank >= rank));
            const combined = at.map((point) => point?.combined ?? 0);
            return {
              rank,
              combined: mean(combined),
              least: Math.min(...combined),
              most: Math.max(...combined),
              heads: mean(at.map((point) => point?.heads ?? 0)),
              ...(group === 'together' && { apart: mean(at.map((point) => point?.apart ?? 0)) }),
            };
          }),
        },
      ];
    }),
  );
}

const digits = (value: number): number => Number(value.toPrecision(5));

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from }, (_, i) => from + i);
}
