/** Finds image spans in token ids and cuts a prompt into chunks that end where images must be packed. */
import type { CompactAt } from './options.ts';

/** Tokens [start, end) of one row, counted from the first new token; all of one image. */
export interface Span {
  readonly start: number;
  readonly end: number;
  /** Its tokens in time, height and width, where positions go by them. */
  readonly grid?: Grid;
}

/** Frames, rows and columns of tokens. */
export type Grid = readonly [time: number, height: number, width: number];

/** Positions a span takes: the largest extent of its grid, else one for each token. */
export function stepsOf({ start, end, grid }: Span): number {
  return grid ? Math.max(...grid) : end - start;
}

/**
 * Spans of image tokens in one row's new token ids.
 *
 * A run of image tokens is one image, or several of equal length if `tokensPerImage` says so and divides it: models whose prompts put
 * images side by side without a separator give one run for all of them.
 */
export function imageSpans(ids: ArrayLike<number>, imageToken: number, tokensPerImage?: number): Span[] {
  const spans: Span[] = [];
  for (let start = 0; start < ids.length; start++) {
    if (ids[start] !== imageToken) continue;
    let end = start;
    while (end < ids.length && ids[end] === imageToken) end++;
    const length = end - start;
    const step = tokensPerImage && length % tokensPerImage === 0 ? tokensPerImage : length;
    for (let at = start; at < end; at += step) spans.push({ start: at, end: at + step });
    start = end;
  }
  return spans;
}

/**
 * Ends of the chunks in which `numTokens` new tokens go through the decoder, the last one being `numTokens`.
 *
 * A chunk never runs past a place where spans are packed, so that whatever follows an image reads it packed: with *span* that is the end
 * of every span, with *context* the end of each row's last one.
 */
export function chunkEnds(numTokens: number, rows: readonly (readonly Span[])[], chunk: number, compactAt: CompactAt): number[] {
  const stops = new Set(rows.flatMap((spans) => (compactAt === 'span' ? spans : spans.slice(-1)).map((span) => span.end)));
  const ends: number[] = [];
  let last = 0;
  for (let at = 1; at <= numTokens; at++) {
    if (stops.has(at) || at - last === chunk || at === numTokens) {
      ends.push(at);
      last = at;
    }
  }
  return ends;
}
