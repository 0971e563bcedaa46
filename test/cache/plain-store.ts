/** A slow, plain twin of CacheStore: a list of tokens for each sequence, and for each whether it stands in the window or in which segment. */
import { massName, newRowsName, PRESENT_POSITIONS, rawKeysName } from '../../src/contract.ts';
import type { Encoder, Factors } from '../../src/encode/factor.ts';
import { toFloat16 } from '../../src/encode/quantise.ts';
import { isGrowing, type ResolvedCacheOptions, type ResolvedEviction } from '../../src/options.ts';
import { Tensor } from '../../src/ort.ts';
import type { Span } from '../../src/prefill.ts';
import type { ModelShape } from '../../src/shape.ts';

export interface PlainToken {
  readonly slot: number;
  readonly position: number;
  readonly isPadding: boolean;
  /** Neither an image's, nor padding, nor of the sink. */
  readonly isText: boolean;
  /** Number of the segment, over all sequences; undefined: in the window. Evicted tokens keep theirs. */
  segment?: number;
  isEvicted?: boolean;
  /** What eviction goes by. */
  score: number;
}

interface PlainSpan {
  readonly sequence: number;
  readonly start: number;
  readonly end: number;
  readonly prompt: number;
}

/** A number that tells layer, kind, sequence, slot and column; all of them are whole, and below 2048, so that half precision holds them. */
export function cell(l: number, kind: 'raw' | 'key' | 'value', b: number, slot: number, column: number): number {
  return ((l * 17 + { raw: 1, key: 5, value: 11 }[kind] + b * 29 + slot * 37 + column * 53) % 199) - 99;
}

/** Positions differ from slots, as they do in padded sequences and in models that count from one. */
export function positionOf(b: number, slot: number): number {
  return 1000 * b + slot + 3;
}

export class PlainStore {
  readonly sequences: PlainToken[][];
  /** Tokens that were packed together, by segment. */
  readonly segmentTokens: number[] = [];
  readonly #options: ResolvedCacheOptions;
  #open: PlainSpan[] = [];
  #images: Omit<PlainSpan, 'prompt'>[] = [];

  constructor(batch: number, options: ResolvedCacheOptions) {
    this.sequences = Array.from({ length: batch }, () => []);
    this.#options = options;
  }

  get numSlots(): number {
    return this.sequences[0]?.length ?? 0;
  }

