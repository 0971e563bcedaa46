/** Asks the same questions of a dense and a packed model about one context of images: answers, loyalty, bytes and time, side by side. */
import type { PreTrainedModel, Processor, RawImage } from '@huggingface/transformers';
import type { CacheReport } from './cache.ts';
import { type AskedContext, prepare } from './compare/context.ts';
import { holdPacked } from './compare/packed.ts';
import { holdStock } from './compare/stock.ts';
import { assert } from './errors.ts';
import { type Agreement, agreement, meanAgreement } from './loyalty.ts';
import type { CacheOptions } from './options.ts';
import type { PackedModel } from './state.ts';
import { median, StepTimer } from './step-timer.ts';

export interface Answer {
  readonly question: string;
  readonly dense: string;
  readonly packed: string;
}

export interface Comparison {
  /** Teacher-forced over the dense answers, first answer token included. */
  readonly agreement: Agreement;
  /** Share of questions whose greedy answer is the dense one, token for token. */
  readonly answerMatch: number;
  /** The cache with the images, the last question and its dense answer in it. */
  readonly report: CacheReport;
  readonly images: number;
  readonly visualTokens: number;
  readonly answers: readonly Answer[];
  /** Medians of decode steps while answering. */
  readonly decodeMsPerToken: { readonly dense: number; readonly packed: number };
}

export interface CompareOptions {
  readonly cache?: CacheOptions;
  /** Longest answer. Default 48 tokens. */
  readonly maxNewTokens?: number;
  readonly onProgress?: (text: string) => void;
}

type Progress = (text: string) => void;

/** What the dense model says to one question. */
interface DenseAnswer {
  readonly tokens: readonly bigint[];
  /** Teacher-forced logits over the answer, [tokens.length, V]. */
  readonly logits: Float32Array;
}

/**
 * Runs the images through both models once, then every question behind them, each on its own.
 *
 * @param dense a stock model of transformers.js; the truth
 * @param packed the same weights through `packed()`
 */
export async function compare(
  dense: PreTrainedModel,
  packed: PreTrainedModel & PackedModel,
  processor: Processor,
  images: readonly RawImage[],
  questions: readonly string[],
  options: CompareOptions = {},
): Promise<Comparison> {
  const { cache, maxNewTokens = 48, onProgress = () => {} } = options;
  const context = await prepare(dense, processor, images, questions);
  const timers = { dense: new StepTimer(), packed: new StepTimer() };
  const truths = await askDense(dense, context, maxNewTokens, timers.dense, onProgress);

  onProgress('reading the images, packed cache');
  await using held = await holdPacked(packed, context, cache);
  const agreements: Agreement[] = [];
  const answers: Answer[] = [];
  let same = 0;
  for (const [i, question] of context.questions.entries()) {
    const truth = truths[i];
    assert(truth, 'a dense answer to each question');
    onProgress(`packed cache: ${question.text}`);
    const { tokens } = await held.answer(question, maxNewTokens, timers.packed);
    const { logits } = await held.force(question, truth.tokens);
    agreements.push(agreement(truth.logits, logits, logits.length / truth.tokens.length));
    if (sameTokens(tokens, truth.tokens)) same++;
    answers.push({ question: question.text, dense: decode(processor, truth.tokens), packed: decode(processor, tokens) });
  }
  return {
    agreement: meanAgreement(agreements),
    answerMatch: same / context.questions.length,
    report: held.lastReport,
    images: images.length,
    visualTokens: held.lastReport.packedTokens,
    answers,
    decodeMsPerToken: { dense: median(timers.dense.stepMs), packed: median(timers.packed.stepMs) },
  };
}

/** Lets the dense model answer every question. */
async function askDense(
  dense: PreTrainedModel,
  context: AskedContext,
  maxNewTokens: number,
  timer: StepTimer,
  onProgress: Progress,
): Promise<DenseAnswer[]> {
  onProgress('reading the images, dense cache');
  await using held = await holdStock(dense, context);
  const answers: DenseAnswer[] = [];
  for (const question of context.questions) {
    onProgress(`dense cache: ${question.text}`);
    const { tokens } = await held.answer(question, maxNewTokens, timer);
    const { logits } = await held.force(question, tokens);
    answers.push({ tokens, logits });
  }
  return answers;
}

/** Whether two answers are the same, token for token. */
export function sameTokens(a: readonly bigint[], b: readonly bigint[]): boolean {
  return a.length === b.length && a.every((token, i) => token === b[i]);
}

/** Answer tokens as text, without special tokens. */
export function decode(processor: Processor, ids: readonly bigint[]): string {
  assert(processor.tokenizer, 'a processor with a tokenizer');
  return processor.tokenizer.decode([...ids], { skip_special_tokens: true }).trim();
}
