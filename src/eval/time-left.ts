/** How much of a run is left, judged by what contexts of the same task and setting took before. */
import { isSkipped, type JournalEntry } from './records.ts';
import type { Task } from './task.ts';

interface Spent {
  ms: number;
  records: number;
}

export class TimeLeft {
  readonly #total: number;
  /** Contexts of each task, by setting, that are still to come. */
  readonly #left = new Map<string, Map<string, number>>();
  readonly #spent = new Map<string, Spent>();
  #done = 0;

  /** @param before what a journal has already; it counts as done */
  constructor(tasks: readonly Task[], settings: readonly string[], limit: number, before: readonly JournalEntry[]) {
    for (const task of tasks) {
      const contexts = Math.min(limit, task.size);
      this.#left.set(task.name, new Map(settings.map((setting) => [setting, contexts])));
    }
    this.#total = tasks.reduce((sum, task) => sum + Math.min(limit, task.size) * settings.length, 0);
    for (const entry of before) if (entry.index < limit) this.add(entry);
  }

  add(entry: JournalEntry): void {
    const left = this.#left.get(entry.task);
    if (!left) return;
    for (const setting of isSkipped(entry) ? left.keys() : [entry.setting]) {
      const count = left.get(setting);
      if (!count) continue;
      left.set(setting, count - 1);
      this.#done++;
    }
    if (isSkipped(entry)) return;
    for (const key of [`${entry.task} ${entry.setting}`, entry.task, '']) {
      const spent = this.#spent.get(key) ?? { ms: 0, records: 0 };
      spent.ms += entry.ms;
      spent.records++;
      this.#spent.set(key, spent);
    }
  }

  progress(): { done: number; total: number; secondsLeft: number | undefined } {
    let ms = 0;
    for (const [task, settings] of this.#left) {
      for (const [setting, count] of settings) {
        // The nearest thing that was measured: this task in this setting, this task, anything.
        const like = this.#spent.get(`${task} ${setting}`) ?? this.#spent.get(task) ?? this.#spent.get('');
        if (like) ms += (count * like.ms) / like.records;
      }
    }
    return { done: this.#done, total: this.#total, secondsLeft: this.#spent.size ? ms / 1000 : undefined };
  }
}
