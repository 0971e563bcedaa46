/**
 * A budget of bytes over all layers, keys and values, columns, codes and bases at once: where a byte takes away most error, it goes.
 *
 * For a price per byte λ, every side alone has a cheapest split, found in one pass over its columns; all sides at one λ are the best there is for the bytes they then
 * take (Everett 1963; reverse water-filling with the bits there are). λ is halved down to the budget. What is left, less than the next such step, is
 * filled with the best small steps that still fit.
 */
import { BITS, type Bits, columnsOf, NO_COLUMNS, type Widths } from './widths.ts';

/** Codes or bases of one layer and side. */
export interface PartCost {
  /** Numbers in one column over all places there are for it. */
  readonly length: number;
  /** [R] each: what a column's levels of so many bits miss. Undefined: all columns take `bytes` a number. */
  readonly errors: Readonly<Record<Bits, Float64Array>> | undefined;
  /** Of a number, where there are no levels to choose. Default 0. */
  readonly bytes?: number;
}

/** One layer's keys or values. Errors of all sides are in one unit: what they cost in attention's output. */
export interface SideCost {
  /** [R]: of leaving a column out. */
  readonly dropped: Float64Array;
  readonly codes: PartCost;
  readonly basis: PartCost;
  /** Steps and zeros: bytes a column takes besides. */
  readonly columnBytes: number;
}

/** How one side is held; widths are empty where there are no levels to choose. */
export interface SideChoice {
  readonly rank: number;
  readonly codes: Widths;
  readonly basis: Widths;
  readonly bytes: number;
  readonly error: number;
}

export interface Allocation {
  readonly choices: readonly SideChoice[];
  readonly bytes: number;
  readonly error: number;
}

/** Halvings of λ: its range spans some twenty decimal powers. */
const ROUNDS = 100;

/**
 * Every side keeps at least one column. No step of {@link stepsOf} that would lessen the error fits into what is left over.
 *
 * @returns the allocation; the one of fewest bytes if even that exceeds the budget
 */
export function allocate(costs: readonly SideCost[], budget: number): Allocation {
  const sides = costs.map((cost) => new Side(cost));
  const at = (price: number): SideChoice[] => sides.map((side) => side.best(price));
  const bytes = (choices: readonly SideChoice[]): number => choices.reduce((sum, choice) => sum + choice.bytes, 0);
  // At the first, a byte costs more than all errors together; at the second, nothing worth telling.
  const most = 2 * sides.reduce((sum, side) => sum + side.all, 0) || 1;
  let [dear, cheap] = [most, most * 1e-24];
  let below = at(dear);
  if (bytes(below) > budget) return total(below);
  let above = at(cheap);
  if (bytes(above) <= budget) return total(filled(sides, above, budget));
  for (let round = 0; round < ROUNDS && dear > cheap * (1 + 1e-12); round++) {
    const price = Math.sqrt(dear * cheap);
    const tried = at(price);
    if (bytes(tried) <= budget) [dear, below] = [price, tried];
    else [cheap, above] = [price, tried];
  }
  return total(filled(sides, towards(below, above, budget), budget));
}

/** The fewest bytes at one price for all sides with which no more than `error` is left out; all that helps, if that is not enough. */
export function allocateTo(costs: readonly SideCost[], error: number): Allocation {
  const sides = costs.map((cost) => new Side(cost));
  const at = (price: number): Allocation => total(sides.map((side) => side.best(price)));
  const most = 2 * sides.reduce((sum, side) => sum + side.all, 0) || 1;
  let [dear, cheap] = [most, most * 1e-24];
  const least = at(dear);
  if (least.error <= error) return least;
  let found = at(cheap);
  for (let round = 0; round < ROUNDS && dear > cheap * (1 + 1e-12); round++) {
    const price = Math.sqrt(dear * cheap);
    const tried = at(price);
    if (tried.error <= error) [cheap, found] = [price, tried];
    else dear = price;
  }
  return found;
}

function total(choices: readonly SideChoice[]): Allocation {
  const sum = (of: (choice: SideChoice) => number): number => choices.reduce((all, choice) => all + of(choice), 0);
  return { choices, bytes: sum(({ bytes }) => bytes), error: sum(({ error }) => error) };
}

/** Sides that differ on both sides of the budget go over to the larger choice as long as it fits: all are worth the same per byte there. */
function towards(below: readonly SideChoice[], above: readonly SideChoice[], budget: number): SideChoice[] {
  const choices = [...below];
  let left = budget - below.reduce((sum, { bytes }) => sum + bytes, 0);
  const worth = (i: number): number => {
    const [from, to] = [below[i] as SideChoice, above[i] as SideChoice];
    return to.bytes > from.bytes ? (from.error - to.error) / (to.bytes - from.bytes) : 0;
  };
  for (const i of below.map((_, side) => side).sort((a, b) => worth(b) - worth(a))) {
    const more = (above[i] as SideChoice).bytes - (below[i] as SideChoice).bytes;
    if (more <= 0 || more > left) continue;
    choices[i] = above[i] as SideChoice;
    left -= more;
  }
  return choices;
}

