/** Who goes: an eviction policy at work on one cache. It watches runs and chooses slots; where tokens lie it does not know. */
import type { PackedGraph } from './cache/feeds.ts';
import { SlotNumbers } from './cache/slot-numbers.ts';
import { type Outputs, outputRows } from './cache/spans.ts';
import { massName, newRowsName } from './contract.ts';
import { fromFloat16 } from './encode/quantise.ts';
import { AttentionPackError } from './errors.ts';
import { Importance, type RunMass } from './importance.ts';
import { joined } from './joined.ts';
import type { ResolvedEviction } from './options.ts';
import { lowest, POLICIES, type Watch } from './policies/index.ts';
import type { ModelShape } from './shape.ts';

/** One run of the decoder over N new tokens, as eviction sees it. */
export interface WatchedRun {
  readonly outputs: Outputs;
  /** Slots of the past columns of the scores, by sequence: packed part, then window; -1: none. */
  readonly columns: readonly Int32Array[];
  /** First slot of the new tokens. */
  readonly at: number;
  /** [B][N]; 0 is padding. */
  readonly mask: readonly (readonly number[])[];
  /** How many of the newest counted in `present_mass`. */
  readonly numQueries: number;
}

/** Tokens of one sequence that a rule is about, held ones only; all in slot order. */
export interface Candidates {
  readonly sequence: number;
  /** Slot of the sequence's first token. */
  readonly firstSlot: number;
  /** Slots of those that may go, and how many more of the same class must stay. */
  readonly free: readonly number[];
  readonly numProtected: number;
  /** Tokens of the class ever seen, evicted ones included: what a share is taken of. */
  readonly numSeen: number;
}

export class Eviction {
  readonly rule: ResolvedEviction;
  readonly #graph: PackedGraph;
  readonly #watch: Watch;
  #importance: Importance | undefined;
  #keyNorms: SlotNumbers | undefined;

  /** @param batch sequences */
  constructor(rule: ResolvedEviction, graph: PackedGraph, batch: number) {
    this.rule = rule;
    this.#graph = graph;
    this.#watch = watchOf(rule);
    const { mass, keyNorms } = this.#watch;
    const layers = graph.shape.layers.map((_, l) => l);
    if (mass) this.#importance = new Importance(mass.rule, [mass.layer === 'all' ? layers : [mass.layer]], batch);
    if (keyNorms) this.#keyNorms = new SlotNumbers(1, batch);
  }

