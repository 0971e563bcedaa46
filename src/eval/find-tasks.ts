/** Tasks by name: those that come with the package, and public datasets from local folders. */
import { existsSync, statSync } from 'node:fs';
import { AttentionPackError } from '../errors.ts';
import { DATASETS, openDataset } from './datasets/index.ts';
import type { Task } from './task.ts';
import { DRAWN_TASKS, type DrawnOptions } from './tasks/index.ts';

export interface FindOptions {
  /** Folder of each public dataset, by its name. */
  readonly data?: Readonly<Record<string, string>>;
  /** Size and seed of the pictures that are drawn. */
  readonly drawn?: DrawnOptions;
}

/** Every task there is, with one line each; datasets need a folder. */
export function listTasks(): { readonly name: string; readonly about: string; readonly files?: string }[] {
  return [
    ...Object.entries(DRAWN_TASKS).map(([name, { about }]) => ({ name, about })),
    ...Object.entries(DATASETS).map(([name, { about, files }]) => ({ name, about, files })),
  ];
}

/**
 * Opens tasks by name; `all` stands for those of the package and every dataset a folder was given for.
 *
 * @throws {AttentionPackError} for an unknown name, a dataset without a folder, or a folder without the dataset
 */
export async function findTasks(names: readonly string[], { data = {}, drawn = {} }: FindOptions = {}): Promise<Task[]> {
  for (const [name, folder] of Object.entries(data)) {
    if (!Object.hasOwn(DATASETS, name)) throw new AttentionPackError(`no dataset '${name}'; there are ${Object.keys(DATASETS).join(', ')}`);
    if (!existsSync(folder) || !statSync(folder).isDirectory())
      throw new AttentionPackError(`folder '${folder}' of ${name} does not exist`);
  }
  const wanted = names.flatMap((name) => (name === 'all' ? [...Object.keys(DRAWN_TASKS), ...Object.keys(data)] : [name]));
  const tasks: Task[] = [];
  for (const name of new Set([...wanted, ...(names.includes('all') ? [] : Object.keys(data))])) {
    tasks.push(await openTask(name, data, drawn));
  }
  return tasks;
}

async function openTask(name: string, data: Readonly<Record<string, string>>, drawn: DrawnOptions): Promise<Task> {
  const ours = Object.hasOwn(DRAWN_TASKS, name) ? DRAWN_TASKS[name] : undefined;
  if (ours) return ours.open(drawn);
  if (!Object.hasOwn(DATASETS, name)) {
    throw new AttentionPackError(`'${name}' is not a task; use all, ${[...Object.keys(DRAWN_TASKS), ...Object.keys(DATASETS)].join(', ')}`);
  }
  const folder = data[name];
  if (folder === undefined) throw new AttentionPackError(`task '${name}' needs its files; add --data ${name}=<folder>`);
  return openDataset(name, folder);
}
