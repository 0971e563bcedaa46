/** Text on its way into the packed part: which of it is old enough, and how it is grouped. */
import type { ResolvedCacheOptions } from '../options.ts';
import type { ModelShape } from '../shape.ts';
import { ELEMENT_BYTES } from './footprint.ts';
import type { Format } from './format.ts';
import { type OpenSpan, openSpan, partOf, slotsOf } from './spans.ts';

/** Tokens [start, end) of one sequence. */
export interface Range {
  readonly sequence: number;
  readonly start: number;
  readonly end: number;
}

/**
 * The text of a run over the tokens from slot `at` on, as one span for each sequence that has any: all that is no padding, no image's and not of the sink.
 *
 * @param mask [B][N]; 0 is padding
 * @param images those the cache was told of
 * @param sinkEnds one past each sequence's sink
 */
export function textSpans(
  mask: readonly (readonly number[])[],
  at: number,
  images: readonly Range[],
  sinkEnds: readonly number[],
): OpenSpan[] {
  return mask.flatMap((row, b) => {
    const among = images.filter(({ sequence, start, end }) => sequence === b && start < at + row.length && end > at);
    const slots = row.flatMap((visible, n) => (visible && at + n >= (sinkEnds[b] as number) ? [at + n] : []));
    const text = slots.filter((slot) => !among.some(({ start, end }) => slot >= start && slot < end));
    const [first, last] = [text[0], text.at(-1)];
    return first === undefined || last === undefined ? [] : [openSpan(b, first, last + 1, at, text)];
  });
}

/** What says whether text is due. */
export interface TextState {
  /** Slots filled. */
  readonly seen: number;
  /** Whether the call's last token was run. */
  readonly isEnd: boolean;
  /** Images about to be packed, and those that are not whole yet. */
  readonly images: readonly OpenSpan[];
  readonly open: readonly OpenSpan[];
  readonly batch: number;
}

/**
 * Splits text into what is to be packed now and what is not. Due is text behind which the newest tokens are: along with images if it shares their basis, else
 * when enough of it stands dense. With *context*, that is asked when a call is over, and images are not waited for; with *span* at once.
 */
export function dueText(
  shape: ModelShape,
  spans: readonly OpenSpan[],
  { seen, isEnd, images, open, batch }: TextState,
  { text, compactAt, basisPer }: ResolvedCacheOptions,
): { readonly due: OpenSpan[]; readonly left: OpenSpan[] } {
  if (!text) return { due: [], left: [...spans] };
  const isOf = (b: number, list: readonly OpenSpan[]): boolean => list.some(({ sequence }) => sequence === b);
  // One past the last slot that is packed now, by sequence.
  const ends = Array.from({ length: batch }, (_, b) => {
    const old = spans.filter(({ sequence }) => sequence === b).flatMap(slotsOf).filter((slot) => slot < seen - text.recent); // biome-ignore format: a chain
    const goesAlong = basisPer === 'context' && isOf(b, images);
    const waits = compactAt === 'context' && (!isEnd || isOf(b, open));
    if (!goesAlong && (waits || old.length < text.every)) return 0;
    // Blocks that come one after the other are of one length, since segments are as long as the longest.
    const isBlock = compactAt === 'span' && basisPer === 'image';
    const taken = isBlock ? old.length - (old.length % text.every) : old.length;
    return taken ? (old[taken - 1] as number) + 1 : 0;
  });
  if (ends.every((end) => !end)) return { due: [], left: [...spans] };
  const parts = (isKept: (slot: number, end: number) => boolean): OpenSpan[] =>
    spans.flatMap((span) => partOf(shape, span, (slot) => isKept(slot, ends[span.sequence] as number)) ?? []);
  return { due: parts((slot, end) => slot < end), left: parts((slot, end) => slot >= end) };
}

/**
 * Text as it will be when the call is over, for one sequence whose images are all about to be packed: what is packed by then but not now, and what is left.
 *
 * @param left read already, and not due now
 * @param unread slots of text that is still to be run
 */
export function textToCome(
  shape: ModelShape,
  left: readonly OpenSpan[],
  unread: readonly number[],
  numSlots: number,
  options: ResolvedCacheOptions,
): { readonly due: OpenSpan[]; readonly left: OpenSpan[] } {
  const [first, last] = [unread[0], unread.at(-1)];
  const coming = first === undefined || last === undefined ? [] : [openSpan(0, first, last + 1, first, unread)];
  return dueText(shape, [...left, ...coming], { seen: numSlots, isEnd: true, images: [], open: [], batch: 1 }, options);
}

