/** What the readers of public datasets share: their options, the choice of contexts, the prompts, the task they make. */
import type { RawImage } from '@huggingface/transformers';
import { AttentionPackError } from '../../errors.ts';
import { seeded } from '../drawing/random.ts';
import type { Context, Task } from '../task.ts';
import type { Fields } from './fields.ts';
import { openTable } from './parquet.ts';
import { pictureOf } from './picture.ts';
import type { Place } from './place.ts';
import { splitFiles } from './splits.ts';

/** Options of every dataset. */
export interface DatasetOptions {
  /** Part of the dataset, as it is named there: 'train', 'validation', 'test'. Default: the part with public answers that papers report. */
  readonly split?: string;
  /** Most contexts (pictures or clips, not questions) taken, >= 1. Default: all. */
  readonly limit?: number;
  /** Draws the `limit` contexts at random, the same ones for the same seed. Default: the first ones. Either way they keep the dataset's order. */
  readonly seed?: number;
  /** Most questions taken of one context, the first ones, >= 1. Default: all. */
  readonly questions?: number;
  /** Frames of a clip, spread evenly from its first to its last, >= 1. Default 8. Each costs an image's tokens. Without clips: no effect. */
  readonly frames?: number;
}

/** A public dataset that can be read from a local folder. */
export interface Dataset {
  /** One line for `--help`: what is asked, and how it is scored. */
  readonly about: string;
  /** One line: the files looked for in its folder. */
  readonly files: string;
  open(folder: string, options?: DatasetOptions): Promise<Task>;
}

/** LLaVA-1.5's published instructions (docs/Evaluation.md in its repository), which the paper uses. */
export const SHORT_ANSWER = 'Answer the question using a single word or phrase.';
export const LETTER = "Answer with the option's letter from the given choices directly.";

/** Letter of an option, by its index from 0. */
export function letter(index: number): string {
  return String.fromCharCode(65 + index);
}

/** @throws {AttentionPackError} if a number is not whole or too small */
export function checkOptions(options: DatasetOptions): void {
  for (const [name, least] of [
    ['limit', 1],
    ['questions', 1],
    ['frames', 1],
    ['seed', 0],
  ] as const) {
    const value = options[name];
    if (value !== undefined && (!Number.isSafeInteger(value) || value < least))
      throw new AttentionPackError(`${name} must be a whole number >= ${least}; got ${value}`);
  }
}

/**
 * Indices of the contexts taken out of `total`, ascending.
 *
 * A sample is ascending too, so that each row group of a parquet file is read once.
 */
export function chosen(total: number, { limit = total, seed }: DatasetOptions): number[] {
  const indices = Array.from({ length: total }, (_, i) => i);
  if (seed === undefined || limit >= total) return indices.slice(0, limit);
  return seeded(seed)
    .sample(indices, limit)
    .sort((a, b) => a - b);
}

/** A row of a dataset in parquet: its fields, and its pictures when they are asked for. */
export interface PictureRow {
  readonly row: Fields;
  picture(column: string): Promise<RawImage>;
}

/**
 * The rows that `options` take of one split.
 *
 * @param split where `options` name none
 * @throws {AttentionPackError} if files or columns are missing
 */
export async function pictureRows(
  place: Place,
  options: DatasetOptions,
  split: string,
  columns: readonly string[],
  pictures: readonly string[],
): Promise<PictureRow[]> {
  const table = await openTable(place, splitFiles(place, options.split ?? split), [...columns, ...pictures]);
  const indices = chosen(table.numRows, options);
  const rows = await table.rows(indices, columns);
  return rows.map((row, i) => ({
    row,
    picture: async (column) => pictureOf(place, `${row.where}: '${column}'`, await table.cell(indices[i] as number, column)),
  }));
}

/** A task over contexts whose pictures are read when asked for. An id that stands twice in the dataset gets a number behind it. */
export function datasetTask(task: Omit<Task, 'size' | 'contexts'>, contexts: readonly Context[]): Task {
  const times = new Map<string, number>();
  const unique = contexts.map((context): Context => {
    const time = (times.get(context.id) ?? 0) + 1;
    times.set(context.id, time);
    return time === 1 ? context : { ...context, id: `${context.id}#${time}` };
  });
  return {
    ...task,
    size: unique.length,
    async *contexts(from = 0) {
      yield* unique.slice(from);
    },
  };
}
