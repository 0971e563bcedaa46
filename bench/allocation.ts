/**
 * `npm run bench -- allocation`: what the allocator keeps of the dense model's answers against the same bytes shared out evenly, and against ONNX Runtime's own
 * quantised caches. Loyalty is teacher-forced over the dense greedy answers, first token included.
 */
import { modelNamed } from '../src/cli/embedded.ts';
import { dtypeOption } from '../src/cli/models.ts';
import { Progress, printJson, printTable } from '../src/cli/output.ts';
import { findTasks } from '../src/eval/find-tasks.ts';
import { evaluate } from '../src/eval/run.ts';
import { parseSettings } from '../src/eval/settings.ts';
import { embeddedTask } from './loyalty/task.ts';

/** The compressions of images that `auto` may be set to, shared and own bases, and the controls. */
export const ALLOCATION_SETTINGS = [
  'dense,dense-fp16,int8,int4',
  ...['image', 'context'].flatMap((basisPer) =>
    [4, 6, 8, 10, 12, 16, 24].map((times) => `packed:compression=${times},counted=images,basis-per=${basisPer}`),
  ),
].join(',');

export interface AllocationOptions {
  readonly model: 'pack-mha' | 'pack-gqa';
  /** As `--cache` of `attentionpack eval` takes them. */
  readonly cache: string;
  /** Of pack-gqa, whose evaluation set is drawn. */
  readonly tasks: string;
  readonly contexts: number;
  readonly moments?: string | undefined;
  readonly json: boolean;
}

export async function allocationSuite({ model, cache, tasks, contexts, moments, json }: AllocationOptions): Promise<void> {
  const folder = modelNamed(model);
  const progress = new Progress();
  const evaluation = await evaluate(folder, {
    tasks: model === 'pack-mha' && tasks === 'embedded' ? [embeddedTask()] : await findTasks(tasks.split(',')),
    cache: parseSettings(cache),
    load: { ...dtypeOption(folder, undefined), session_options: { intraOpNumThreads: 1 }, ...(moments !== undefined && { moments }) },
    limit: contexts,
    onProgress: ({ done, total, setting }) => progress.update(`${done} of ${total}  ${setting}`),
  });
  progress.done();
  printTable(
    ['setting', 'task', 'images x smaller', 'all x smaller', 'top-1', 'KL', 'same answers', 'score'],
    evaluation.rows.map(({ setting, task, bytes, loyalty, score }) => [
      setting,
      task,
      bytes.visualCompression.toFixed(1),
      bytes.compression.toFixed(2),
      `${(100 * loyalty.top1).toFixed(2)} %`,
      loyalty.kl.toFixed(5),
      `${(100 * loyalty.answerMatch).toFixed(1)} %`,
      score.mean.toFixed(4),
    ]),
  );
  for (const { setting, reason } of evaluation.refused) console.log(`refused: ${setting}: ${reason}`);
  if (json) printJson({ suite: 'allocation', model, rows: evaluation.rows, overall: evaluation.overall });
}
