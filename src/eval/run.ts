/** `evaluate()`: every context of every task through every cache setting, one context through all of them before the next. */
import { AttentionPackError } from '../errors.ts';
import type { LoadOptions } from '../hook.ts';
import { contextLength } from '../load.ts';
import { type Asked, type Asking, askDense, askSetting, prepareContext } from './ask.ts';
import { type Holders, openHolders, type RefusedSetting } from './holders.ts';
import { identityOf } from './identity.ts';
import { Journal, type JournalIdentity } from './journal.ts';
import { type ContextRecord, isSkipped, type SkippedContext } from './records.ts';
import { type CacheSetting, DEFAULT_SETTINGS, DENSE, parseSettings, SETTINGS } from './settings.ts';
import { type EvaluationRow, type OverallRow, overall, summarise } from './summary.ts';
import type { Task } from './task.ts';
import { TimeLeft } from './time-left.ts';

export interface EvaluateOptions {
  /** What to ask; see `findTasks` for those that come with the package, and `Task` for your own. */
  readonly tasks: readonly Task[];
  /** Ways to hold the contexts, as text for `--cache` or parsed. Dense is always measured. Default: `dense,int8,int4,packed`. */
  readonly cache?: string | readonly CacheSetting[];
  /** Only the first contexts of each task. Default: all. */
  readonly limit?: number;
  /** dtype, device and session options, as `from_pretrained` takes them. */
  readonly load?: LoadOptions;
  /**
   * Folder of the journal: each finished context is on disk before the next begins, and the same call goes on where the last one stopped, also
   * with further tasks, settings or contexts. Default: none; nothing is kept of a run that is stopped.
   */
  readonly out?: string;
  /** Stops between questions; `evaluate` then throws the signal's reason. */
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: EvaluationProgress) => void;
}

export interface EvaluationProgress {
  /** `loading` comes first, and once. */
  readonly phase: 'loading' | 'asking';
  readonly task: string;
  readonly setting: string;
  /** Contexts times settings: finished, and in all. */
  readonly done: number;
  readonly total: number;
  /** Estimated from contexts like those left; undefined before there are any. */
  readonly secondsLeft: number | undefined;
}

/** Results of a run; the same whether or not it was interrupted. Times and dates stand apart, under `run`. */
export interface Evaluation {
  readonly format: 'attentionpack-eval';
  /** Of this object's form. */
  readonly version: 1;
  readonly model: JournalIdentity;
  readonly settings: readonly { readonly name: string; readonly about: string }[];
  /** Settings this model cannot have, with the reason. */
  readonly refused: readonly RefusedSetting[];
  readonly tasks: readonly EvaluatedTask[];
  readonly rows: readonly EvaluationRow[];
  readonly overall: readonly OverallRow[];
  readonly run: {
    /** ISO 8601, when this object was made. */
    readonly date: string;
    /** Of this call, loading left out; contexts found in the journal take none. */
    readonly seconds: number;
    readonly contextsAsked: number;
    readonly contextsPerSecond: number;
  };
}

export interface EvaluatedTask {
  readonly name: string;
  readonly about: string;
  readonly metric: string;
  /** Contexts there are, and those asked. */
  readonly size: number;
  readonly contexts: number;
  readonly questions: number;
  /** Contexts that could not be asked, with one of the reasons. */
  readonly skipped: number;
  readonly skippedWhy?: string;
}

/**
 * Measures cache settings of one model on tasks, each always paired with the dense cache in the same run.
 *
 * A context's pictures are encoded once; it is held in every setting in turn, and all its questions are asked behind it. The question is always
 * read behind the held context, so the first answer token comes through the cache that is measured.
 *
 * @param model a folder in transformers.js layout, or a model id
 * @throws {AttentionPackError} for tasks, settings or a journal that do not fit; what a task throws is passed on
 */
