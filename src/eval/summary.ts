/** Records of contexts -> the rows of a report: score, difference to dense, loyalty and bytes for each task and setting. */
import type { HeldBytes } from '../compare/held.ts';
import { type Interval, interval, type PairedDifference, pairedDifference } from './metrics.ts';
import type { ContextRecord, QuestionRecord } from './records.ts';
import { DENSE } from './settings.ts';

/** How far a setting keeps the dense model's answers; `algorithm.md`, section 6. */
export interface LoyaltyFigures {
  /** Share of the dense answers' tokens that are the most likely ones here too, teacher-forced. */
  readonly top1: number;
  /** Share of questions with the dense answer, token for token. */
  readonly answerMatch: number;
  /** Mean Kullback-Leibler divergence from the dense distribution over those tokens, in nats. */
  readonly kl: number;
  readonly tokens: number;
}

/** Bytes summed over contexts, each while the answer to its first question stands in the cache. */
export interface ByteFigures {
  /** As held, mean of a context. */
  readonly heldPerContext: number;
  readonly denseFp16PerContext: number;
  /** Dense float16 bytes over bytes held, of everything. */
  readonly compression: number;
  /** The same of the images alone. */
  readonly visualCompression: number;
  readonly tokensPerContext: number;
  readonly visualTokensPerContext: number;
}

/** One setting over one task. */
export interface EvaluationRow {
  readonly task: string;
  readonly setting: string;
  readonly score: Interval;
  /** Against the dense cache over the same questions; undefined for the dense cache itself. */
  readonly difference?: PairedDifference;
  readonly loyalty: LoyaltyFigures;
  readonly bytes: ByteFigures;
  /** Mean score by kind of question, where a task has several. */
  readonly kinds?: Readonly<Record<string, { readonly mean: number; readonly n: number }>>;
}

/** One setting over all tasks: the mean of their scores, each task counted once; loyalty and bytes of everything asked. */
export interface OverallRow {
  readonly setting: string;
  readonly score: number;
  readonly loyalty: LoyaltyFigures;
  readonly bytes: ByteFigures;
}

/** Rows in the order of tasks and settings; a setting that has no record of a task has no row. Only contexts that every setting finished count. */
export function summarise(records: readonly ContextRecord[], tasks: readonly string[], settings: readonly string[]): EvaluationRow[] {
  return tasks.flatMap((task) => {
    const ofTask = records.filter((record) => record.task === task);
    const bySetting = new Map(settings.map((setting) => [setting, byContext(ofTask.filter((record) => record.setting === setting))]));
    const whole = [...(bySetting.get(DENSE.name)?.keys() ?? [])].filter((context) =>
      settings.every((name) => bySetting.get(name)?.has(context)),
    );
    const chosen = (setting: string): ContextRecord[] =>
      whole.flatMap((context) => bySetting.get(setting)?.get(context) ?? []).sort((a, b) => a.index - b.index);
    const dense = chosen(DENSE.name);
    if (!dense.length) return [];
    return settings.map((setting) => row(task, setting, chosen(setting), dense));
  });
}

export function overall(rows: readonly EvaluationRow[], records: readonly ContextRecord[], settings: readonly string[]): OverallRow[] {
  return settings.flatMap((setting) => {
    const own = rows.filter((row) => row.setting === setting);
    if (!own.length) return [];
    const asked = records.filter((record) => record.setting === setting);
    const score = own.reduce((sum, { score }) => sum + score.mean, 0) / own.length;
    return [{ setting, score, loyalty: loyaltyOf(asked.flatMap(({ questions }) => questions)), bytes: bytesOf(asked) }];
  });
}

function row(task: string, setting: string, records: readonly ContextRecord[], dense: readonly ContextRecord[]): EvaluationRow {
  const questions = records.flatMap((record) => record.questions);
  const contexts = records.flatMap(({ context, questions }) => questions.map(() => context));
  const scores = questions.map(({ score }) => score);
  const kinds = kindsOf(questions);
  return {
    task,
    setting,
    score: interval(scores, contexts),
    ...(setting !== DENSE.name && {
      difference: pairedDifference(
        scores,
        dense.flatMap((record) => record.questions.map(({ score }) => score)),
        contexts,
      ),
    }),
    loyalty: loyaltyOf(questions),
    bytes: bytesOf(records),
    ...(Object.keys(kinds).length > 1 && { kinds }),
  };
}

function loyaltyOf(questions: readonly QuestionRecord[]): LoyaltyFigures {
  const sum = (of: (question: QuestionRecord) => number): number => questions.reduce((total, question) => total + of(question), 0);
  const tokens = sum((question) => question.tokens);
  return {
    top1: tokens ? sum((question) => question.top1) / tokens : 1,
    answerMatch: questions.length ? sum(({ same }) => Number(same)) / questions.length : 1,
    kl: tokens ? sum((question) => question.kl) / tokens : 0,
    tokens,
  };
}

function bytesOf(records: readonly ContextRecord[]): ByteFigures {
  const sum = (of: keyof HeldBytes): number => records.reduce((total, { bytes }) => total + bytes[of], 0);
  const mean = (of: keyof HeldBytes): number => (records.length ? sum(of) / records.length : 0);
  const ratio = (a: number, b: number): number => (b ? a / b : 0);
  return {
    heldPerContext: mean('held'),
    denseFp16PerContext: mean('denseFp16'),
    compression: ratio(sum('denseFp16'), sum('held')),
    visualCompression: ratio(sum('visualDenseFp16'), sum('visualHeld')),
    tokensPerContext: mean('tokens'),
    visualTokensPerContext: mean('visualTokens'),
  };
}

function kindsOf(questions: readonly QuestionRecord[]): Record<string, { mean: number; n: number }> {
  const kinds = [...new Set(questions.map(({ kind }) => kind))].sort();
  return Object.fromEntries(
    kinds.map((kind) => {
      const own = questions.filter((question) => question.kind === kind);
      return [kind, { mean: own.reduce((sum, { score }) => sum + score, 0) / own.length, n: own.length }];
    }),
  );
}

function byContext(records: readonly ContextRecord[]): Map<string, ContextRecord> {
  return new Map(records.map((record) => [record.context, record]));
}
