/** The journal of a run: one line for each context in each setting, on disk before the next one begins, so that an interrupt loses nothing. */
import { closeSync, existsSync, fsyncSync, mkdirSync, openSync, readFileSync, statSync, truncateSync, writeSync } from 'node:fs';
import path from 'node:path';
import { AttentionPackError } from '../errors.ts';
import type { JournalEntry } from './records.ts';
import type { Task } from './task.ts';

/** What every entry of a journal depends on: entries of other models or versions are not to be mixed. */
export interface JournalIdentity {
  readonly model: string;
  /** SHA-256 over the model's files, or its id. */
  readonly fingerprint: string;
  /** Precision asked for; '' for the model's own. */
  readonly dtype: string;
  readonly attentionpack: string;
  readonly onnxruntime: string;
}

/** What a task's entries depend on. Seeds and the like show in the ids of contexts. */
type TaskIdentity = Pick<Task, 'name' | 'metricName' | 'maxNewTokens' | 'size'> & { readonly firstContext: string };

type Line = { readonly journal: JournalIdentity } | { readonly begin: TaskIdentity } | JournalEntry;

export const JOURNAL_FILE = 'journal.jsonl';

export class Journal {
  readonly entries: JournalEntry[] = [];
  readonly #tasks = new Map<string, TaskIdentity>();
  readonly #file: string | undefined;
  /** Lines that say what the entries belong to; written with the first entry, so that a mistake in the command leaves nothing behind. */
  readonly #announced: Line[] = [];
  #fd: number | undefined;

  /**
   * Opens the journal in `folder`, which is made when there is something to write; without a folder, entries are kept in memory only.
   *
   * @throws {AttentionPackError} if the journal there is another model's or version's, or cannot be read
   */
  constructor(folder: string | undefined, identity: JournalIdentity) {
    if (folder === undefined) return;
    if (existsSync(folder) && !statSync(folder).isDirectory())
      throw new AttentionPackError(`${folder} is a file; name a folder to write to`);
    this.#file = path.join(folder, JOURNAL_FILE);
    if (!existsSync(this.#file) || !this.#read(this.#file, identity)) this.#announced.push({ journal: identity });
  }

  /** Takes in what was written before; false if nothing was, not even a whole first line. */
  #read(file: string, identity: JournalIdentity): boolean {
    const text = readFileSync(file, 'utf8');
    const end = text.lastIndexOf('\n') + 1;
    // A last line without its end was being written when the process died; its context is asked again.
    if (end < text.length) truncateSync(file, Buffer.byteLength(text.slice(0, end)));
    const lines = text.slice(0, end).split('\n').filter(Boolean);
    for (const [i, line] of lines.entries()) {
      let entry: Line;
      try {
        entry = JSON.parse(line) as Line;
      } catch (cause) {
        throw new AttentionPackError(`${file}: line ${i + 1} is not JSON; remove the file to begin anew, or choose another --out`, {
          cause,
        });
      }
      if (i === 0) checkIdentity(file, entry, identity);
      else if ('begin' in entry) this.#tasks.set(entry.begin.name, entry.begin);
      else if ('task' in entry) this.entries.push(entry);
    }
    return lines.length > 0;
  }

  /**
   * Announces a task whose entries follow.
   *
   * @param firstContext id of its first context
   * @throws {AttentionPackError} if the journal has entries of another task of that name
   */
  begin({ name, metricName, maxNewTokens, size }: Task, firstContext: string): void {
    const task: TaskIdentity = { name, metricName, maxNewTokens, size, firstContext };
    const known = this.#tasks.get(name);
    if (!known) {
      this.#tasks.set(name, task);
      this.#announced.push({ begin: task });
      return;
    }
    for (const key of ['metricName', 'maxNewTokens', 'size', 'firstContext'] as const) {
      if (known[key] !== task[key]) {
        throw new AttentionPackError(
          `${this.#file}: task '${name}' had ${key} ${known[key]}, now ${task[key]}; its answers cannot go together: choose another --out`,
        );
      }
    }
  }

  append(entry: JournalEntry): void {
    this.entries.push(entry);
    if (this.#file === undefined) return;
    this.#fd ??= openToAppend(this.#file);
    const lines = [...this.#announced.splice(0), entry];
    writeSync(this.#fd, lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
    fsyncSync(this.#fd);
  }

  close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }
}

function openToAppend(file: string): number {
  try {
    mkdirSync(path.dirname(file), { recursive: true });
    return openSync(file, 'a');
  } catch (cause) {
    throw new AttentionPackError(`${file} cannot be written: ${(cause as Error).message}`, { cause });
  }
}

function checkIdentity(file: string, line: Line, identity: JournalIdentity): void {
  const { journal } = line as { journal?: Partial<JournalIdentity> };
  if (!journal) throw new AttentionPackError(`${file} is not a journal of 'attentionpack eval'; choose another --out`);
  for (const key of Object.keys(identity) as (keyof JournalIdentity)[]) {
    if (journal[key] === identity[key]) continue;
    const shown = (value: string | undefined): string => `'${key === 'fingerprint' ? value?.slice(0, 12) : value}'`;
    throw new AttentionPackError(
      `${file} is of another run: its ${key} is ${shown(journal[key])}, this one's ${shown(identity[key])}; choose another --out, or remove it`,
    );
  }
}
