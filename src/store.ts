/** What a PackedCache holds: window, packed part, the tokens seen, and what waits to be packed. Knows nothing of transformers.js. */

import { axisTableNumbers } from './cache/axis-tables.ts';
import { type AllottedBytes, allot, columnsFor, type Prospect, roomFor } from './cache/budget.ts';
import { makeFeeds, type PackedGraph, positionAxes } from './cache/feeds.ts';
import { type Extents, type Footprint, footprint } from './cache/footprint.ts';
import { layoutOf } from './cache/format.ts';
import { isWithin, type SeenImage, SeenImages } from './cache/images.ts';
import type { LostEnergy } from './cache/lost-energy.ts';
import { type NewSegment, PackedPart } from './cache/packed.ts';
import { Pending } from './cache/pending.ts';
import { prospectOf } from './cache/prospect.ts';
import { SegmentBooks } from './cache/segments.ts';
import { slotsAsNumbers } from './cache/slot-numbers.ts';
import { factoredTogether, type OpenSpan, type Outputs, outputRows, slotsOf } from './cache/spans.ts';
import { type SpanGroup, spansOf, withText } from './cache/text.ts';
import { TokenLog } from './cache/tokens.ts';
import { DenseWindow, type Rows } from './cache/window.ts';
import { compact, meanWeightedLost } from './compact.ts';
import { MASS_QUERIES, newRowsName, PACKED_SLOTS, WINDOW_SLOTS } from './contract.ts';
import type { Encoder } from './encode/factor.ts';
import type { Metric } from './encode/weighted.ts';
import { AttentionPackError, assert } from './errors.ts';
import { checkGraphGives, checkWatched, Eviction } from './evict.ts';
import { joined } from './joined.ts';
import { checkBits, columnsWanted } from './options/bits.ts';
import { nameOf } from './options/target.ts';
import { checkBases, growthOf, type Ranks, type ResolvedCacheOptions, type ResolvedEviction } from './options.ts';
import { Tensor } from './ort.ts';
import { type Span, stepsOf } from './prefill.ts';
import { packsRawKeys } from './shape.ts';
import { checkTiers, massInPlace, Tiering, type TierReport, tierReport, tierRule } from './tiering.ts';

/** What eviction and tiers know of the attention that tokens got. */
export interface Attention {
  readonly eviction: Eviction | undefined;
  readonly tiering: Tiering | undefined;
}

/** The call under way: its first slot, its new tokens per sequence, whether images are among them, and what eviction and tiers knew before it. */
interface Call {
  readonly at: number;
  readonly numTokens: number;
  readonly hasImages: boolean;
  /** [B][N]; 0 for padding. */
  readonly mask: readonly (readonly number[])[];
  readonly before: Eviction | undefined;
  readonly tieringBefore: Tiering | undefined;
}

export class CacheStore {
  readonly graph: PackedGraph;
  readonly options: ResolvedCacheOptions;
  readonly #encoder: () => Promise<Encoder>;
  #window: DenseWindow | undefined;
  #packed: PackedPart | undefined;
  #pending: Pending;
  #tokens: TokenLog | undefined;
  #images = new SeenImages();
  #books = new SegmentBooks();
  #compactMs = 0;
  #feeds: Record<string, Tensor> | undefined;
  #eviction: Eviction | undefined;
  #tiering: Tiering | undefined;
  #call: Call | undefined;
  #allotted: AllottedBytes | undefined;

  /** @throws {AttentionPackError} if tokens are to be evicted by what the graph does not tell, or bits to be shared out that it does not read */
  constructor(graph: PackedGraph, options: ResolvedCacheOptions, encoder: () => Promise<Encoder>) {
    if (options.evict) checkGraphGives(graph, options.evict);
    checkBits(graph, options);
    checkBases(graph, options);
    checkTiers(graph, options);
    growthOf(graph, options);
    this.graph = graph;
    this.options = options;
    this.#encoder = encoder;
    this.#pending = new Pending(graph, options);
  }

