/** Who is read by all columns: the moving average of attention at work on one cache, layer by layer. AttentionPack, arXiv 2603.23914, alpha 0.5. */
import type { PackedGraph } from './cache/feeds.ts';
import type { PackedPart } from './cache/packed.ts';
import type { Outputs } from './cache/spans.ts';
import { outputRows } from './cache/spans.ts';
import { numFirst, type TierRule, type Tiers } from './cache/tiers.ts';
import { massName } from './contract.ts';
import { AttentionPackError } from './errors.ts';
import { runMass, type WatchedRun } from './evict.ts';
import { Importance } from './importance.ts';
import type { ResolvedCacheOptions } from './options.ts';
import { Tensor } from './ort.ts';
import type { ModelShape } from './shape.ts';
import type { ResolvedTiers } from './tier-options.ts';

/** Of a prompt's chunk, so many newest tokens count: those that ask, as in SnapKV. */
const PROMPT_QUERIES = 32;

export class Tiering {
  readonly #rule: ResolvedTiers;
  readonly #shape: ModelShape;
  #importance: Importance;
  /** Runs since tokens were dealt. */
  #runs = 0;

  constructor(rule: ResolvedTiers, shape: ModelShape, batch: number) {
    this.#rule = rule;
    this.#shape = shape;
    this.#importance = new Importance(
      'average',
      shape.layers.map((_, l) => [l]),
      batch,
    );
  }

  /** Numbers kept of each token, and how many tokens of a sequence there is room for. */
  get extent(): { readonly numbers: number; readonly capacity: number } {
    return { numbers: this.#shape.layers.length, capacity: this.#importance.capacity };
  }

  get bytes(): number {
    return this.#importance.bytes;
  }

  /** Makes room for slots up to `length`: of a prompt that comes in chunks, once. */
  reserve(length: number): void {
    this.#importance.reserve(length);
  }

  /** How many of a run's newest tokens count. */
  numQueries(numNew: number): number {
    return Math.min(numNew, PROMPT_QUERIES);
  }

  observe(run: WatchedRun): void {
    this.#importance.observe(runMass(this.#shape, run));
    this.#runs++;
  }

  /**
   * Deals the packed tokens to tiers if it is time: where they were laid out anew, behind each chunk of a prompt, and every few steps.
   *
   * @returns whether codes lie elsewhere than they did, so that feeds are void; tokens that change places do not make them so
   */
  settle(packed: PackedPart, isPrompt: boolean): boolean {
    const wasSplit = packed.tiers?.isSplit;
    const isTime = this.#runs > 0 && (isPrompt || this.#runs >= this.#rule.every);
    if (wasSplit && !isTime) return false;
    packed.deal((l, b) => this.#importance.of(l, b));
    this.#runs = 0;
    return packed.tiers?.isSplit !== wasSplit;
  }

  /** Forgets slots from `length` on. */
  crop(length: number): void {
    this.#importance.crop(length);
  }

  /** As it is now, untouched by later runs; what goes on with it deals tokens anew. */
  copy(): Tiering {
    const copy = new Tiering(this.#rule, this.#shape, 0);
    copy.#importance = this.#importance.copy();
    copy.#runs = this.#rule.every;
    return copy;
  }
}

/** How a cache's packed part is laid out: in tiers where the graph reads them, of which the first has all tokens if the cache wants none. */
export function tierRule({ tiered }: PackedGraph, { tiers }: ResolvedCacheOptions): TierRule | undefined {
  if (!tiered) return undefined;
  const all = Number.MAX_SAFE_INTEGER;
  if (!tiers) return { share: 1, leads: { keys: all, values: all } };
  const { share, rank, of } = tiers;
  return { share, leads: { keys: of === 'values' ? all : rank.keys, values: of === 'keys' ? all : rank.values } };
}

/** @throws {AttentionPackError} if the cache wants tiers and the graph does not read them, or does not tell attention, by which they are dealt */
export function checkTiers({ tiered, mass }: PackedGraph, { tiers }: ResolvedCacheOptions): void {
  if (!tiers) return;
  if (!tiered) throw new AttentionPackError('tiers need a decoder that reads them; load it with packed(.., { tiered: true })');
  if (!mass) throw new AttentionPackError('tiers go by attention, which this model does not tell; load it without mass: false');
}

/** A run's outputs with the attention of packed tokens where `packed.slots` has them, not in each layer's own order. */
export function massInPlace(outputs: Outputs, { layers }: ModelShape, tiers: Tiers | undefined): Outputs {
  if (!tiers?.isSplit) return outputs;
  const entries = layers.map(({ index }, l) => {
    const [name, order] = [massName(index), tiers.order(l)];
    const told = outputRows(outputs, name) as Float32Array;
    const [batch = 1, numColumns = 0] = outputs[name]?.dims ?? [];
    const mass = told.slice();
    const perSequence = order.length / batch;
    for (let b = 0; b < batch; b++) {
      const start = b * numColumns;
      const shift = start - b * perSequence;
      for (let i = 0; i < perSequence; i++) mass[shift + (order[b * perSequence + i] as number)] = told[start + i] as number;
    }
    return [name, new Tensor('float32', mass, [batch, numColumns])] as const;
  });
  return { ...outputs, ...Object.fromEntries(entries) };
}

/** What a report says of tiers. */
export interface TierReport extends ResolvedTiers {
  /** Packed tokens of the first tier, in each layer. */
  readonly firstTokens: number;
  /** How often tokens were dealt since something was packed, and bytes of codes that moved because their tokens changed tier. */
  readonly splits: number;
  readonly movedBytes: number;
}

/** @param numTokens packed tokens of each segment */
export function tierReport(rule: ResolvedTiers, tiers: Tiers, numTokens: readonly number[]): TierReport {
  const firstTokens = numTokens.reduce((sum, tokens) => sum + (tiers.isSplit ? numFirst(rule.share, tokens) : tokens), 0);
  return { ...rule, firstTokens, ...tiers.moves };
}
