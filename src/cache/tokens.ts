/** The tokens a cache has seen: ids and padding mask, in typed arrays that double when full. */

/** Ids and mask of B sequences of equal length. */
export class TokenLog {
  readonly #batch: number;
  #ids: Int32Array[];
  #mask: Uint8Array[];
  #length = 0;
  #capacity = 0;

  constructor(batch: number) {
    this.#batch = batch;
    this.#ids = Array.from({ length: batch }, () => new Int32Array(0));
    this.#mask = Array.from({ length: batch }, () => new Uint8Array(0));
  }

  /** Slots used per sequence. */
  get length(): number {
    return this.#length;
  }

  /** Slots there is room for per sequence. */
  get capacity(): number {
    return this.#capacity;
  }

  /** Token ids of sequence b; -1 where only embeddings were given. */
  ids(b: number): Int32Array {
    return this.#ids[b]?.subarray(0, this.#length) ?? new Int32Array(0);
  }

  /** 1 for tokens, 0 for padding. */
  mask(b: number): Uint8Array {
    return this.#mask[b]?.subarray(0, this.#length) ?? new Uint8Array(0);
  }

  /** Appends N slots to each sequence; `ids` [B][N], `mask` [B][N]. */
  append(ids: readonly (readonly number[])[], mask: readonly (readonly number[])[]): void {
    const added = mask[0]?.length ?? 0;
    this.reserve(added);
    for (let b = 0; b < this.#batch; b++) {
      this.#ids[b]?.set(ids[b] ?? new Array<number>(added).fill(-1), this.#length);
      this.#mask[b]?.set(mask[b] ?? [], this.#length);
    }
    this.#length += added;
  }

  /** Makes room for N more slots of each sequence: of a prompt that comes in chunks, once. */
  reserve(numComing: number): void {
    if (this.#length + numComing <= this.#capacity) return;
    this.#capacity = Math.max(this.#length + numComing, 2 * this.#capacity);
    this.#ids = this.#ids.map((row) => grown(row, new Int32Array(this.#capacity)));
    this.#mask = this.#mask.map((row) => grown(row, new Uint8Array(this.#capacity)));
  }

  /** Forgets all slots from `length` on. */
  crop(length: number): void {
    this.#length = Math.min(this.#length, length);
  }

  get bytes(): number {
    return [...this.#ids, ...this.#mask].reduce((sum, row) => sum + row.byteLength, 0);
  }
}

function grown<T extends Int32Array | Uint8Array>(from: T, to: T): T {
  to.set(from);
  return to;
}