  /** Slots used so far: tokens per sequence, padding included. */
  get numSlots(): number {
    return this.#tokens?.length ?? 0;
  }

  get batch(): number {
    return this.#window?.batch ?? 0;
  }

  /** Image tokens in the packed part, over all sequences. */
  get packedTokens(): number {
    return this.#books.imageTokens;
  }

  /** Images in the packed part, over all sequences. */
  get packedSpans(): number {
    return this.#books.images;
  }

  /** One past the last image that is not whole in the window, being packed or evicted, over all sequences; 0 while there is none. */
  get packedEnd(): number {
    const isWhole = ({ sequence, start, end }: SeenImage): boolean => this.#window?.rowsIn(sequence, start, end).length === end - start;
    return this.#images.all.reduce((last, image) => (image.end > this.numSlots || isWhole(image) ? last : Math.max(last, image.end)), 0);
  }

  /** Tokens of text in the packed part, over all sequences. */
  get packedText(): number {
    return this.#books.textTokens;
  }

  /** Milliseconds spent packing so far. */
  get compactMs(): number {
    return this.#compactMs;
  }

  get lostEnergy(): LostEnergy {
    return this.#books.lost;
  }

  /** Share of the keys' weighed energy that packing left out before codes were quantised; undefined where nothing is weighed. */
  get weightedLostEnergy(): number | undefined {
    return this.#books.weightedLost;
  }

