/** The books of the packed part: which images and which text were packed together, and what packing them cost. */
import { type LostEnergy, meanLost } from './lost-energy.ts';

/** Tokens of one sequence that were packed together. */
export interface PackedTogether {
  readonly sequence: number;
  /** From the first slot of its images to one past their last, evicted tokens included: cutting between those would cut an image, or images that share a basis. */
  readonly start: number;
  readonly end: number;
  readonly images: number;
  /** Slots of the tokens left. Text may be cut anywhere. */
  readonly imageSlots: readonly number[];
  readonly textSlots: readonly number[];
  readonly lost: LostEnergy;
  /** Of keys, where they are weighed. */
  readonly weightedLost: number | undefined;
}

export class SegmentBooks {
  #entries: readonly PackedTogether[] = [];

  add(entry: PackedTogether): void {
    this.#entries = [...this.#entries, entry];
  }

  get images(): number {
    return this.#entries.reduce((sum, { images }) => sum + images, 0);
  }

  get imageTokens(): number {
    return this.#entries.reduce((sum, { imageSlots }) => sum + imageSlots.length, 0);
  }

  get textTokens(): number {
    return this.#entries.reduce((sum, { textSlots }) => sum + textSlots.length, 0);
  }

  get lost(): LostEnergy {
    return meanLost(this.#entries.map(({ lost }) => lost));
  }

  /** Undefined where nothing is weighed. */
  get weightedLost(): number | undefined {
    const shares = this.#entries.flatMap(({ weightedLost }) => weightedLost ?? []);
    return shares.length ? shares.reduce((sum, share) => sum + share, 0) / shares.length : undefined;
  }

  /** Images packed together that stand on both sides of slot `length`. */
  cutBy(length: number): PackedTogether | undefined {
    return this.#entries.find(({ images, start, end }) => images > 0 && start < length && length < end);
  }

  /** Strikes out tokens that are no longer held, and what lost all of them. */
  keep(isHeld: (sequence: number, slot: number) => boolean): void {
    this.#entries = this.#entries.flatMap((entry) => {
      const left = (slots: readonly number[]): number[] => slots.filter((slot) => isHeld(entry.sequence, slot));
      const [imageSlots, textSlots] = [left(entry.imageSlots), left(entry.textSlots)];
      if (!imageSlots.length && !textSlots.length) return [];
      return [{ ...entry, images: imageSlots.length ? entry.images : 0, imageSlots, textSlots }];
    });
  }
}