export async function evaluate(model: string, options: EvaluateOptions): Promise<Evaluation> {
  const { tasks, limit = Number.POSITIVE_INFINITY, load = {}, out, signal, onProgress = () => {} } = options;
  const wanted = typeof options.cache === 'object' ? options.cache : parseSettings(options.cache ?? DEFAULT_SETTINGS);
  checkTasks(tasks);
  const identity = identityOf(model, typeof load.dtype === 'string' ? load.dtype : undefined);
  const journal = new Journal(out, identity);
  try {
    for (const task of tasks) journal.begin(task, await firstContext(task));
    onProgress({ phase: 'loading', task: '', setting: '', done: 0, total: 0, secondsLeft: undefined });
    await using holders = await openHolders(model, wanted, load);
    if (wanted.some(({ name }) => name !== DENSE.name) && !holders.others.length) {
      const why = holders.refused.map(({ setting, reason }) => `${setting}: ${reason}`).join('; ');
      throw new AttentionPackError(`none of the cache settings can be had on this model: ${why}`);
    }
    const names = [DENSE.name, ...holders.others.map(({ setting }) => setting.name)];
    const time = new TimeLeft(tasks, names, limit, journal.entries);
    const start = performance.now();
    let contextsAsked = 0;
    for (const task of tasks) contextsAsked += await askTask({ task, holders, journal, limit, signal, time, onProgress });
    const seconds = (performance.now() - start) / 1000;
    return {
      ...resultsOf(journal, tasks, names, wanted, limit),
      model: identity,
      refused: holders.refused,
      run: { date: new Date().toISOString(), seconds, contextsAsked, contextsPerSecond: seconds ? contextsAsked / seconds : 0 },
    };
  } finally {
    journal.close();
  }
}

function checkTasks(tasks: readonly Task[]): void {
  if (!tasks.length) throw new AttentionPackError('there are no tasks to ask; give at least one');
  const twice = tasks.find(({ name }, i) => tasks.findIndex((other) => other.name === name) < i);
  if (twice) throw new AttentionPackError(`task '${twice.name}' is given twice; leave one out`);
}

/** Nothing is drawn or read for it but the context's own description. */
async function firstContext(task: Task): Promise<string> {
  for await (const { id } of task.contexts()) return id;
  throw new AttentionPackError(`task '${task.name}' has no contexts`);
}

interface TaskRun {
  readonly task: Task;
  readonly holders: Holders;
  readonly journal: Journal;
  readonly limit: number;
  readonly signal: AbortSignal | undefined;
  readonly time: TimeLeft;
  readonly onProgress: (progress: EvaluationProgress) => void;
}

/** Asks what the journal lacks of a task. Resolves to the number of contexts asked. */
async function askTask({ task, holders, journal, limit, signal, time, onProgress }: TaskRun): Promise<number> {
  const names = [DENSE.name, ...holders.others.map(({ setting }) => setting.name)];
  const done = new Map<number, Set<string>>();
  for (const entry of journal.entries.filter((candidate) => candidate.task === task.name)) {
    const settings = done.get(entry.index) ?? new Set();
    for (const name of isSkipped(entry) ? names : [entry.setting]) settings.add(name);
    done.set(entry.index, settings);
  }
  const end = Math.min(limit, task.size);
  const isDone = (index: number): boolean => names.every((name) => done.get(index)?.has(name));
  let index = 0;
  while (index < end && isDone(index)) index++;
  if (index >= end) return 0;

  const asking: Asking = { ...holders, needsMagnitudes: holders.others.some(({ setting }) => setting.kind === 'quantised'), signal };
  let contextsAsked = 0;
  for await (const context of task.contexts(index)) {
    if (index >= end) break;
    signal?.throwIfAborted();
    const finished = done.get(index) ?? new Set();
    if (!isDone(index)) {
      const asked: Asked = { task, context, index };
      await askContext(asking, asked, holders, finished, journal, (entry) => {
        time.add(entry);
        if (!isSkipped(entry)) onProgress({ phase: 'asking', task: task.name, setting: entry.setting, ...time.progress() });
      });
      contextsAsked++;
    }
    index++;
  }
  if (index < end)
    throw new AttentionPackError(
      `task '${task.name}' says it has ${task.size} contexts and gave ${index}; it must give as many as it says`,
    );
  return contextsAsked;
}

