/** Public datasets that can be read from local folders; one line per dataset. */
import { AttentionPackError } from '../../errors.ts';
import type { Task } from '../task.ts';
import { aOkvqa } from './a-okvqa.ts';
import type { Dataset, DatasetOptions } from './dataset.ts';
import { mmmu } from './mmmu.ts';
import { ocrVqa } from './ocr-vqa.ts';
import { msrvttQa, msvdQa } from './video-qa.ts';

export type { Dataset, DatasetOptions } from './dataset.ts';

export const DATASETS = {
  'a-okvqa': aOkvqa,
  'ocr-vqa': ocrVqa,
  mmmu,
  'msvd-qa': msvdQa,
  'msrvtt-qa': msrvttQa,
} as const satisfies Record<string, Dataset>;

export type DatasetName = keyof typeof DATASETS;

/**
 * Opens a dataset by name; all its rows are checked, no picture is read.
 *
 * @param folder where its files lie; which ones: `DATASETS[name].files`
 * @throws {AttentionPackError} for an unknown name, and if files, columns, rows or clips are missing or malformed
 */
export async function openDataset(name: string, folder: string, options: DatasetOptions = {}): Promise<Task> {
  if (!Object.hasOwn(DATASETS, name)) throw new AttentionPackError(`no dataset '${name}'; there are ${Object.keys(DATASETS).join(', ')}`);
  return DATASETS[name as DatasetName].open(folder, options);
}
