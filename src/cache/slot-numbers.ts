/** Numbers kept by slot, in typed arrays that double when full: survives packing, which moves tokens but not slots. */

/** Slots as the graph reads them, as numbers: none needs more than the lower half, which comes first on every machine that runs ONNX Runtime. */
export function slotsAsNumbers(slots: BigInt64Array): Int32Array {
  const halves = new Int32Array(slots.buffer, slots.byteOffset, 2 * slots.length);
  const numbers = new Int32Array(slots.length);
  for (let i = 0; i < numbers.length; i++) numbers[i] = halves[2 * i] as number;
  return numbers;
}

/** `rows` numbers for each slot of B sequences, float32; 0 where nothing was said. */
export class SlotNumbers {
  readonly #batch: number;
  /** [rows · B], each with room for `capacity` slots. */
  #rows: Float32Array[];
  #capacity = 0;

  constructor(rows: number, batch: number) {
    this.#batch = batch;
    this.#rows = Array.from({ length: rows * batch }, () => new Float32Array(0));
  }

  /** Slots there is room for per sequence. */
  get capacity(): number {
    return this.#capacity;
  }

  get bytes(): number {
    return this.#rows.reduce((sum, row) => sum + row.byteLength, 0);
  }

  /** One number for each slot there is room for, to read and to write. Not to be kept: growing replaces it. */
  row(index: number, b: number): Float32Array {
    return this.#rows[index * this.#batch + b] ?? new Float32Array(0);
  }

  /** Makes room for slots up to `length`. */
  grow(length: number): void {
    if (length <= this.#capacity) return;
    this.#capacity = Math.max(length, 2 * this.#capacity);
    this.#rows = this.#rows.map((from) => {
      const to = new Float32Array(this.#capacity);
      to.set(from);
      return to;
    });
  }

  /** Forgets what was said of slots from `length` on. */
  crop(length: number): void {
    for (const row of this.#rows) row.fill(0, length);
  }

  copy(): SlotNumbers {
    const copy = new SlotNumbers(this.#rows.length / this.#batch, this.#batch);
    copy.#capacity = this.#capacity;
    copy.#rows = this.#rows.map((row) => row.slice());
    return copy;
  }
}
