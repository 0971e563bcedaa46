/** The dense window: exact rows of the tokens that are not packed, in buffers that grow in place. */
import { assert } from '../errors.ts';
import type { ModelShape } from '../shape.ts';

/** A float array, or the bits of float16 values. */
export type WindowArray = Float32Array | Uint16Array;

/** One layer's new rows: keys and values, each [B, Hkv, N, D]. */
export interface Rows {
  readonly keys: WindowArray;
  readonly values: WindowArray;
}

/** Rows are added in steps of at least this many, so that a short window wastes little. */
const ROW_STEP = 16;

/**
 * Keys and values of all layers, each [B, Hkv, S, D] with S = capacity. Sequence b uses its first `lengths[b]` rows; the others carry
 * slot -1 and are masked. Unused rows cost arithmetic, so capacity grows by a quarter, not by doubling: still no copy on most steps.
 */
export class DenseWindow {
  readonly #shape: ModelShape;
  readonly batch: number;
  #capacity = 0;
  #layers: Rows[];
  #slots: BigInt64Array;
  readonly lengths: number[];

  constructor(shape: ModelShape, batch: number) {
    this.#shape = shape;
    this.batch = batch;
    this.lengths = new Array<number>(batch).fill(0);
    this.#layers = shape.layers.map(() => ({ keys: this.#array(0), values: this.#array(0) }));
    this.#slots = new BigInt64Array(0);
  }

  /** S: rows per sequence, unused ones included. */
  get capacity(): number {
    return this.#capacity;
  }

  /** Slot of each row, [B, S]; -1 where unused. */
  get slots(): BigInt64Array {
    return this.#slots;
  }

  layer(index: number): Rows {
    const layer = this.#layers[index];
    assert(layer, `window has no layer ${index}`);
    return layer;
  }