/** One context through all settings it lacks. The dense cache comes first, again if it must: its logits are what the others are held against. */
async function askContext(
  asking: Asking,
  asked: Asked,
  holders: Holders,
  finished: ReadonlySet<string>,
  journal: Journal,
  onEntry: (entry: ContextRecord | SkippedContext) => void,
): Promise<void> {
  const { task, context, index } = asked;
  const write = (entry: ContextRecord | SkippedContext): void => {
    journal.append(entry);
    onEntry(entry);
  };
  if (!context.questions.length) return write({ task: task.name, context: context.id, index, skipped: 'it has no questions' });
  const images = await context.images();
  const full = await prepareContext(asking, asked, images);
  const reason = tooLong(asking, task, full.questions);
  if (reason) return write({ task: task.name, context: context.id, index, skipped: reason });
  await using reference = await askDense(asking, asked, full, images);
  if (!finished.has(DENSE.name)) write(reference.record);
  for (const holder of holders.others) {
    if (finished.has(holder.setting.name)) continue;
    asking.signal?.throwIfAborted();
    try {
      write(await askSetting(asking, asked, holder, reference));
    } catch (cause) {
      if (!(cause instanceof AttentionPackError)) throw cause;
      throw new AttentionPackError(
        `'${holder.setting.name}' cannot hold context '${context.id}' of task '${task.name}': ${cause.message}`,
        { cause },
      );
    }
  }
}

/** Why a context cannot be asked whole, if it cannot: stock models run on beyond the context they were made for, and answer nonsense. */
function tooLong(
  { dense }: Asking,
  { maxNewTokens }: Task,
  questions: readonly { inputs: { input_ids: { dims: number[] } } }[],
): string | undefined {
  const limit = contextLength(dense);
  const longest = Math.max(...questions.map(({ inputs }) => inputs.input_ids.dims[1] ?? 0)) + maxNewTokens;
  return limit !== undefined && longest > limit ? `${longest} tokens, answer included, exceed the model's context of ${limit}` : undefined;
}

function resultsOf(
  journal: Journal,
  tasks: readonly Task[],
  names: readonly string[],
  wanted: readonly CacheSetting[],
  limit: number,
): Pick<Evaluation, 'format' | 'version' | 'settings' | 'tasks' | 'rows' | 'overall'> {
  const entries = journal.entries.filter(({ task, index }) => index < limit && tasks.some(({ name }) => name === task));
  const records = entries.filter((entry): entry is ContextRecord => !isSkipped(entry) && names.includes(entry.setting));
  const rows = summarise(
    records,
    tasks.map(({ name }) => name),
    names,
  );
  return {
    format: 'attentionpack-eval',
    version: 1,
    settings: wanted
      .filter(({ name }) => names.includes(name))
      .map(({ name }) => ({ name, about: SETTINGS[name] ?? SETTINGS[name.split(':')[0] ?? ''] ?? '' })),
    tasks: tasks.map((task) => {
      const skipped = entries.filter((entry): entry is SkippedContext => isSkipped(entry) && entry.task === task.name);
      const dense = records.filter((record) => record.task === task.name && record.setting === DENSE.name);
      return {
        name: task.name,
        about: task.about,
        metric: task.metricName,
        size: task.size,
        contexts: dense.length,
        questions: dense.reduce((sum, { questions }) => sum + questions.length, 0),
        skipped: skipped.length,
        ...(skipped[0] && { skippedWhy: skipped[0].skipped }),
      };
    }),
    rows,
    overall: overall(rows, records, names),
  };
}
