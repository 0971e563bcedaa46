/**
 * Importance: how much attention each token of a cache got, by sequence and slot, from the `present_mass` outputs of a packed decoder.
 *
 * By slot, so it goes with a token from the window into the packed part and does not care what is evicted around it. AttentionPack, arXiv 2603.23914
 * (moving average); H2O, arXiv 2306.14048 (sums).
 */
import { SlotNumbers } from './cache/slot-numbers.ts';

/** How attention of one run adds to that of earlier ones: `sum`, or `average`, a moving one. */
export type ImportanceRule = 'sum' | 'average';

/** Weight of what was known before against the newest run, in the moving average. The paper's. */
const ALPHA = 0.5;

/** Attention mass of one run. */
export interface RunMass {
  /** By layer, [B, C]. */
  readonly mass: readonly Float32Array[];
  /** Slot of each column, by sequence; -1: none. */
  readonly columns: readonly ArrayLike<number>[];
  /** First slot of the run's new tokens. */
  readonly at: number;
  /** New tokens, padding included. */
  readonly numTokens: number;
  /** Queries that counted in the mass, by sequence. */
  readonly numQueries: readonly number[];
}

export class Importance {
  readonly #rule: ImportanceRule;
  readonly #groups: readonly (readonly number[])[];
  #numbers: SlotNumbers;

  /**
   * @param groups layers whose mean is kept as one number a token: all of them in one group, or each in its own; counted from 0
   * @param batch sequences
   */
  constructor(rule: ImportanceRule, groups: readonly (readonly number[])[], batch: number) {
    this.#rule = rule;
    this.#groups = groups;
    this.#numbers = new SlotNumbers(groups.length, batch);
  }

  get bytes(): number {
    return this.#numbers.bytes;
  }

  /** Slots there is room for per sequence. */
  get capacity(): number {
    return this.#numbers.capacity;
  }

  /** Makes room for slots up to `length`: of a prompt that comes in chunks, once. */
  reserve(length: number): void {
    this.#numbers.grow(length);
  }

  /** Importance of sequence b's tokens by slot, of one group of layers. A view: it changes with the next run. */
  of(group: number, b: number): Float32Array {
    return this.#numbers.row(group, b);
  }

  /**
   * Takes in a run. The moving average is of the mean mass that the run's queries paid; a sequence whose queries were all padding, or none of which counted,
   * keeps what it had, and a new token begins with its first run's.
   */
  observe({ mass, columns, at, numTokens, numQueries }: RunMass): void {
    this.#numbers.grow(at + numTokens);
    this.#groups.forEach((layers, g) => {
      columns.forEach((slots, b) => {
        const counted = numQueries[b] ?? 0;
        if (!counted) return;
        const [layer] = layers;
        const got =
          layers.length === 1
            ? (mass[layer as number] as Float32Array).subarray(b * slots.length, (b + 1) * slots.length)
            : meanOver(layers, mass, b * slots.length, slots.length);
        const row = this.#numbers.row(g, b);
        for (let c = 0; c < slots.length; c++) {
          const slot = slots[c] as number;
          if (slot < 0) continue;
          const [before, paid] = [row[slot] as number, got[c] as number];
          if (this.#rule === 'sum') row[slot] = before + paid;
          else row[slot] = slot >= at ? paid / counted : ALPHA * before + (1 - ALPHA) * (paid / counted);
        }
      });
    });
  }

  /** Forgets slots from `length` on. What their queries paid to tokens before them stays. */
  crop(length: number): void {
    this.#numbers.crop(length);
  }

  /** Forgets all that was paid so far. */
  reset(): void {
    this.#numbers.crop(0);
  }

  copy(): Importance {
    const copy = new Importance(this.#rule, this.#groups, 0);
    copy.#numbers = this.#numbers.copy();
    return copy;
  }
}

/** Mean over layers of the columns [from, from + length). Runs at every step, over every token and layer. */
function meanOver(layers: readonly number[], mass: readonly Float32Array[], from: number, length: number): Float64Array {
  const mean = new Float64Array(length);
  for (const l of layers) {
    const row = mass[l];
    if (row) for (let c = 0; c < length; c++) mean[c] = (mean[c] as number) + (row[from + c] as number);
  }
  return mean.map((sum) => sum / layers.length);
}