/** Takes steps, each time the one that takes away most error per byte of those that fit, until none does. */
function filled(sides: readonly Side[], first: readonly SideChoice[], budget: number): SideChoice[] {
  const choices = [...first];
  let left = budget - choices.reduce((sum, { bytes }) => sum + bytes, 0);
  const next: (SideChoice | undefined)[] = choices.map((choice, i) => (sides[i] as Side).step(choice, left));
  const worth = (i: number): number => {
    const [from, to] = [choices[i] as SideChoice, next[i]];
    return to ? (from.error - to.error) / Math.max(1, to.bytes - from.bytes) : 0;
  };
  for (;;) {
    let best = -1;
    for (let i = 0; i < next.length; i++) if (next[i] && (best < 0 || worth(i) > worth(best))) best = i;
    if (best < 0) return choices;
    left -= (next[best] as SideChoice).bytes - (choices[best] as SideChoice).bytes;
    choices[best] = next[best] as SideChoice;
    next.forEach((step, i) => {
      // With less left, the others' best steps may no longer fit; with more, further ones might: those come up when it is their turn.
      if (i === best || (step && step.bytes - (choices[i] as SideChoice).bytes > left))
        next[i] = (sides[i] as Side).step(choices[i] as SideChoice, left);
    });
  }
}

/** Changes of the numbers of columns of 8, 4 and 2 bits that count as one step. */
const CHANGES: readonly Widths[] = [-4, -3, -2, -1, 0, 1, 2, 3, 4].flatMap((n8) =>
  [-4, -2, 0, 2, 4].flatMap((n4) => [-4, 0, 4].map((n2): Widths => [n8, n4, n2])),
);
const CHANGES_BY_RANK = new Map(
  [...new Set(CHANGES.map(columnsOf))].map((more) => [more, CHANGES.filter((change) => columnsOf(change) === more)]),
);

/** One side's sums, by which splits are priced. */
class Side {
  readonly #cost: SideCost;
  readonly #codes: Part;
  readonly #basis: Part;
  /** [R + 1]: error of the columns from c on, left out. */
  readonly #left: Float64Array;

  constructor(cost: SideCost) {
    const most = cost.dropped.length;
    this.#cost = cost;
    this.#codes = new Part(cost.codes, most);
    this.#basis = new Part(cost.basis, most);
    this.#left = new Float64Array(most + 1);
    for (let c = most - 1; c >= 0; c--) this.#left[c] = (this.#left[c + 1] as number) + (cost.dropped[c] as number);
  }

  /** The error of leaving all out. */
  get all(): number {
    return this.#left[0] as number;
  }

