/** Times the steps of `generate` from outside, as a streamer. */
import { BaseStreamer } from '@huggingface/transformers';

/** Milliseconds between tokens; what comes before the first token is the prompt's and is left out. */
export class StepTimer extends BaseStreamer {
  readonly stepMs: number[] = [];
  #calls = 0;
  #last = 0;

  /** Call before each `generate`. */
  restart(): void {
    this.#calls = 0;
  }

  /** Called with the prompt, then with every token. */
  override put(): void {
    const now = performance.now();
    if (this.#calls++ >= 2) this.stepMs.push(now - this.#last);
    this.#last = now;
  }

  override end(): void {}
}

/** The middle value; the mean of the two middle ones; 0 of none. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  return sorted.length ? ((sorted[Math.floor(middle)] ?? 0) + (sorted[Math.ceil(middle) - 1] ?? 0)) / 2 : 0;
}
