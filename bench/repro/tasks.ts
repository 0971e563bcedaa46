/** What the parts ask of a model: the drawn tasks of `src/eval`, and needles in any number of pictures or frames. */
import { AutoProcessor, type PreTrainedModel, type Processor } from '@huggingface/transformers';
import { type AskedContext, prepare } from '../../src/compare/context.ts';
import { AttentionPackError, assert } from '../../src/errors.ts';
import type { Context, Task } from '../../src/eval/task.ts';
import { type DrawnOptions, drawnTask, type Recipe } from '../../src/eval/tasks/drawn-task.ts';
import { DRAWN_TASKS, RECIPES_OF_TASKS } from '../../src/eval/tasks/index.ts';
import { explained, folderOrId } from '../../src/hook.ts';
import type { Subject } from './part.ts';

/** The task quality is measured on: eight pictures of all kinds with a question of five sorts each. */
export const QUALITY_TASK = 'five';

const drawn = ({ pixels }: Subject): DrawnOptions => (pixels === undefined ? {} : { size: pixels });

export function qualityTask(subject: Subject): Task {
  const task = DRAWN_TASKS[QUALITY_TASK]?.open(drawn(subject));
  assert(task, `there is a task '${QUALITY_TASK}'`);
  return task;
}

/**
 * Questions about `count` pictures, or frames of one clip where the model reads clips: which shows a thing, what one shows, the colour behind a thing.
 * Twelve, or six where there are few things to ask about.
 */
export function needleTask(subject: Subject, count: number, contexts: number): Task {
  const base = recipe(subject.readsClips ? 'needle-frames-16' : 'needle-16');
  const asks = count < 16 ? base.asks.slice(0, base.asks.length / 2) : base.asks;
  // Pictures are drawn one by one: the 16 of the task would come as 16.
  const single = recipe('needle-1');
  const kinds: Recipe['kinds'] = subject.readsClips
    ? () => Array.from({ length: count }, () => 'single' as const)
    : (random) => Array.from({ length: count }).flatMap(() => single.kinds(random));
  const prefix = subject.readsClips ? 'needle-frames' : 'needle';
  return drawnTask(
    { ...base, name: `${prefix}-${count}`, about: base.about.replace('16', String(count)), numContexts: contexts, kinds, asks },
    drawn(subject),
  );
}

function recipe(name: string): Recipe {
  const found = RECIPES_OF_TASKS.find((candidate) => candidate.name === name);
  assert(found, `there is a task '${name}'`);
  return found;
}

export async function firstContexts(task: Task, count: number): Promise<Context[]> {
  const contexts: Context[] = [];
  for await (const context of task.contexts()) {
    if (contexts.length >= count) break;
    contexts.push(context);
  }
  if (!contexts.length) throw new AttentionPackError(`task '${task.name}' has no contexts`);
  return contexts;
}

/** A context with all its questions as the model takes them. */
export async function prepared(model: PreTrainedModel, processor: Processor, context: Context): Promise<AskedContext> {
  const texts = context.questions.map(({ text }) => text);
  return prepare(model, processor, await context.images(), texts, { clip: context.isClip ?? false });
}

export function processorOf(model: string): Promise<Processor> {
  return explained(model, () => AutoProcessor.from_pretrained(folderOrId(model)));
}
