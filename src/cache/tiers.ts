/**
 * Packed codes in two tiers, within the buffer that holds them: the first tier's whole rows, then leading columns of the others, then the columns of those that
 * nobody reads. A token that changes tier changes places with another; nothing else moves, and memory stays as it is but for the order.
 *
 * Each layer deals tokens by its own importance, segment by segment: of a segment's T tokens, padding included, T1 = numFirst(T) are of the first tier in all layers,
 * so that codes stay matrices. AttentionPack, arXiv 2603.23914 (attention-aware decompression).
 */
import type { Ranks } from '../options.ts';
import type { CodeArray } from './format.ts';
import type { PackedSide } from './side.ts';
import { slotsAsNumbers } from './slot-numbers.ts';

export interface TierRule {
  /** Of a segment's tokens, those of the first tier. */
  readonly share: number;
  /** Leading columns that the second tier has, or more. */
  readonly leads: Ranks;
}

/** Where segments lie: M of each sequence in use, and places for them over all sequences; T tokens in each. */
export interface TierPlaces {
  readonly batch: number;
  readonly segments: number;
  readonly capacity: number;
  readonly tokens: number;
}

/** One layer's buffers; see `PackedLayer`. */
interface Layer {
  readonly keys: PackedSide;
  readonly values: PackedSide;
}

const SIDES = ['keys', 'values'] as const;

/** Importance of sequence b's tokens by slot, in layer l. */
export type ImportanceOf = (l: number, b: number) => Float32Array;

/** Tokens of `numTokens` that are of the first tier: one at least. */
export function numFirst(share: number, numTokens: number): number {
  return Math.max(0, Math.min(numTokens, Math.ceil(share * numTokens - 1e-9))); // 0.1 · 30 is a hair above 3
}

export class Tiers {
  readonly rule: TierRule;
  #places: TierPlaces = { batch: 0, segments: 0, capacity: 0, tokens: 0 };
  /** By layer, [B, M·T]: places of B·M·T whose codes lie there; one for all layers while all tokens are of the first tier. */
  #orders: Int32Array[] = [new Int32Array(0)];
  #isSplit = false;
  #numSplits = 0;
  #movedBytes = 0;

  constructor(rule: TierRule) {
    this.rule = rule;
  }

  /** Whether some tokens are of the second tier; if not, buffers are as a cache without tiers has them. */
  get isSplit(): boolean {
    return this.#isSplit;
  }

  /** Numbers in the orders, four bytes each. */
  get indices(): number {
    return this.#orders.reduce((sum, order) => sum + order.length, 0);
  }