  /** What errors of keys cost, where they are to be weighed. */
  get #metrics(): readonly Metric[] | undefined {
    return this.options.bases === 'weighted' ? this.graph.metrics : undefined;
  }

  /** Images of sequence b the cache was told of, packed or not. */
  numImages(b: number): number {
    return this.#images.of(b).length;
  }

  /** Tokens of those images. */
  numImageTokens(b: number): number {
    return this.#images.numTokens(b);
  }

  /** Rotary position of sequence b's next token: one behind the largest so far. */
  nextPosition(b: number): number {
    const tokens = this.#tokens?.mask(b).reduce((sum, visible) => sum + visible, 0) ?? 0;
    return tokens - this.#images.numSaved(b);
  }

  /** Token ids seen by sequence b, in slot order. */
  ids(b: number): Int32Array {
    return this.#tokens?.ids(b) ?? new Int32Array(0);
  }

  /** The padding mask of slots seen so far, then `next` for the new ones, as [B, slots + N] int64. */
  mask(next: readonly (readonly number[])[]): Tensor {
    const width = this.numSlots + (next[0]?.length ?? 0);
    const data = new BigInt64Array(next.length * width);
    next.forEach((row, b) => {
      const seen = this.#tokens?.mask(b) ?? [];
      for (let i = 0; i < seen.length; i++) data[b * width + i] = seen[i] ? 1n : 0n;
      for (let i = 0; i < row.length; i++) data[b * width + seen.length + i] = row[i] ? 1n : 0n;
    });
    return new Tensor('int64', data, [next.length, width]);
  }

  /** @throws {AttentionPackError} if the batch is not the one this cache was begun with. */
  checkBatch(batch: number): void {
    if (this.#window && batch !== this.#window.batch) {
      throw new AttentionPackError(
        `this cache holds ${this.#window.batch} sequences, the input has ${batch}; use a new PackedCache for another batch size`,
      );
    }
  }

  /**
   * Announces the tokens about to be run: `spans[b]` are images, counted from the first new token; `mask[b][n]` is 0 for padding.
   *
   * @throws {AttentionPackError} if the batch is not the one this cache was begun with.
   */
  begin(batch: number, spans: readonly (readonly Span[])[], mask: readonly (readonly number[])[]): void {
    this.checkBatch(batch);
    const { target, text } = this.options;
    if (target && text && batch > 1)
      throw new AttentionPackError(
        `${nameOf(target)} with packed text is for one sequence, and the input has ${batch}; leave text dense, or give rank and bits`,
      );
    this.#window ??= new DenseWindow(this.graph.shape, batch);
    const tiers = tierRule(this.graph, this.options);
    this.#packed ??= new PackedPart(this.graph.shape, batch, this.graph, positionAxes(this.graph), columnsWanted(this.options), tiers);
    this.#tokens ??= new TokenLog(batch);
    if (this.options.evict) this.#eviction ??= new Eviction(this.options.evict, this.graph, batch);
    if (this.options.tiers) this.#tiering ??= new Tiering(this.options.tiers, this.graph.shape, batch);
    const at = this.numSlots;
    const numTokens = mask[0]?.length ?? 0;
    this.#call = {
      at,
      numTokens,
      hasImages: spans.some((row) => row.length),
      mask,
      before: this.#eviction?.copy(),
      tieringBefore: numTokens > 1 ? this.#tiering?.copy() : undefined, // a single token is seen whole or not at all
    };
    this.#settleTiers();
    if (numTokens > 1) this.#eviction?.beginPrompt();
    // Where bytes are counted out, no chunk takes more room than the prompt.
    if (this.options.target) {
      this.#tokens.reserve(numTokens);
      this.#eviction?.reserve(at + numTokens);
      this.#tiering?.reserve(at + numTokens);
    }
    spans.forEach((row, sequence) => {
      if (!row.length) return;
      const sinkEnd = this.#firstSlot(sequence, mask[sequence] ?? []) + this.options.sink;
      for (const span of row) {
        const [first, end] = [at + span.start, at + span.end];
        const start = Math.max(first, sinkEnd);
        this.#images.add({ sequence, start: first, end, steps: stepsOf(span) });
        if (start < end) this.#pending.announce(sequence, start, end, at);
      }
    });
  }

  /** Slot of sequence b's first token that is no padding; `next` is the mask of the tokens about to be run. */
  #firstSlot(b: number, next: readonly number[]): number {
    const seen = this.#tokens?.mask(b).indexOf(1) ?? -1;
    return seen >= 0 ? seen : this.numSlots + Math.max(0, next.indexOf(1));
  }

  /** The cache's inputs of the next run. The tensors view the cache's buffers; nothing is copied. */
  feeds(): Record<string, Tensor> {
    assert(this.#window && this.#packed, 'feeds before begin');
    this.#feeds ??= makeFeeds(this.graph, this.#window, this.#packed);
    return this.#feeds;
  }

  /** How many of the next run's N new tokens count where attention is watched; nothing for a graph that does not tell it. */
  massQueries(numNew: number): Record<string, Tensor> {
    if (!this.graph.mass) return {};
    return { [MASS_QUERIES]: new Tensor('int64', BigInt64Array.of(BigInt(this.#numQueries(numNew))), [1]) };
  }

  #numQueries(numNew: number): number {
    const call = this.#call;
    assert(call, 'a run before begin');
    const from = this.numSlots - call.at;
    if (this.#eviction?.goesByMass) return this.#eviction.numQueries(from, from + numNew, call.numTokens);
    return this.#tiering?.numQueries(numNew) ?? 0;
  }

  /** Takes in the outputs of a run over N new tokens. `mask[b][n]` is 0 for padding; `ids[b][n]` the token, -1 if unknown. */
  append(outputs: Outputs, mask: readonly (readonly number[])[], ids: readonly (readonly number[])[]): void {
    const window = this.#window;
    assert(window, 'append before begin');
    const numTokens = mask[0]?.length ?? 0;
    const at = this.numSlots;
    // Before the window moves: the outputs' columns are those of the feeds.
    if (this.#eviction || this.#tiering) {
      const inPlace = massInPlace(outputs, this.graph.shape, this.#packed?.tiers);
      const run = { outputs: inPlace, columns: this.#columns(), at, mask, numQueries: this.#numQueries(numTokens) };
      this.#eviction?.observe(run);
      this.#tiering?.observe(run);
    }
    const rows = this.graph.shape.layers.map(
      ({ index }): Rows => ({
        keys: outputRows(outputs, newRowsName(index, 'key')),
        values: outputRows(outputs, newRowsName(index, 'value')),
      }),
    );
    const capacity = window.capacity;
    window.append(
      rows,
      numTokens,
      mask.map((row) => row.map((visible, n) => (visible ? at + n : -1))),
      this.#pending.lacking(at + numTokens),
    );
    const sinkEnds = mask.map((row, b) => this.#firstSlot(b, row) + this.options.sink);
    this.#pending.append(outputs, mask, at, this.#images.all, sinkEnds);
    this.#tokens?.append(ids, mask);
    if (window.capacity !== capacity) this.#feeds = undefined;
  }

  /** Slots of the past columns of the scores, by sequence. */
  #columns(): Int32Array[] {
    const feeds = this.feeds();
    return Array.from({ length: this.batch }, (_, b) => {
      const parts = [PACKED_SLOTS, WINDOW_SLOTS].map((name) => {
        const { data, dims } = feeds[name] as Tensor;
        return slotsAsNumbers((data as BigInt64Array).subarray(b * (dims[1] ?? 0), (b + 1) * (dims[1] ?? 0)));
      });
      return joined(parts);
    });
  }

  /** Packs every image that is due, and text that is, and frees their dense rows. Returns how many images were packed. */
  async compact(): Promise<number> {
    const numPacked = await this.#compact();
    this.#settleTiers();
    return numPacked;
  }

  /** Deals packed tokens to tiers if it is time. */
  #settleTiers(): void {
    if (this.#packed && this.#tiering?.settle(this.#packed, (this.#call?.numTokens ?? 1) > 1)) this.#feeds = undefined;
  }

  async #compact(): Promise<number> {
    const window = this.#window;
    const packed = this.#packed;
    assert(window && packed, 'compact before begin');
    const complete = this.#pending.dueImages(this.numSlots);
    if (complete.length && this.#eviction?.rule.when === 'packing') this.#evict(this.#eviction.rule, complete);
    const due = this.#pending.dueImages(this.numSlots);
    const isEnd = !this.#call || this.numSlots >= this.#call.at + this.#call.numTokens;
    const text = this.#pending.dueText(this.numSlots, isEnd, due, this.batch);
    if (!due.length && !text.due.length) return 0;
    const start = performance.now();
    // They view buffers that are about to be laid out anew, and would keep the old ones.
    this.#feeds = undefined;
    const gone: number[][] = Array.from({ length: window.batch }, () => []);
    const segments: NewSegment[] = [];
    const lost: LostEnergy[] = [];
    const growth = growthOf(this.graph, this.options);
    const images = growth ? due.map((span) => [span]) : factoredTogether(due, this.options.basisPer);
    const format = { ...this.graph, bits: columnsWanted(this.options).bits };
    const groups = withText(this.graph.shape, images, text.due, this.options, format, packed.extents);
    const [target, prospect] = [this.options.target, this.options.target && this.#prospect(groups, text.left, packed)];
    const decides = target && prospect && !packed.numSegments ? { target, room: roomFor(target, this.graph, prospect) } : undefined;
    const rank = decides ? columnsFor(decides.target, decides.room, this.graph, this.options.rank) : this.#mostColumns();
    const { seed } = this.options;
    for (const group of groups) {
      const spans = spansOf(group);
      const { sequence } = spans[0] as OpenSpan;
      const rows = spans.map((span) => window.rowsAt(span.sequence, new Set(slotsOf(span))));
      const held = growth && { ...growth, held: (l: number, side: keyof Ranks) => packed.lastBasis(sequence, l, side) };
      const segment = await compact(spans, rows, window, this.graph.shape, { rank, seed }, await this.#encoder(), this.#metrics, held);
      segments.push(segment);
      // The next image begins with the basis this one leaves.
      if (held) lost.push(...packed.add([segment]));
      gone[sequence]?.push(...rows.flat());
    }
    this.#pending.strike(due, text.left);
    const { numImages, longest } = this.#pending;
    if (decides) {
      this.#allotted = allot(decides.target, this.graph, decides.room, segments, this.#metrics);
      packed.allot(this.#allotted.layers);
    }
    const numComing = prospect ? prospect.segments.length - segments.length : numImages;
    if (!growth) lost.push(...packed.add(segments, numComing, longest, due.length > 0));
    window.remove(gone, longest, prospect?.windowRows);
    groups.forEach(({ images, text }, i) => {
      this.#books.add({
        sequence: segments[i]?.sequence ?? 0,
        // Where its images stand, evicted tokens included.
        start: images[0]?.start ?? 0,
        end: images.at(-1)?.end ?? 0,
        images: images.length,
        imageSlots: images.flatMap(slotsOf),
        textSlots: text.flatMap(slotsOf),
        lost: lost[i] as LostEnergy,
        weightedLost: meanWeightedLost(segments[i] as NewSegment),
      });
    });
    this.#compactMs += performance.now() - start;
    return due.length;
  }

  /** The most columns a layer has of each side: as allotted, or as asked for. */
  #mostColumns(): Ranks {
    const layers = this.#allotted?.layers;
    if (!layers) return this.options.rank;
    return { keys: Math.max(...layers.map(({ keys }) => keys.rank)), values: Math.max(...layers.map(({ values }) => values.rank)) };
  }

  /** The cache as it will be once the call's prompt is read; see `Moment`. */
  #prospect(now: readonly SpanGroup[], textLeft: readonly OpenSpan[], packed: PackedPart): Prospect {
    const [window, call] = [this.#window, this.#call];
    assert(window && call, 'a prospect before begin');
    const unread = call.mask.map((row) => row.flatMap((visible, n) => (visible && call.at + n >= this.numSlots ? [call.at + n] : [])));
    const sinkEnd = this.#firstSlot(0, []) + this.options.sink;
    return prospectOf({
      graph: this.graph,
      options: this.options,
      pending: this.#pending,
      now,
      textLeft,
      textUnread: (unread[0] ?? []).filter((slot) => slot >= sinkEnd && !this.#images.hold(0, slot)),
      windowRows: window.lengths,
      numUnread: unread.map((slots) => slots.length),
      packed: packed.extents,
      numSlots: call.at + call.numTokens,
      counts: { batch: this.batch, tokenCapacity: this.#tokens?.capacity ?? 0, watched: this.extents().watched ?? [] },
      bits: columnsWanted(this.options).bits,
    });
  }

  /** @throws {AttentionPackError} if the images of the call under way took the cache beyond its budget */
  #checkBudget(): void {
    const { target } = this.options;
    if (!target || !('bytes' in target) || !this.#call?.hasImages) return;
    const { total } = this.footprint();
    if (total <= target.bytes) return;
    throw new AttentionPackError(
      `${nameOf(target)} is exceeded by ${total - target.bytes} bytes: ${this.packedSpans} images and text take ${total}; further images are held as the first ones were, so give all at once, or a larger budget`,
    );
  }

  /** What was decided of the bytes, once something was packed for which that was to be decided. */
  get allotted(): AllottedBytes | undefined {
    return this.#packed?.numSegments ? this.#allotted : undefined;
  }

  /**
   * The call that `begin` began is over: tokens are evicted if it is time.
   *
   * @throws {AttentionPackError} if its images do not fit into the budget
   */
  endRun(): void {
    this.#checkBudget();
    const [rule, call] = [this.#eviction?.rule, this.#call];
    this.#call = undefined;
    if (!rule || !call) return;
    const isPrompt = call.at === 0 || call.hasImages;
    if (rule.when === 'always' || (rule.when === 'prefill' && isPrompt)) this.#evict(rule);
  }

  /** The attention that eviction and tiers go by, as it is now; for `recall`. */
  attention(): Attention {
    return { eviction: this.#eviction?.copy(), tiering: this.#tiering?.copy() };
  }

  /** Goes on from that attention, as if nothing had been asked since; may be done again. What was evicted since stays so. */
  recall({ eviction, tiering }: Attention): void {
    this.#eviction = eviction?.copy();
    this.#tiering = tiering?.copy();
  }

  /** The call that `begin` began failed: all from slot `length` on is forgotten, and what it paid to older tokens. */
  abandon(length: number): void {
    this.#eviction = this.#call?.before ?? this.#eviction;
    this.#tiering = this.#call?.tieringBefore ?? this.#tiering;
    this.#call = undefined;
    this.crop(length);
  }

  /**
   * Lets tokens go by `rule`. Returns how many went, over all sequences.
   *
   * @throws {AttentionPackError} if it goes by what the cache did not watch
   */
  evict(rule: ResolvedEviction): number {
    checkGraphGives(this.graph, rule);
    checkWatched(rule, this.options.evict || undefined);
    return this.#evict(rule);
  }

  /** @param only images whose tokens alone may go; default: all. Tokens of an image that is not complete never do. */
  #evict(rule: ResolvedEviction, only?: readonly OpenSpan[]): number {
    const eviction = this.#eviction ?? (this.#window && new Eviction(rule, this.graph, this.batch));
    if (!eviction) return 0;
    const gone = Array.from({ length: this.batch }, (_, sequence) => {
      const images = this.#images.of(sequence);
      const open = images.filter(({ end }) => end > this.numSlots);
      const isOf = (slot: number): boolean =>
        !open.some((image) => isWithin(image, slot)) && (rule.of === 'all' || images.some((image) => isWithin(image, slot)));
      const seen = this.#tokens?.mask(sequence) ?? new Uint8Array(0);
      const firstSlot = this.#firstSlot(sequence, []);
      const [first, last] = [firstSlot + rule.sink, this.numSlots - rule.recent];
      const mayGo = (slot: number): boolean =>
        slot >= first && slot < last && (!only || only.some((span) => span.sequence === sequence && isWithin(span, slot)));
      const chosen = (isMember: (slot: number) => boolean): number[] => {
        const held = this.#heldSlots(sequence).filter(isMember);
        const free = held.filter(mayGo);
        const numSeen = seen.reduce((sum, visible, slot) => sum + (visible && isMember(slot) ? 1 : 0), 0);
        return eviction.choose({ sequence, firstSlot, free, numProtected: held.length - free.length, numSeen }, rule);
      };
      if (rule.per === 'context') return new Set(chosen(isOf));
      return new Set(images.flatMap((image) => chosen((slot) => isWithin(image, slot) && isOf(slot))));
    });
    return this.#remove(gone);
  }

  /** Slots of sequence b's tokens that can still be attended to, in order. */
  #heldSlots(b: number): number[] {
    return [...(this.#window?.slotsOf(b) ?? []), ...(this.#packed?.slotsOf(b) ?? [])].sort((x, y) => x - y);
  }

  /** Takes tokens out wherever they lie; they keep their slots, and are seen no more. */
  #remove(gone: readonly ReadonlySet<number>[]): number {
    const [window, packed] = [this.#window, this.#packed];
    const numGone = gone.reduce((sum, slots) => sum + slots.size, 0);
    if (!window || !packed || !numGone) return 0;
    this.#pending.remove(gone);
    window.remove(
      gone.map((slots, b) => window.rowsAt(b, slots)),
      this.#pending.lacking(this.numSlots),
    );
    packed.remove(gone);
    this.#books.keep((sequence, slot) => !gone[sequence]?.has(slot));
    this.#feeds = undefined;
    return numGone;
  }

  /** Tokens that were evicted, over all sequences, and how many of them were an image's. */
  numEvicted(): { readonly tokens: number; readonly imageTokens: number } {
    let [tokens, imageTokens] = [0, 0];
    for (let b = 0; b < this.batch; b++) {
      const held = new Set(this.#heldSlots(b));
      this.#tokens?.mask(b).forEach((visible, slot) => {
        if (!visible || held.has(slot)) return;
        tokens++;
        if (this.#images.hold(b, slot)) imageTokens++;
      });
    }
    return { tokens, imageTokens };
  }

  /**
   * Forgets all tokens from slot `length` on. Images packed behind it go whole; packed text may be cut anywhere.
   *
   * @throws {AttentionPackError} if that would cut into what was packed together, which cannot be taken apart again.
   */
  crop(length: number): void {
    if (!Number.isInteger(length) || length < 0) throw new AttentionPackError(`crop keeps a whole number of tokens >= 0, got ${length}`);
    const cut = this.#books.cutBy(length);
    if (cut) {
      throw new AttentionPackError(
        `cannot crop to ${length} tokens: those from ${cut.start} to ${cut.end} are packed together; keep ${cut.start}, or ${cut.end} and more`,
      );
    }
    const window = this.#window;
    this.#pending.crop(length);
    this.#images.crop(length);
    if (!window || length >= this.numSlots) return;
    window.remove(Array.from({ length: window.batch }, (_, b) => window.rowsIn(b, length, Number.POSITIVE_INFINITY)));
    this.#packed?.crop(length);
    this.#books.keep((_, slot) => slot < length);
    this.#tokens?.crop(length);
    this.#eviction?.crop(length);
    this.#tiering?.crop(length);
    this.#feeds = undefined;
  }

  /** Which tokens are read by all columns; undefined where all are. */
  tierReport(): TierReport | undefined {
    const { tiers: rule } = this.options;
    const tiers = this.#packed?.tiers;
    if (!rule || !tiers) return undefined;
    return tierReport(rule, tiers, this.#packed?.lengths ?? []);
  }

  /** The counts that `footprint` needs. */
  extents(): Extents {
    const packed = this.#packed;
    return {
      batch: this.batch,
      windowRows: this.#window?.capacity ?? 0,
      segments: packed?.capacity ?? 0,
      segmentTokens: packed?.numTokens ?? 0,
      positionAxes: positionAxes(this.graph),
      sides: this.graph.shape.layers.map((_, l) => ({ keys: layoutOf(packed?.layer(l).keys), values: layoutOf(packed?.layer(l).values) })),
      ...(packed?.axisTables && { axisTables: axisTableNumbers(packed.axisTables) }),
      pendingTokens: packsRawKeys(this.graph.rotary) ? this.#pending.tokens : 0,
      tokenCapacity: this.#tokens?.capacity ?? 0,
      tierIndices: packed?.tiers?.indices ?? 0,
      watched: [this.#eviction, this.#tiering].flatMap((watching) => watching?.extent ?? []),
    };
  }

  footprint(): Footprint {
    return footprint(this.graph.shape, this.graph, this.extents());
  }

  /** Bytes of the buffers held, counted from the buffers themselves. */
  heldBytes(): number {
    const watched = (this.#eviction?.bytes ?? 0) + (this.#tiering?.bytes ?? 0);
    return (this.#window?.bytes ?? 0) + (this.#packed?.bytes ?? 0) + (this.#tokens?.bytes ?? 0) + this.#pending.bytes + watched;
  }

  /** Forgets everything. The store may be begun again. */
  clear(): void {
    this.#window = undefined;
    this.#packed = undefined;
    this.#pending = new Pending(this.graph, this.options);
    this.#tokens = undefined;
    this.#images = new SeenImages();
    this.#books = new SegmentBooks();
    this.#compactMs = 0;
    this.#feeds = undefined;
    this.#eviction = undefined;
    this.#tiering = undefined;
    this.#call = undefined;
    this.#allotted = undefined;
  }
}
