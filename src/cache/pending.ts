/** What stands dense and waits to be packed: images until they are complete, text until it is old, and the keys before rotary embedding kept of both. */
import type { ResolvedCacheOptions } from '../options.ts';
import { packsRawKeys } from '../shape.ts';
import type { PackedGraph } from './feeds.ts';
import {
  dueSpans,
  keepRawKeys,
  keptBytes,
  type OpenSpan,
  type Outputs,
  openSpan,
  partOf,
  slotsOf,
  tokensKept,
  tokensLacking,
  withoutEvicted,
} from './spans.ts';
import { dueText, type Range, textSpans } from './text.ts';

export class Pending {
  readonly #graph: PackedGraph;
  readonly #options: ResolvedCacheOptions;
  #images: readonly OpenSpan[] = [];
  #text: readonly OpenSpan[] = [];

  constructor(graph: PackedGraph, options: ResolvedCacheOptions) {
    this.#graph = graph;
    this.#options = options;
  }

  /** Images that are not packed, those to come included. */
  get numImages(): number {
    return this.#images.length;
  }

  /** Tokens of the longest of those images. */
  get longest(): number {
    return Math.max(0, ...this.#images.map(({ start, end }) => end - start));
  }

  /** An image to come, whose tokens [start, end) are to be packed; `prompt` is the first slot of the call that brings it. */
  announce(sequence: number, start: number, end: number, prompt: number): void {
    this.#images = [...this.#images, openSpan(sequence, start, end, prompt)];
  }

  /**
   * Takes in the outputs of a run over the tokens from slot `at` on.
   *
   * @param images all the cache was told of
   * @param sinkEnds one past each sequence's sink
   */
  append(outputs: Outputs, mask: readonly (readonly number[])[], at: number, images: readonly Range[], sinkEnds: readonly number[]): void {
    if (this.#options.text) this.#text = [...this.#text, ...textSpans(mask, at, images, sinkEnds)];
    if (!packsRawKeys(this.#graph.rotary)) return;
    keepRawKeys(this.#graph.shape, [...this.#images, ...this.#text], outputs, at, mask[0]?.length ?? 0);
  }

  /** Tokens that images begun before slot `seen` still lack. */
  lacking(seen: number): number {
    return tokensLacking(this.#images, seen);
  }

  /** Images to be packed now that `seen` slots are filled. */
  dueImages(seen: number): OpenSpan[] {
    return dueSpans(this.#images, seen, this.#options);
  }

  /**
   * Text to be packed now, and text to be kept.
   *
   * @param isEnd whether the call's last token was run
   * @param images about to be packed
   */
  dueText(seen: number, isEnd: boolean, images: readonly OpenSpan[], batch: number): ReturnType<typeof dueText> {
    const open = this.#images.filter(({ end }) => end > seen);
    return dueText(this.#graph.shape, this.#text, { seen, isEnd, images, open, batch }, this.#options);
  }

  /** Strikes out what was packed. */
  strike(images: readonly OpenSpan[], textLeft: readonly OpenSpan[]): void {
    this.#images = this.#images.filter((span) => !images.includes(span));
    this.#text = textLeft;
  }

  /** Forgets the tokens at slots `gone[b]` of each sequence. */
  remove(gone: readonly ReadonlySet<number>[]): void {
    this.#images = withoutEvicted(this.#graph.shape, this.#images, gone);
    this.#text = withoutEvicted(this.#graph.shape, this.#text, gone);
  }

  /** Forgets slots from `length` on, and images that would be cut: what is left of those stays dense for good. */
  crop(length: number): void {
    this.#images = this.#images.filter((span) => span.end <= length);
    this.#text = this.#text.flatMap((span) => partOf(this.#graph.shape, span, (slot) => slot < length) ?? []);
  }

  /** Tokens whose keys before rotary embedding are kept. */
  get tokens(): number {
    return tokensKept([...this.#images, ...this.#text]);
  }

  /** Image tokens whose keys before rotary embedding will be kept once `packed` are packed and all images were read. */
  imageTokensBut(packed: readonly OpenSpan[]): number {
    return this.#images.filter((span) => !packed.includes(span)).reduce((sum, span) => sum + slotsOf(span).length, 0);
  }

  get bytes(): number {
    return keptBytes([...this.#images, ...this.#text]);
  }
}
