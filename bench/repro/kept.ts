/** Steps of a measurement, each on disk before the next begins: what was finished once is not done again. */
import { closeSync, existsSync, fsyncSync, mkdirSync, openSync, readFileSync, truncateSync, writeSync } from 'node:fs';
import path from 'node:path';

const STEPS_FILE = 'steps.jsonl';

export class Kept {
  readonly folder: string;
  readonly #steps = new Map<string, unknown>();

  /** @param folder made when there is something to keep */
  constructor(folder: string) {
    this.folder = folder;
    const file = path.join(folder, STEPS_FILE);
    if (!existsSync(file)) return;
    const text = readFileSync(file, 'utf8');
    const end = text.lastIndexOf('\n') + 1;
    // A last line without its end was being written when the process died.
    if (end < text.length) truncateSync(file, Buffer.byteLength(text.slice(0, end)));
    for (const line of text.slice(0, end).split('\n').filter(Boolean)) {
      const { step, value } = JSON.parse(line) as { step: string; value: unknown };
      this.#steps.set(step, value);
    }
  }

  has(step: string): boolean {
    return this.#steps.has(step);
  }

  /** The step's result, from disk if it was finished before. Results are plain JSON. */
  async once<T>(step: string, work: () => Promise<T>): Promise<T> {
    if (!this.#steps.has(step)) {
      const value = await work();
      this.#steps.set(step, value);
      mkdirSync(this.folder, { recursive: true });
      const fd = openSync(path.join(this.folder, STEPS_FILE), 'a');
      writeSync(fd, `${JSON.stringify({ step, value })}\n`);
      fsyncSync(fd);
      closeSync(fd);
    }
    return this.#steps.get(step) as T;
  }
}