/** Images and text of one sequence that share a basis. */
export interface SpanGroup {
  readonly images: readonly OpenSpan[];
  readonly text: readonly OpenSpan[];
}

export function spansOf({ images, text }: SpanGroup): OpenSpan[] {
  return [...images, ...text];
}

/** What a cut of text into segments is chosen by. */
export interface Packed {
  /** Segments the sequence has, and tokens of the longest. */
  readonly segments: number;
  readonly tokens: number;
}

/**
 * Puts text to the images it shares a basis with, or into groups of its own.
 *
 * @param groups images that share a basis
 * @param packed what is packed already, by sequence
 */
export function withText(
  shape: ModelShape,
  groups: readonly (readonly OpenSpan[])[],
  text: readonly OpenSpan[],
  { text: wanted, basisPer, compactAt }: ResolvedCacheOptions,
  format: Format & { readonly bits: number },
  packed: readonly Packed[],
): SpanGroup[] {
  const isOf = (b: number, group: readonly OpenSpan[]): boolean => group[0]?.sequence === b;
  const isGrowing = basisPer === 'context' && compactAt === 'span';
  const textOf = (b: number): OpenSpan[] => text.filter(({ sequence }) => sequence === b);
  // Where a basis grows, text comes first: it is older than most of its images, and would find the basis full of theirs.
  const own = packed.flatMap(({ segments, tokens }, b) => {
    const all = textOf(b);
    const beside = groups.filter((group) => isOf(b, group));
    if (!wanted || !all.length || (basisPer === 'context' && !isGrowing && beside.length)) return [];
    if (isGrowing) return [{ images: [], text: all }];
    const lengths = beside.map((group) => group.reduce((sum, span) => sum + slotsOf(span).length, 0));
    const slots = all.flatMap(slotsOf);
    const held = { segments: segments + beside.length, tokens: Math.max(tokens, ...lengths) };
    const numPieces = cheapestCut(slots.length, wanted.every, held, meanWidth(shape), format);
    return Array.from({ length: numPieces }, (_, k) => {
      const [from, to] = [k, k + 1].map((i) => slots[Math.floor((i * slots.length) / numPieces)] ?? Number.POSITIVE_INFINITY) as [number, number]; // biome-ignore format: a pair
      return { images: [], text: all.flatMap((span) => partOf(shape, span, (slot) => slot >= from && slot < to) ?? []) };
    });
  });
  const last = (group: readonly OpenSpan[]): boolean => groups.findLast((other) => isOf(group[0]?.sequence ?? -1, other)) === group;
  const shared = groups.map((images) => ({
    images,
    text: basisPer === 'context' && !isGrowing && last(images) ? textOf(images[0]?.sequence ?? -1) : [],
  }));
  return [...own, ...shared];
}

/**
 * Into how many segments text is cut so that all segments take the fewest bytes: few bases, but segments not longer than the others, which would be padded.
 *
 * @param least tokens of a piece
 * @param width W, mean over layers
 */
export function cheapestCut(
  numTokens: number,
  least: number,
  held: Packed,
  width: number,
  { codes, basis, bits }: Format & { readonly bits: number },
): number {
  // biome-ignore format: arguments
  const bytesOf = (type: keyof typeof ELEMENT_BYTES): number => (type === 'mixed' ? bits / 8 : ELEMENT_BYTES[type]);
  let best = { numPieces: 1, cost: Number.POSITIVE_INFINITY };
  for (let numPieces = 1; numPieces <= Math.max(1, Math.floor(numTokens / least)); numPieces++) {
    const tokens = Math.max(held.tokens, Math.ceil(numTokens / numPieces));
    const cost = (held.segments + numPieces) * (tokens * bytesOf(codes) + width * bytesOf(basis));
    if (cost < best.cost) best = { numPieces, cost };
  }
  return best.numPieces;
}

function meanWidth({ layers }: ModelShape): number {
  return layers.reduce((sum, { numKvHeads, headDim }) => sum + numKvHeads * headDim, 0) / layers.length;
}