  /**
   * Appends the new tokens `[from, to)` of every layer's rows [B, Hkv, N, D]. `slots[b][n]` is token n's slot, or -1 to leave it out
   * (padding). If buffers must grow, they do so for `numComing` more rows at once.
   */
  append(layers: readonly Rows[], numTokens: number, slots: readonly (readonly number[])[], numComing = 0): void {
    const kept = slots.map((row) => row.flatMap((slot, n) => (slot < 0 ? [] : [n])));
    this.#reserve(Math.max(...kept.map((row, b) => (this.lengths[b] ?? 0) + row.length)), numComing);
    this.#shape.layers.forEach(({ numKvHeads, headDim }, l) => {
      const target = this.layer(l);
      const source = layers[l];
      assert(source, `no new rows for layer ${l}`);
      kept.forEach((row, b) => {
        const whole = row.length === numTokens;
        for (let h = 0; h < numKvHeads; h++) {
          const from = (b * numKvHeads + h) * numTokens;
          const to = (b * numKvHeads + h) * this.#capacity + (this.lengths[b] ?? 0);
          for (const side of ['keys', 'values'] as const) {
            if (whole) target[side].set(source[side].subarray(from * headDim, (from + numTokens) * headDim), to * headDim);
            else {
              row.forEach((n, i) => {
                target[side].set(source[side].subarray((from + n) * headDim, (from + n + 1) * headDim), (to + i) * headDim);
              });
            }
          }
        }
      });
    });
    kept.forEach((row, b) => {
      row.forEach((n, i) => {
        this.#slots[b * this.#capacity + (this.lengths[b] ?? 0) + i] = BigInt(slots[b]?.[n] ?? -1);
      });
      this.lengths[b] = (this.lengths[b] ?? 0) + row.length;
    });
  }

  /** Rows of sequence `b` whose slots lie in [start, end), in slot order. */
  rowsIn(b: number, start: number, end: number): number[] {
    return this.#rowsWhere(b, (slot) => slot >= start && slot < end);
  }

  /** Rows of sequence `b` at these slots, in slot order. */
  rowsAt(b: number, slots: ReadonlySet<number>): number[] {
    return this.#rowsWhere(b, (slot) => slots.has(slot));
  }

  /** Slots of sequence b's rows, in order. */
  slotsOf(b: number): number[] {
    const first = b * this.#capacity;
    return Array.from(this.#slots.subarray(first, first + (this.lengths[b] ?? 0)), Number);
  }

  #rowsWhere(b: number, wanted: (slot: number) => boolean): number[] {
    const rows: number[] = [];
    for (let s = 0; s < (this.lengths[b] ?? 0); s++) {
      if (wanted(Number(this.#slots[b * this.#capacity + s]))) rows.push(s);
    }
    return rows;
  }

  /**
   * Rows of one layer and side as [rows.length, Hkv·D], in the window's element type.
   *
   * @param scratch an array an earlier call returned; it is written over if it has the right length
   */
  gather(layer: number, side: 'keys' | 'values', b: number, rows: readonly number[], scratch?: WindowArray): WindowArray {
    const { numKvHeads, headDim } = this.#dims(layer);
    const source = this.layer(layer)[side];
    const length = rows.length * numKvHeads * headDim;
    const out = scratch?.length === length ? scratch : this.#array(length);
    for (let h = 0; h < numKvHeads; h++) {
      const base = (b * numKvHeads + h) * this.#capacity;
      rows.forEach((row, i) => {
        out.set(source.subarray((base + row) * headDim, (base + row + 1) * headDim), (i * numKvHeads + h) * headDim);
      });
    }
    return out;
  }

  /**
   * Removes rows of each sequence and gives back the memory they and any slack took, except for `numComing` rows that will soon be needed.
   *
   * @param most rows that will be needed for certain: there is room for them at once, and for no more. Default: not known.
   */
  remove(rows: readonly (readonly number[])[], numComing = 0, most = 0): void {
    const keep = rows.map((gone, b) => {
      const drop = new Set(gone);
      return Array.from({ length: this.lengths[b] ?? 0 }, (_, s) => s).filter((s) => !drop.has(s));
    });
    const capacity = Math.min(this.#capacity, roundUp(Math.max(0, ...keep.map((row) => row.length)) + numComing));
    this.#relayout(keep, Math.max(capacity, roundUp(most)));
  }

  /** Bytes of all buffers as allocated. */
  get bytes(): number {
    return this.#layers.reduce((sum, { keys, values }) => sum + keys.byteLength + values.byteLength, 0) + this.#slots.byteLength;
  }

  #reserve(needed: number, numComing: number): void {
    if (needed <= this.#capacity) return;
    const keep = this.lengths.map((length) => Array.from({ length }, (_, s) => s));
    this.#relayout(keep, roundUp(Math.max(needed + numComing, Math.floor(this.#capacity * 1.25))));
  }

  /** Moves the rows `keep[b]` to the front of buffers of a new capacity. */
  #relayout(keep: readonly (readonly number[])[], capacity: number): void {
    const old = this.#capacity;
    // Layer by layer, so that only one of them is held twice.
    for (const [l, source] of this.#layers.entries()) {
      const { numKvHeads, headDim } = this.#dims(l);
      const move = (from: WindowArray): WindowArray => {
        // Rows only ever move to the front, so buffers of the same capacity are their own target.
        const to = capacity === old ? from : this.#array(this.batch * numKvHeads * capacity * headDim);
        for (let head = 0; head < this.batch * numKvHeads; head++) {
          const rows = keep[Math.floor(head / numKvHeads)] ?? [];
          for (const run of runs(rows)) {
            const start = (head * old + run.row) * headDim;
            const end = start + run.length * headDim;
            if (to === from) to.copyWithin((head * capacity + run.at) * headDim, start, end);
            else to.set(from.subarray(start, end), (head * capacity + run.at) * headDim);
          }
        }
        return to;
      };
      this.#layers[l] = { keys: move(source.keys), values: move(source.values) };
    }
    const slots = new BigInt64Array(this.batch * capacity).fill(-1n);
    keep.forEach((rows, b) => {
      rows.forEach((row, i) => {
        slots[b * capacity + i] = this.#slots[b * old + row] ?? -1n;
      });
      this.lengths[b] = rows.length;
    });
    this.#slots = slots;
    this.#capacity = capacity;
  }

  #dims(layer: number): { numKvHeads: number; headDim: number } {
    const dims = this.#shape.layers[layer];
    assert(dims, `window has no layer ${layer}`);
    return dims;
  }

  #array(length: number): WindowArray {
    return this.#shape.windowType === 'float16' ? new Uint16Array(length) : new Float32Array(length);
  }
}

/** Capacity that holds `rows`. */
export function roundUp(rows: number): number {
  return Math.ceil(rows / ROW_STEP) * ROW_STEP;
}

/** Consecutive rows as runs, so that a window is moved in few copies. */
function runs(rows: readonly number[]): { row: number; at: number; length: number }[] {
  const found: { row: number; at: number; length: number }[] = [];
  rows.forEach((row, at) => {
    const last = found.at(-1);
    if (last && last.row + last.length === row) last.length++;
    else found.push({ row, at, length: 1 });
  });
  return found;
}