  /** How often tokens were dealt, and bytes of codes moved where they were in tiers before. */
  get moves(): { readonly splits: number; readonly movedBytes: number } {
    return { splits: this.#numSplits, movedBytes: this.#movedBytes };
  }

  /** Of each segment, rows in the first tier and in the second. */
  get rows(): readonly [first: number, second: number] {
    const { tokens } = this.#places;
    const first = this.#isSplit ? numFirst(this.rule.share, tokens) : tokens;
    return [first, tokens - first];
  }

  order(l: number): Int32Array {
    return this.#orders[this.#isSplit ? l : 0] as Int32Array;
  }

  /** What the graph reads of one layer and side: [B, M, T1, r] and [B, M, T2, lead]. */
  views(side: PackedSide, of: keyof Ranks): { readonly first: CodeArray; readonly lead: CodeArray; readonly leadRank: number } {
    const { batch, segments } = this.#places;
    const [numInFirst, numInSecond] = this.rows;
    const { codes, rank, lead, leadAt } = this.#blocks(side, of);
    const used = batch * segments;
    return {
      first: codes.subarray(0, used * numInFirst * rank),
      lead: codes.subarray(leadAt, leadAt + used * numInSecond * lead),
      leadRank: lead,
    };
  }

  /** Buffers were laid out anew: all tokens are of the first tier. */
  reset(places: TierPlaces): void {
    this.#places = places;
    this.#isSplit = false;
    this.#orders = [Int32Array.from({ length: places.batch * places.segments * places.tokens }, (_, i) => i)];
  }

  /** Puts codes back to where a cache without tiers has them, before they are laid out anew. */
  join(layers: readonly Layer[]): void {
    if (!this.#isSplit) return;
    layers.forEach((layer, l) => {
      for (const side of SIDES) {
        const blocks = this.#blocks(layer[side], side);
        const whole = blocks.codes.slice().fill(0);
        this.#eachRow(this.order(l), (place, tier, row) => readRow(blocks, tier, row, whole, place));
        blocks.codes.set(whole as never);
      }
    });
    this.reset(this.#places);
  }

  /**
   * Deals tokens to tiers by importance, equal ones by where they lie. Bytes move only for those that change tier, but the first time after a layout.
   *
   * @param slots [B, M·T]; -1 is padding
   */
  split(layers: readonly Layer[], slots: BigInt64Array, importanceOf: ImportanceOf): void {
    if (this.rule.share >= 1 || !slots.length) return;
    const isFirstTime = !this.#isSplit;
    if (isFirstTime) this.#orders = layers.map(() => new Int32Array(slots.length));
    this.#isSplit = true;
    this.#numSplits++;
    const numbers = slotsAsNumbers(slots);
    layers.forEach((layer, l) => {
      const isFirst = this.#choose(numbers, (b) => importanceOf(l, b));
      if (isFirstTime) this.#lay(layer, l, isFirst);
      else this.#swap(layer, l, isFirst);
    });
  }

  /** 1 for each place that is to be of the first tier. Padding fills the first tier up to T1 rows of each segment. */
  #choose(slots: Int32Array, importanceOf: (b: number) => Float32Array): Uint8Array {
    const { batch, segments, tokens } = this.#places;
    const [numInFirst] = this.rows;
    const isFirst = new Uint8Array(slots.length);
    const found = new Float32Array(tokens);
    for (let b = 0; b < batch; b++) {
      const importance = importanceOf(b);
      for (let m = 0; m < segments; m++) {
        const start = (b * segments + m) * tokens;
        let numReal = 0;
        for (let t = 0; t < tokens; t++) {
          const slot = slots[start + t] as number;
          if (slot >= 0) found[numReal++] = importance[slot] ?? 0;
        }
        const wanted = numFirst(this.rule.share, numReal);
        const least = wanted ? nthLargest(found.slice(0, numReal), wanted) : Number.POSITIVE_INFINITY;
        let [above, padding] = [0, numInFirst - wanted];
        for (let i = 0; i < numReal; i++) if ((found[i] as number) > least) above++;
        let equal = wanted - above;
        for (let t = 0, i = 0; t < tokens; t++) {
          if ((slots[start + t] as number) < 0) {
            if (padding-- > 0) isFirst[start + t] = 1;
            continue;
          }
          const value = found[i++] as number;
          if (value > least || (value === least && equal-- > 0)) isFirst[start + t] = 1;
        }
      }
    }
    return isFirst;
  }

  /** From rows in the order of places to tiers. */
  #lay(layer: Layer, l: number, isFirst: Uint8Array): void {
    const { tokens } = this.#places;
    const order = this.order(l);
    this.#eachSegment((segment, firstAt, secondAt) => {
      let [first, second] = [firstAt, secondAt];
      for (let t = 0; t < tokens; t++) {
        const place = segment * tokens + t;
        order[isFirst[place] ? first++ : second++] = place;
      }
    });
    for (const side of SIDES) {
      const blocks = this.#blocks(layer[side], side);
      const whole = blocks.codes.slice();
      this.#eachRow(order, (place, tier, row) => writeRow(blocks, tier, row, whole, place));
    }
  }

  /** Tokens that change tier change places. */
  #swap(layer: Layer, l: number, isFirst: Uint8Array): void {
    const order = this.order(l);
    const [numInFirst, numInSecond] = this.rows;
    const pairs: (readonly [first: number, second: number, firstRow: number, secondRow: number])[] = [];
    this.#eachSegment((segment, firstAt, secondAt) => {
      let j = 0;
      for (let i = 0; i < numInFirst; i++) {
        if (isFirst[order[firstAt + i] as number]) continue;
        while (!isFirst[order[secondAt + j] as number]) j++; // as many come as go
        pairs.push([firstAt + i, secondAt + j, segment * numInFirst + i, segment * numInSecond + j]);
        j++;
      }
    });
    if (!pairs.length) return;
    for (const side of SIDES) {
      const blocks = this.#blocks(layer[side], side);
      const scratch = blocks.codes.slice(0, 2 * blocks.rank);
      for (const [, , firstRow, secondRow] of pairs) {
        readRow(blocks, 0, firstRow, scratch, 0);
        readRow(blocks, 1, secondRow, scratch, 1);
        writeRow(blocks, 0, firstRow, scratch, 1);
        writeRow(blocks, 1, secondRow, scratch, 0);
      }
      this.#movedBytes += pairs.length * scratch.byteLength;
    }
    for (const [first, second] of pairs) [order[first], order[second]] = [order[second] as number, order[first] as number];
  }

  /** Each segment in use, and where its tiers begin in an order. */
  #eachSegment(visit: (segment: number, firstAt: number, secondAt: number) => void): void {
    const { batch, segments, tokens } = this.#places;
    const [numInFirst, numInSecond] = this.rows;
    for (let b = 0; b < batch; b++) {
      for (let m = 0; m < segments; m++) {
        const start = b * segments * tokens;
        visit(b * segments + m, start + m * numInFirst, start + segments * numInFirst + m * numInSecond);
      }
    }
  }

  /** Each row: the place it is of, and where it lies in its tier. */
  #eachRow(order: Int32Array, visit: (place: number, tier: 0 | 1, row: number) => void): void {
    const [numInFirst, numInSecond] = this.rows;
    this.#eachSegment((segment, firstAt, secondAt) => {
      for (let i = 0; i < numInFirst; i++) visit(order[firstAt + i] as number, 0, segment * numInFirst + i);
      for (let j = 0; j < numInSecond; j++) visit(order[secondAt + j] as number, 1, segment * numInSecond + j);
    });
  }

  #blocks(side: PackedSide, of: keyof Ranks): Blocks {
    const { codes, rank } = side;
    const { capacity } = this.#places;
    const [numInFirst, numInSecond] = this.rows;
    const lead = Math.min(this.rule.leads[of], rank);
    const leadAt = capacity * numInFirst * rank;
    return { codes, rank, lead, leadAt, parkedAt: leadAt + capacity * numInSecond * lead };
  }
}

