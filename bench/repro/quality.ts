/** Quality and bytes of settings through `evaluate`: task score paired with dense, loyalty, bytes held. */
import type { Evaluation } from '../../src/eval/run.ts';
import { evaluate } from '../../src/eval/run.ts';
import { parseSettings } from '../../src/eval/settings.ts';
import type { Task } from '../../src/eval/task.ts';
import type { Running } from './part.ts';

/** What of an evaluation a page is made from. */
export type Quality = Pick<Evaluation, 'rows' | 'tasks' | 'refused'>;

/** One row, with the least a figure needs. */
export type QualityRow = Quality['rows'][number];

/**
 * Goes on with the journal in the part's folder. Each task may have a number of contexts of its own.
 *
 * @param from, to what of the part's progress this is, 0 to 1
 */
export async function measureQuality(
  { subject, kept, signal, onProgress }: Running,
  settings: readonly string[],
  tasks: readonly { readonly task: Task; readonly contexts: number }[],
  { from = 0, to = 1 }: { readonly from?: number; readonly to?: number } = {},
): Promise<Quality> {
  const {
    rows,
    tasks: asked,
    refused,
  } = await evaluate(subject.model, {
    tasks: tasks.map(({ task, contexts }) => ({ ...task, size: Math.min(task.size, contexts), contexts: (first) => task.contexts(first) })),
    cache: parseSettings(settings.join(',')),
    load: subject.load,
    out: kept.folder,
    signal,
    onProgress: ({ phase, task, setting, done, total }) =>
      onProgress(from + (to - from) * (total ? done / total : 0), phase === 'loading' ? 'loading the model' : `${task}, ${setting}`),
  });
  return { rows, tasks: asked, refused };
}