  begin(spans: readonly (readonly Span[])[], mask: readonly (readonly number[])[]): void {
    const at = this.numSlots;
    spans.forEach((row, sequence) => {
      const all = [...(this.sequences[sequence] ?? []).map((token) => (token.isPadding ? 0 : 1)), ...(mask[sequence] ?? [])];
      const firstToken = Math.max(0, all.indexOf(1));
      for (const { start, end } of row) {
        this.#images.push({ sequence, start: at + start, end: at + end });
        const trimmed = Math.max(at + start, firstToken + this.#options.sink);
        if (trimmed < at + end) this.#open.push({ sequence, start: trimmed, end: at + end, prompt: at });
      }
    });
  }

  append(mask: readonly (readonly number[])[]): void {
    mask.forEach((row, b) => {
      for (const visible of row) {
        const slot = this.sequences[b]?.length ?? 0;
        const before = this.sequences[b]?.findIndex(({ isPadding }) => !isPadding) ?? -1;
        const isImage = this.#images.some(({ sequence, start, end }) => sequence === b && slot >= start && slot < end);
        const isText = Boolean(visible) && !isImage && slot >= (before < 0 ? slot : before) + this.#options.sink;
        this.sequences[b]?.push({ slot, position: positionOf(b, slot), isPadding: !visible, isText, score: 0 });
      }
    });
  }

  /**
   * Scores tokens after a run over the tokens from slot `at` on.
   *
   * @param counted of the run's newest tokens, those whose attention the policy counts
   * @param isPrompt whether they are the first of several new tokens, with which SnapKV's votes begin anew
   */
  watch(shape: ModelShape, at: number, counted: number, isPrompt: boolean): void {
    const { policy } = this.#options.evict || {};
    this.sequences.forEach((tokens, b) => {
      if (policy === 'snapkv' && isPrompt) for (const token of tokens) token.score = 0;
      const numQueries = tokens.slice(tokens.length - counted).filter(({ isPadding }) => !isPadding).length;
      for (const token of tokens.filter(({ isPadding, isEvicted }) => !isPadding && !isEvicted)) {
        const paid = (l: number): number => massOf(l, b, token.slot, at, numQueries);
        if (policy === 'h2o' || policy === 'snapkv') token.score += (paid(0) + paid(1)) / 2;
        if (policy === 'fastv') token.score += paid(1);
        if (policy === 'streaming-llm') token.score = token.slot;
        if (policy === 'key-norm') token.score = -keyNorm(shape, b, token.slot);
      }
    });
  }

  /**
   * Lets the lowest scores go, one token after the other.
   *
   * @param due images whose tokens alone may go; default: all
   */
  evict(rule: ResolvedEviction, due?: readonly PlainSpan[]): void {
    this.sequences.forEach((tokens, b) => {
      const inSpan = (slot: number, spans: readonly Omit<PlainSpan, 'prompt'>[]): boolean =>
        spans.some(({ sequence, start, end }) => sequence === b && slot >= start && slot < end);
      const [done, open] = [this.#images.filter(({ end }) => end <= tokens.length), this.#images.filter(({ end }) => end > tokens.length)];
      const isOf = ({ slot, isPadding }: PlainToken): boolean =>
        !isPadding && !inSpan(slot, open) && (rule.of === 'all' || inSpan(slot, done));
      const firstToken = tokens.findIndex(({ isPadding }) => !isPadding);
      const isSafe = ({ slot }: PlainToken): boolean =>
        slot < firstToken + rule.sink || slot >= tokens.length - rule.recent || (due !== undefined && !inSpan(slot, due));
      const own = this.#images.filter(({ sequence }) => sequence === b);
      const groups = rule.per === 'image' ? own.map((image) => tokens.filter(({ slot }) => inSpan(slot, [image]))) : [tokens];
      for (const ofRule of groups.map((group) => group.filter(isOf))) {
        const keep = rule.keep < 1 ? Math.round(rule.keep * ofRule.length) : rule.keep;
        const held = ofRule.filter(({ isEvicted }) => !isEvicted);
        const free = held.filter((token) => !isSafe(token));
        const scores = new Map(free.map((token, i) => [token, rule.policy === 'snapkv' ? pooled(free, i) : token.score]));
        for (let left = held.length; left > keep && free.length; left--) {
          const worst = free.reduce((low, token) => ((scores.get(token) as number) < (scores.get(low) as number) ? token : low));
          worst.isEvicted = true;
          free.splice(free.indexOf(worst), 1);
        }
      }
    });
    this.#open = this.#open.filter(
      ({ sequence, start, end }) =>
        end > this.numSlots || this.sequences[sequence]?.some(({ slot, isEvicted }) => !isEvicted && slot >= start && slot < end),
    );
  }

  /** @param isEnd whether the last of the tokens announced was run */
  compact(isEnd = true): void {
    const rule = this.#options.evict;
    if (rule && rule.when === 'packing' && this.#due().length) this.evict(rule, this.#due());
    // A basis that grows joins images that were packed, and are cropped, one by one.
    const isOwn = this.#options.basisPer === 'image' || isGrowing(this.#options);
    const due = this.#due();
    const segmentOf = new Map<string, number>();
    for (const span of due) {
      const together = `${span.sequence} ${span.prompt}`;
      if (isOwn || !segmentOf.has(together)) segmentOf.set(together, this.segmentTokens.push(0) - 1);
      const segment = segmentOf.get(together) as number;
      for (const token of this.sequences[span.sequence] ?? []) {
        if (token.slot < span.start || token.slot >= span.end) continue;
        token.segment = segment;
        if (!token.isEvicted) this.segmentTokens[segment] = (this.segmentTokens[segment] as number) + 1;
      }
    }
    this.#open = this.#open.filter((span) => !due.includes(span));
    this.sequences.forEach((tokens, b) => {
      const last = due.findLast(({ sequence }) => sequence === b);
      this.#compactText(b, tokens, last && segmentOf.get(`${b} ${last.prompt}`), isEnd);
    });
  }

  /** @param along segment of the images of this sequence just packed */
  #compactText(b: number, tokens: readonly PlainToken[], along: number | undefined, isEnd: boolean): void {
    const { text, basisPer, compactAt } = this.#options;
    if (!text) return;
    const old = tokens.filter((token) => isWaiting(token) && token.slot < this.numSlots - text.recent);
    const joins = basisPer === 'context' && along !== undefined;
    if (!joins) {
      if (old.length < text.every) return;
      if (compactAt === 'context' && (!isEnd || this.#open.some(({ sequence, end }) => sequence === b && end > this.numSlots))) return;
      if (compactAt === 'span' && basisPer === 'image') old.splice(old.length - (old.length % text.every));
    }
    if (!old.length) return;
    const segment = joins && !isGrowing(this.#options) ? along : this.segmentTokens.push(0) - 1;
    for (const token of old) token.segment = segment;
    // Text of its own may be cut, but no piece is shorter than `every`.
    this.segmentTokens[segment] = (this.segmentTokens[segment] as number) + old.length;
  }

  #due(): PlainSpan[] {
    const { recent, compactAt } = this.#options;
    return this.#open.filter(
      (span) =>
        span.end <= this.numSlots - recent &&
        (compactAt === 'span' || this.#open.every((other) => other.sequence !== span.sequence || other.end <= this.numSlots)),
    );
  }

  /** Whether `crop(length)` would take images packed together apart. */
  cuts(length: number): boolean {
    return this.sequences.some((tokens) => {
      const ofImages = tokens.filter(({ isText }) => !isText);
      const before = new Set(ofImages.filter(({ slot }) => slot < length).map((token) => token.segment));
      const isLeft = (segment: number): boolean => ofImages.some((token) => token.segment === segment && !token.isEvicted);
      return ofImages
        .filter(({ slot }) => slot >= length)
        .some(({ segment }) => segment !== undefined && before.has(segment) && isLeft(segment));
    });
  }

  crop(length: number): void {
    for (const tokens of this.sequences) tokens.splice(length);
    this.#open = this.#open.filter((span) => span.end <= length);
    this.#images = this.#images.filter((image) => image.end <= length);
  }

  /** Tokens whose keys before rotary embedding are kept: all of an image from its first token on, and text that waits. */
  get pendingTokens(): number {
    const numEvicted = ({ sequence, start, end }: PlainSpan): number =>
      this.sequences[sequence]?.filter(({ slot, isEvicted }) => isEvicted && slot >= start && slot < end).length ?? 0;
    const begun = this.#open.filter(({ start }) => start < this.numSlots);
    const numText = this.#options.text ? this.sequences.flat().filter(isWaiting).length : 0;
    return begun.reduce((sum, span) => sum + span.end - span.start - numEvicted(span), numText);
  }
}

/** Text that stands in the window and may be packed one day. */
function isWaiting({ isText, isEvicted, segment }: PlainToken): boolean {
  return isText && !isEvicted && segment === undefined;
}

/** Mean over key heads; rounded as it is summed, so that equal norms stay equal. */
function keyNorm(shape: ModelShape, b: number, slot: number): number {
  const heads = shape.layers.flatMap(({ numKvHeads, headDim }, l) =>
    Array.from({ length: numKvHeads }, (_, h) =>
      Math.hypot(...Array.from({ length: headDim }, (_, d) => cell(l, 'key', b, slot, h * headDim + d))),
    ),
  );
  return heads.reduce((sum, norm) => Math.fround(sum + norm / heads.length), 0);
}

/** SnapKV's pool of five. */
function pooled(tokens: readonly PlainToken[], i: number): number {
  const near = tokens.slice(Math.max(0, i - 2), i + 3);
  return near.reduce((sum, { score }) => sum + score, 0) / near.length;
}

/** What `numQueries` real queries of a run pay to a token, in one layer: quarters, so that sums are exact. */
export function massOf(l: number, b: number, slot: number, at: number, numQueries: number): number {
  return (numQueries * ((l * 17 + b * 29 + slot * 37 + at * 11) % 13)) / 4;
}

/**
 * `present_mass` of a run.
 *
 * @param columns slots by sequence, those of the new tokens included
 * @param numQueries that count and are no padding, by sequence
 */
export function massOutputs(
  shape: ModelShape,
  columns: readonly (readonly number[])[],
  at: number,
  numQueries: readonly number[],
): Record<string, Tensor> {
  return Object.fromEntries(
    shape.layers.map(({ index }, l) => {
      const mass = columns.flatMap((slots, b) => slots.map((slot) => (slot < 0 ? 77 : massOf(l, b, slot, at, numQueries[b] ?? 0))));
      return [massName(index), new Tensor('float32', Float32Array.from(mass), [columns.length, columns[0]?.length ?? 0])];
    }),
  );
}

/** What a packed decoder would return for `numTokens` new tokens of each sequence from slot `at` on. */
export function decoderOutputs(shape: ModelShape, batch: number, at: number, numTokens: number): Record<string, Tensor> {
  const outputs: Record<string, Tensor> = {};
  const rows = (l: number, kind: 'raw' | 'key' | 'value'): Float32Array => {
    const { numKvHeads, headDim } = shape.layers[l] as ModelShape['layers'][number];
    const out = new Float32Array(batch * numKvHeads * numTokens * headDim);
    for (let i = 0; i < out.length; i++) {
      const [d, n, h] = [i % headDim, Math.floor(i / headDim) % numTokens, Math.floor(i / headDim / numTokens) % numKvHeads];
      out[i] = cell(l, kind, Math.floor(i / headDim / numTokens / numKvHeads), at + n, h * headDim + d);
    }
    return out;
  };
  shape.layers.forEach(({ index, numKvHeads, headDim }, l) => {
    const dims = [batch, numKvHeads, numTokens, headDim];
    const typed = (values: Float32Array): Tensor =>
      shape.windowType === 'float16' ? new Tensor('float16', toFloat16(values), dims) : new Tensor('float32', values, dims);
    outputs[newRowsName(index, 'key')] = typed(rows(l, 'key'));
    outputs[newRowsName(index, 'value')] = typed(rows(l, 'value'));
    outputs[rawKeysName(index)] = new Tensor('float32', rows(l, 'raw'), dims);
  });
  const positions = Array.from({ length: batch * numTokens }, (_, i) => positionOf(Math.floor(i / numTokens), at + (i % numTokens)));
  outputs[PRESENT_POSITIONS] = new Tensor('int64', BigInt64Array.from(positions.map(BigInt)), [batch, numTokens]);
  return outputs;
}

/** Keeps the first `rank` columns and drops the others, so that what a packed token reads is known without a factorisation. */
export const FIRST_COLUMNS: Encoder = {
  factor(rows, numTokens, width, wanted): Promise<Factors> {
    const rank = Math.min(wanted, numTokens, width);
    const codes = Float32Array.from({ length: numTokens * rank }, (_, i) => rows[Math.floor(i / rank) * width + (i % rank)] as number);
    const basis = Float32Array.from({ length: rank * width }, (_, i) => (Math.floor(i / width) === i % width ? 1 : 0));
    return Promise.resolve({ codes, basis, rank, lostEnergy: 0, singularValues: new Float32Array(rank) });
  },
  /** Rows held are the first columns already; those further come as there is room. */
  extend(rows, numTokens, width, held, { rank: most }): Promise<Factors> {
    const rank = Math.max(held.length / width, Math.min(most, width));
    const codes = Float32Array.from({ length: numTokens * rank }, (_, i) => rows[Math.floor(i / rank) * width + (i % rank)] as number);
    const basis = Float32Array.from({ length: rank * width }, (_, i) => (Math.floor(i / width) === i % width ? 1 : 0));
    return Promise.resolve({ codes, basis, rank, lostEnergy: 0, singularValues: new Float32Array(rank) });
  },
  dispose: () => Promise.resolve(),
};
