/** How long is left of a run of parts: their estimates, corrected by what the finished ones really took. */

export class RunTime {
  /** Estimated minutes of what is still to come, and of what was done. */
  #left: number;
  #done = 0;
  #begun = performance.now();

  /** @param minutes estimates of all parts that will be measured */
  constructor(minutes: readonly number[]) {
    this.#left = minutes.reduce((sum, each) => sum + each, 0);
  }

  finish(minutes: number): void {
    this.#left -= minutes;
    this.#done += minutes;
  }

  /** @param share of the part of so many estimated minutes that is finished */
  secondsLeft(minutes: number, share: number): number {
    const done = this.#done + share * minutes;
    const left = Math.max(0, this.#left - share * minutes);
    const spent = (performance.now() - this.#begun) / 60_000;
    // The estimate counts as a minute's worth of experience, so that the first seconds say little.
    const pace = (spent + 1) / (done + 1);
    return 60 * left * pace;
  }
}

export function duration(seconds: number): string {
  return seconds < 90 ? `${Math.ceil(seconds)} s` : `${Math.round(seconds / 60)} min`;
}
