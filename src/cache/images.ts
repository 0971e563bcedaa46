/** The images a cache was told of, packed or not: where they stand, and the positions they take. */

/** Slots [start, end) of one sequence. */
export interface SeenImage {
  readonly sequence: number;
  readonly start: number;
  readonly end: number;
  /** Positions it takes; as many as tokens, but where positions have three axes. */
  readonly steps: number;
}

export class SeenImages {
  #all: readonly SeenImage[] = [];

  get all(): readonly SeenImage[] {
    return this.#all;
  }

  add(image: SeenImage): void {
    this.#all = [...this.#all, image];
  }

  of(sequence: number): readonly SeenImage[] {
    return this.#all.filter((image) => image.sequence === sequence);
  }

  /** Tokens of sequence b's images. */
  numTokens(b: number): number {
    return this.of(b).reduce((sum, { start, end }) => sum + end - start, 0);
  }

  /** How many more tokens sequence b's images have than positions. */
  numSaved(b: number): number {
    return this.of(b).reduce((sum, { start, end, steps }) => sum + end - start - steps, 0);
  }

  /** Whether sequence b's token at `slot` is an image's. */
  hold(b: number, slot: number): boolean {
    return this.#all.some((image) => image.sequence === b && isWithin(image, slot));
  }

  /** Forgets those that reach beyond slot `length`. */
  crop(length: number): void {
    this.#all = this.#all.filter(({ end }) => end <= length);
  }
}

/** Whether a token at `slot` stands between `start` and `end`. */
export function isWithin({ start, end }: { readonly start: number; readonly end: number }, slot: number): boolean {
  return slot >= start && slot < end;
}