/** One layer's codes of one side: [P·T1, r], [P·T2, lead] and [P·T2, r - lead] one behind the other. */
interface Blocks {
  readonly codes: CodeArray;
  readonly rank: number;
  readonly lead: number;
  readonly leadAt: number;
  readonly parkedAt: number;
}

/** Copies a token's r columns out of its tier, to row `toRow` of `to`. */
function readRow({ codes, rank, lead, leadAt, parkedAt }: Blocks, tier: 0 | 1, row: number, to: CodeArray, toRow: number): void {
  const at = toRow * rank;
  if (tier === 0) to.set(codes.subarray(row * rank, (row + 1) * rank) as never, at);
  else {
    const rest = rank - lead;
    to.set(codes.subarray(leadAt + row * lead, leadAt + (row + 1) * lead) as never, at);
    to.set(codes.subarray(parkedAt + row * rest, parkedAt + (row + 1) * rest) as never, at + lead);
  }
}

/** Copies row `fromRow` of `from` to where a token's r columns lie in its tier. */
function writeRow({ codes, rank, lead, leadAt, parkedAt }: Blocks, tier: 0 | 1, row: number, from: CodeArray, fromRow: number): void {
  const at = fromRow * rank;
  if (tier === 0) codes.set(from.subarray(at, at + rank) as never, row * rank);
  else {
    codes.set(from.subarray(at, at + lead) as never, leadAt + row * lead);
    codes.set(from.subarray(at + lead, at + rank) as never, parkedAt + row * (rank - lead));
  }
}

/** The n-th largest of some numbers, which are left in another order: Hoare's selection. */
export function nthLargest(numbers: Float32Array, n: number): number {
  const k = n - 1;
  let [low, high] = [0, numbers.length - 1];
  while (low < high) {
    const pivot = numbers[(low + high) >> 1] as number;
    let [i, j] = [low, high];
    while (i <= j) {
      while ((numbers[i] as number) > pivot) i++;
      while ((numbers[j] as number) < pivot) j--;
      if (i > j) break;
      [numbers[i], numbers[j]] = [numbers[j] as number, numbers[i] as number];
      i++;
      j--;
    }
    if (k <= j) high = j;
    else if (k >= i) low = i;
    else break;
  }
  return numbers[k] as number;
}