  /** Numbers kept of each token, and how many tokens of a sequence there is room for. */
  get extent(): { readonly numbers: number; readonly capacity: number } {
    const capacity = this.#importance?.capacity ?? this.#keyNorms?.capacity ?? 0;
    return { numbers: Number(Boolean(this.#importance)) + Number(Boolean(this.#keyNorms)), capacity };
  }

  get bytes(): number {
    return (this.#importance?.bytes ?? 0) + (this.#keyNorms?.bytes ?? 0);
  }

  /** Makes room for slots up to `length`: of a prompt that comes in chunks, once. */
  reserve(length: number): void {
    this.#importance?.reserve(length);
    this.#keyNorms?.grow(length);
  }

  /** Whether it says how many queries count. */
  get goesByMass(): boolean {
    return this.#watch.mass !== undefined;
  }

  /** Before a prompt of several tokens: where only the newest vote, the votes of earlier prompts are void. */
  beginPrompt(): void {
    const { mass } = this.#watch;
    if (mass && mass.queries !== 'all') this.#importance?.reset();
  }

  /**
   * How many queries are to count of a chunk whose tokens are [from, to) of a run over `numTokens` new ones.
   */
  numQueries(from: number, to: number, numTokens: number): number {
    const { mass } = this.#watch;
    if (!mass) return 0;
    if (mass.queries === 'all' || numTokens === 1) return to - from;
    return Math.max(0, to - Math.max(from, numTokens - mass.queries));
  }

  observe(run: WatchedRun): void {
    this.#importance?.observe(runMass(this.#graph.shape, run));
    if (this.#keyNorms) keepKeyNorms(this.#keyNorms, this.#graph.shape, run.outputs, run.at, run.mask);
  }

  /** Slots of those that go by `rule`, in slot order; none where few enough are held. */
  choose({ sequence, firstSlot, free, numProtected, numSeen }: Candidates, rule: ResolvedEviction): number[] {
    const keep = rule.keep < 1 ? Math.round(rule.keep * numSeen) : rule.keep;
    const numGone = Math.min(free.length, free.length + numProtected - keep);
    if (numGone <= 0) return [];
    const numbers = (row: Float32Array | undefined): Float32Array => Float32Array.from(free, (slot) => row?.[slot] ?? 0);
    const facts = {
      slots: free,
      firstSlot,
      mass: numbers(this.#importance?.of(0, sequence)),
      keyNorms: numbers(this.#keyNorms?.row(0, sequence)),
    };
    return lowest(POLICIES[rule.policy], facts, numGone, rule);
  }

  /** Forgets slots from `length` on. */
  crop(length: number): void {
    this.#importance?.crop(length);
    this.#keyNorms?.crop(length);
  }

  /** As it is now, untouched by later runs. */
  copy(): Eviction {
    const copy = new Eviction(this.rule, this.#graph, 1);
    copy.#importance = this.#importance?.copy();
    copy.#keyNorms = this.#keyNorms?.copy();
    return copy;
  }
}

/** What a run paid to each token. */
export function runMass({ layers }: ModelShape, { outputs, columns, at, mask, numQueries }: WatchedRun): RunMass {
  const numTokens = mask[0]?.length ?? 0;
  return {
    mass: layers.map(({ index }) => outputRows(outputs, massName(index)) as Float32Array),
    columns: columns.map((slots, b) => joined([slots, Int32Array.from(mask[b] ?? [], (visible, n) => (visible ? at + n : -1))])),
    at,
    numTokens,
    numQueries: mask.map((row) => row.slice(numTokens - numQueries).reduce((sum, visible) => sum + (visible ? 1 : 0), 0)),
  };
}

function watchOf(rule: ResolvedEviction): Watch {
  return POLICIES[rule.policy].watch(rule);
}

/** @throws {AttentionPackError} if the rule's policy goes by attention and the graph does not tell it */
export function checkGraphGives({ mass }: PackedGraph, rule: ResolvedEviction): void {
  if (watchOf(rule).mass && !mass) {
    throw new AttentionPackError(
      `evict.policy '${rule.policy}' goes by attention, which this model does not tell; load it with packed(.., { mass: true })`,
    );
  }
}

/** @throws {AttentionPackError} if `rule` goes by something that a cache with `own` never watched */
export function checkWatched(rule: ResolvedEviction, own: ResolvedEviction | undefined): void {
  const [wanted, kept] = [watchOf(rule), own ? watchOf(own) : {}];
  const isKept = (Object.keys(wanted) as (keyof Watch)[]).every((fact) => JSON.stringify(wanted[fact]) === JSON.stringify(kept[fact]));
  if (!isKept) {
    throw new AttentionPackError(
      `evict.policy '${rule.policy}' goes by what this cache did not watch; make it with evict: { policy: '${rule.policy}', keep: ${rule.keep}, when: 'asked' }`,
    );
  }
}

/** L2 norms of the new tokens' keys, mean over layers and key heads. Rotary embedding leaves them as they are. */
function keepKeyNorms(norms: SlotNumbers, shape: ModelShape, outputs: Outputs, at: number, mask: WatchedRun['mask']): void {
  const numTokens = mask[0]?.length ?? 0;
  const numHeads = shape.layers.reduce((sum, layer) => sum + layer.numKvHeads, 0);
  norms.grow(at + numTokens);
  for (const { index, numKvHeads, headDim } of shape.layers) {
    const rows = outputRows(outputs, newRowsName(index, 'key'));
    const keys = rows instanceof Float32Array ? rows : fromFloat16(rows); // [B, Hkv, N, D]
    mask.forEach((visible, b) => {
      const row = norms.row(0, b);
      for (let h = 0; h < numKvHeads; h++) {
        for (let n = 0; n < numTokens; n++) {
          if (!visible[n]) continue;
          const start = ((b * numKvHeads + h) * numTokens + n) * headDim;
          let squares = 0;
          for (let i = start; i < start + headDim; i++) squares += (keys[i] as number) ** 2;
          row[at + n] = (row[at + n] as number) + Math.sqrt(squares) / numHeads;
        }
      }
    });
  }
}
