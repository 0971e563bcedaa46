/** One context through the settings: what the dense cache says, then what each other one says to the same questions. */
import type { PreTrainedModel, Processor, RawImage } from '@huggingface/transformers';
import { type AskedContext, prepare } from '../compare/context.ts';
import { type HeldBytes, type HeldContext, largestDifference, proves } from '../compare/held.ts';
import { type Magnitudes, widen } from '../compare/quantised.ts';
import { holdStock } from '../compare/stock.ts';
import { decode, sameTokens } from '../compare.ts';
import { assert } from '../errors.ts';
import { agreement } from '../loyalty.ts';
import { halfPictures, halfPixels } from './half-resolution.ts';
import type { ContextForms, Holder } from './holders.ts';
import type { ContextRecord, QuestionRecord } from './records.ts';
import { DENSE } from './settings.ts';
import type { Context, Task } from './task.ts';

/** What the dense model says to one question. */
interface Truth {
  readonly tokens: readonly bigint[];
  /** Teacher-forced, [tokens.length, V]. */
  readonly logits: Float32Array;
  /** How far reading tokens together may move a logit against reading them one by one. */
  readonly noise: number;
}

/** The dense answers about one context, and the context in the forms other settings need. */
export interface Reference extends AsyncDisposable {
  readonly forms: ContextForms;
  readonly truths: readonly Truth[];
  readonly record: ContextRecord;
}

export interface Asked {
  readonly task: Task;
  readonly context: Context;
  readonly index: number;
}

export interface Asking {
  readonly dense: PreTrainedModel;
  readonly processor: Processor;
  /** Whether some setting needs the magnitudes of the dense rows. */
  readonly needsMagnitudes: boolean;
  readonly signal?: AbortSignal | undefined;
}

/** The context's pictures and questions as the model takes them. */
export function prepareContext({ dense, processor }: Asking, { context }: Asked, images: readonly RawImage[]): Promise<AskedContext> {
  const texts = context.questions.map(({ text }) => text);
  return prepare(dense, processor, images, texts, { clip: context.isClip ?? false });
}

export async function askDense(asking: Asking, asked: Asked, full: AskedContext, images: readonly RawImage[]): Promise<Reference> {
  const start = performance.now();
  const { dense, processor, needsMagnitudes, signal } = asking;
  const { task, context } = asked;
  const held = await holdStock(dense, full);
  const magnitudes: Magnitudes = new Map();
  if (needsMagnitudes) widen(magnitudes, held.entries);
  const truths: Truth[] = [];
  const questions: QuestionRecord[] = [];
  let bytes: HeldBytes | undefined;
  for (const [i, question] of full.questions.entries()) {
    signal?.throwIfAborted();
    const { tokens, scores } = await held.answer(question, task.maxNewTokens);
    const forced = await held.force(question, tokens);
    if (needsMagnitudes) widen(magnitudes, held.lastEntries, full.numTokens);
    bytes ??= forced.bytes;
    truths.push({ tokens, logits: forced.logits, noise: 4 * largestDifference(scores, forced.logits) + MARGIN });
    questions.push({ ...judged(asked, i, decode(processor, tokens)), same: true, tokens: tokens.length, top1: tokens.length, kl: 0 });
  }
  assert(bytes, 'a context has questions');
  let half: Promise<AskedContext> | undefined;
  const texts = full.questions.map(({ text }) => text);
  const clip = context.isClip ?? false;
  const forms: ContextForms = {
    full,
    half: () =>
      (half ??= full.inputs.image_grid_thw
        ? halfPictures(images).then((smaller) => prepare(dense, processor, smaller, texts, { clip }))
        : prepare(dense, processor, images, texts, { clip, pixels: halfPixels })),
    dense: held,
    magnitudes,
  };
  const record = recordOf(asked, DENSE.name, bytes, questions, start);
  return { forms, truths, record, [Symbol.asyncDispose]: () => held[Symbol.asyncDispose]() };
}

/** Logits closer than this are not taken for a decision even where reading together changes nothing. */
const MARGIN = 1e-4;

/**
 * The same questions to another setting. Answers are generated only where teacher forcing does not prove them: a greedy answer is the dense one
 * exactly if all its tokens are predicted.
 */
export async function askSetting(asking: Asking, asked: Asked, holder: Holder, { forms, truths }: Reference): Promise<ContextRecord> {
  const start = performance.now();
  const { processor, signal } = asking;
  const questions: QuestionRecord[] = [];
  let bytes: HeldBytes | undefined;
  await using held: HeldContext = await holder.hold(forms);
  for (const [i, question] of held.context.questions.entries()) {
    signal?.throwIfAborted();
    const truth = truths[i];
    assert(truth, 'a dense answer to each question');
    const forced = await held.force(question, truth.tokens);
    bytes ??= forced.bytes;
    const { top1, kl, tokens } = agreement(truth.logits, forced.logits, truth.logits.length / truth.tokens.length);
    const isProven = !held.changes && proves(forced.logits, truth.tokens, truth.noise);
    const answer = isProven ? truth.tokens : (await held.answer(question, asked.task.maxNewTokens)).tokens;
    const same = isProven || sameTokens(answer, truth.tokens);
    questions.push({ ...judged(asked, i, decode(processor, answer)), same, tokens, top1: Math.round(top1 * tokens), kl: kl * tokens });
  }
  assert(bytes, 'a context has questions');
  return recordOf(asked, holder.setting.name, bytes, questions, start);
}

function judged({ task, context }: Asked, i: number, answer: string): Pick<QuestionRecord, 'kind' | 'answer' | 'score'> {
  const question = context.questions[i];
  assert(question, `the context has question ${i}`);
  return { kind: question.kind ?? task.name, answer, score: task.metric(answer, question) };
}

function recordOf(
  { task, context, index }: Asked,
  setting: string,
  bytes: HeldBytes,
  questions: readonly QuestionRecord[],
  start: number,
): ContextRecord {
  const ms = Math.round(performance.now() - start);
  return { task: task.name, setting, context: context.id, index, images: context.numImages, bytes, questions, ms };
}