  /** The split with the least error + price · bytes. */
  best(price: number): SideChoice {
    const [codes, basis] = [this.#codes.cheapest(price), this.#basis.cheapest(price)];
    let [rank, least] = [0, Number.POSITIVE_INFINITY];
    for (let r = 1; r < this.#left.length; r++) {
      const cost = (this.#left[r] as number) + price * r * this.#cost.columnBytes + (codes.costs[r] as number) + (basis.costs[r] as number);
      if (cost < least) [rank, least] = [r, cost];
    }
    return this.#choice(rank, codes.widths(rank), basis.widths(rank));
  }

  /** The one step that takes away most error per byte of those that take at most `left` bytes more; undefined if there is none. */
  step(from: SideChoice, left: number): SideChoice | undefined {
    let best: { rank: number; codes: Widths; basis: Widths } | undefined;
    let worth = 0;
    // Sums are rounded: what takes less than this away takes nothing.
    const least = 1e-12 * this.all;
    for (const more of CHANGES_BY_RANK.keys()) {
      const rank = from.rank + more;
      if (rank < 1 || rank >= this.#left.length) continue;
      const [ofCodes, ofBasis] = [this.#codes.near(from.codes, rank), this.#basis.near(from.basis, rank)];
      for (const codes of ofCodes) {
        const [bytes, error] = [codes.bytes + rank * this.#cost.columnBytes - from.bytes, codes.error + (this.#left[rank] as number)];
        if (bytes > left) continue;
        for (const basis of ofBasis) {
          const [extra, gain] = [bytes + basis.bytes, from.error - error - basis.error];
          if (gain <= least || extra > left) continue;
          const each = gain / Math.max(1, extra);
          if (each > worth) [worth, best] = [each, { rank, codes: codes.widths, basis: basis.widths }];
        }
      }
    }
    return best && this.#choice(best.rank, best.codes, best.basis);
  }

  #choice(rank: number, codes: Widths, basis: Widths): SideChoice {
    const [ofCodes, ofBasis] = [this.#codes.priced(codes, rank), this.#basis.priced(basis, rank)];
    return {
      rank,
      codes,
      basis,
      bytes: ofCodes.bytes + ofBasis.bytes + rank * this.#cost.columnBytes,
      error: (this.#left[rank] as number) + ofCodes.error + ofBasis.error,
    };
  }
}

interface Priced {
  readonly widths: Widths;
  readonly bytes: number;
  readonly error: number;
}

/** Codes or bases of one side. */
class Part {
  readonly #cost: PartCost;
  readonly #most: number;
  /** [R + 1] each: errors of the first columns at so many bits. */
  readonly #sums: Readonly<Record<Bits, Float64Array>> | undefined;

  constructor(cost: PartCost, most: number) {
    this.#cost = cost;
    this.#most = most;
    const { errors } = cost;
    this.#sums = errors && (Object.fromEntries(BITS.map((bits) => [bits, prefix(errors[bits])])) as Record<Bits, Float64Array>);
  }

  priced(widths: Widths, rank: number): Priced {
    const { length, bytes = 0 } = this.#cost;
    if (!this.#sums) return { widths, bytes: rank * length * bytes, error: 0 };
    const [n8, n4, n2] = widths;
    const [sums8, sums4, sums2] = [this.#sums[8], this.#sums[4], this.#sums[2]];
    const at = (sums: Float64Array, n: number): number => sums[n] as number;
    const error = at(sums8, n8) + at(sums4, n8 + n4) - at(sums4, n8) + at(sums2, rank) - at(sums2, n8 + n4);
    return { widths, bytes: (n8 + n4 / 2 + n2 / 4) * length, error };
  }

  /** For each rank, the least error + price · bytes, and the widths that have it. */
  cheapest(price: number): { readonly costs: Float64Array; widths(rank: number): Widths } {
    const [most, { length, bytes = 0 }] = [this.#most, this.#cost];
    const costs = new Float64Array(most + 1);
    const sums = this.#sums;
    if (!sums) {
      for (let r = 0; r <= most; r++) costs[r] = price * r * length * bytes;
      return { costs, widths: () => NO_COLUMNS };
    }
    const at = (bits: Bits, n: number): number => (sums[bits][n] as number) + (price * n * length * bits) / 8;
    // n8 <= m = n8 + n4 <= rank; n4 is even and n2 = rank - m a multiple of four, so the best n8 for an m is a running minimum over every second, and so on.
    const [n8Of, mOf] = [new Int32Array(most + 1), new Int32Array(most + 1)];
    const [ofN8, ofM] = [new Float64Array(most + 1), new Float64Array(most + 1)];
    for (let m = 0; m <= most; m++) {
      const own = at(8, m) - at(4, m);
      const isOwn = m < 2 || own <= (ofN8[m - 2] as number);
      ofN8[m] = isOwn ? own : (ofN8[m - 2] as number);
      n8Of[m] = isOwn ? m : (n8Of[m - 2] as number);
      const whole = (ofN8[m] as number) + at(4, m) - at(2, m);
      const isWhole = m < 4 || whole <= (ofM[m - 4] as number);
      ofM[m] = isWhole ? whole : (ofM[m - 4] as number);
      mOf[m] = isWhole ? m : (mOf[m - 4] as number);
      costs[m] = (ofM[m] as number) + at(2, m);
    }
    return {
      costs,
      widths: (rank) => {
        const m = mOf[rank] as number;
        const n8 = n8Of[m] as number;
        return [n8, m - n8, rank - m];
      },
    };
  }

  /** Widths of `rank` columns that are one step away. */
  near(from: Widths, rank: number): Priced[] {
    if (!this.#sums) return [this.priced(NO_COLUMNS, rank)];
    const found: Priced[] = [];
    for (const [more8, more4, more2] of CHANGES_BY_RANK.get(rank - columnsOf(from)) ?? []) {
      const [n8, n4, n2] = [from[0] + more8, from[1] + more4, from[2] + more2];
      if (n8 >= 0 && n4 >= 0 && n2 >= 0) found.push(this.priced([n8, n4, n2], rank));
    }
    return found;
  }
}

/** [R + 1]: sums of the first 0, 1, 2, .. numbers. */
function prefix(numbers: Float64Array): Float64Array {
  const sums = new Float64Array(numbers.length + 1);
  for (let i = 0; i < numbers.length; i++) sums[i + 1] = (sums[i] as number) + (numbers[i] as number);
  return sums;
}
