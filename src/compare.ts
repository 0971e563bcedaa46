/** Asks the same questions of a dense and a packed model about one context of images: answers, loyalty, bytes and time, side by side. */
import { BaseStreamer, DynamicCache, type PreTrainedModel, type Processor, type RawImage, Tensor } from '@huggingface/transformers';
import { type CacheReport, PackedCache } from './cache.ts';
import { AttentionPackError, assert } from './errors.ts';
import { type Agreement, agreement, meanAgreement } from './loyalty.ts';
import type { CacheOptions } from './options.ts';
import { type Prompt, prompt, question } from './prompt.ts';
import type { PackedModel } from './state.ts';

export interface Answer {
  readonly question: string;
  readonly dense: string;
  readonly packed: string;
}

export interface Comparison {
  readonly images: number;
  readonly visualTokens: number;
  readonly answers: readonly Answer[];
  /** Teacher-forced over the dense answers, first answer token included. */
  readonly agreement: Agreement;
  /** Share of answers that are the same text. */
  readonly answerMatch: number;
  /** The cache with the images, the last question and its answer in it. */
  readonly report: CacheReport;
  /** Medians of decode steps while answering. */
  readonly decodeMsPerToken: { readonly dense: number; readonly packed: number };
}

export interface CompareOptions {
  readonly cache?: CacheOptions;
  /** Longest answer. Default 48 tokens. */
  readonly maxNewTokens?: number;
  readonly onProgress?: (text: string) => void;
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
  const [first] = questions;
  if (first === undefined) throw new AttentionPackError('there are no questions to compare answers of; give at least one');
  const prompts: Prompt[] = [];
  for (const text of questions) prompts.push(await prompt(processor, [question(text, images.length)], images));
  const start = prompts[0] as Prompt;
  const contextLength = lengthOfContext(packed, start);
  const context = { ...start, input_ids: head(start.input_ids, contextLength), attention_mask: head(start.attention_mask, contextLength) };

  options.onProgress?.('reading the images, dense');
  const denseContext = pastOf(await dense(context));
  options.onProgress?.('reading the images, packed');
  await using cache = new PackedCache(packed, options.cache);
  await packed({ ...context, past_key_values: cache });

  const answers: Answer[] = [];
  const agreements: Agreement[] = [];
  const stepMs = { dense: [] as number[], packed: [] as number[] };
  let report = cache.report();
  for (const [i, inputs] of prompts.entries()) {
    options.onProgress?.(`question ${i + 1} of ${questions.length}: ${questions[i]}`);
    const ask = {
      input_ids: inputs.input_ids,
      attention_mask: inputs.attention_mask,
      max_new_tokens: options.maxNewTokens ?? 48,
      do_sample: false,
    };
    const timer = { dense: new StepTimer(), packed: new StepTimer() };
    const denseAnswer = await generated(dense, { ...ask, past_key_values: denseContext(), streamer: timer.dense });
    const packedAnswer = await generated(packed, { ...ask, past_key_values: cache, streamer: timer.packed });
    cache.crop(contextLength);
    stepMs.dense.push(...timer.dense.stepMs);
    stepMs.packed.push(...timer.packed.stepMs);
    answers.push({ question: questions[i] as string, dense: decode(processor, denseAnswer), packed: decode(processor, packedAnswer) });

    // Teacher-forced: both models read the question and the dense answer, and predict each of its tokens from those before.
    const forced = follow(inputs, contextLength, denseAnswer);
    const denseLogits = await logitsOf(dense, { ...forced, past_key_values: denseContext() });
    const packedLogits = await logitsOf(packed, { ...forced, past_key_values: cache });
    agreements.push(
      agreement(lastRows(denseLogits, denseAnswer.length), lastRows(packedLogits, denseAnswer.length), denseLogits.dims[2] ?? 0),
    );
    report = cache.report();
    cache.crop(contextLength);
  }
  return {
    images: images.length,
    visualTokens: report.packedTokens,
    answers,
    agreement: meanAgreement(agreements),
    answerMatch: answers.filter((answer) => answer.dense === answer.packed).length / answers.length,
    report,
    decodeMsPerToken: { dense: median(stepMs.dense), packed: median(stepMs.packed) },
  };
}

/** Tokens up to and with the last image token: what all questions share. */
function lengthOfContext(model: PreTrainedModel, { input_ids }: Prompt): number {
  const config = model.config as { image_token_index?: number; image_token_id?: number };
  const imageToken = BigInt(config.image_token_index ?? config.image_token_id ?? -1);
  const last = (input_ids.data as BigInt64Array).lastIndexOf(imageToken);
  if (last < 0) throw new AttentionPackError('the prompt has no images; give at least one');
  return last + 1;
}

/** Gives a fresh cache over the same tensors each time; stock caches replace tensors, they do not write into them. */
function pastOf(outputs: Record<string, Tensor>): () => DynamicCache {
  const entries = Object.fromEntries(
    Object.entries(outputs).flatMap(([name, tensor]) =>
      name.startsWith('present') ? [[name.replace('present', 'past_key_values'), tensor]] : [],
    ),
  );
  return () => new DynamicCache(entries);
}

/** The part of the inputs behind the context, followed by all but the last answer token. */
function follow(inputs: Prompt, contextLength: number, answer: readonly bigint[]): { input_ids: Tensor; attention_mask: Tensor } {
  const ids = [...(inputs.input_ids.data as BigInt64Array).subarray(contextLength), ...answer.slice(0, -1)];
  const total = contextLength + ids.length;
  return {
    input_ids: new Tensor('int64', BigInt64Array.from(ids), [1, ids.length]),
    attention_mask: new Tensor('int64', new BigInt64Array(total).fill(1n), [1, total]),
  };
}

async function generated(model: PreTrainedModel, inputs: Record<string, unknown>): Promise<bigint[]> {
  const { input_ids } = inputs as { input_ids: Tensor };
  const sequences = (await model.generate(inputs as never)) as Tensor;
  return [...(sequences.data as BigInt64Array).subarray(input_ids.dims[1])];
}

async function logitsOf(model: PreTrainedModel, inputs: Record<string, unknown>): Promise<Tensor> {
  const { logits } = (await model(inputs)) as { logits: Tensor };
  return logits.to('float32');
}

/** The last `rows` rows of logits [1, N, V]. */
function lastRows(logits: Tensor, rows: number): Float32Array {
  const [, length = 0, vocab = 0] = logits.dims;
  assert(rows <= length, `${rows} rows of ${length} logits`);
  return (logits.data as Float32Array).subarray((length - rows) * vocab);
}

function head(tensor: Tensor, length: number): Tensor {
  return new Tensor('int64', (tensor.data as BigInt64Array).slice(0, length), [1, length]);
}

function decode(processor: Processor, ids: readonly bigint[]): string {
  assert(processor.tokenizer, 'a processor with a tokenizer');
  return processor.tokenizer.decode([...ids], { skip_special_tokens: true }).trim();
}

/** Times the steps between tokens; the first interval is the prompt's and is left out. */
class StepTimer extends BaseStreamer {
  readonly stepMs: number[] = [];
  #calls = 0;
  #last = 0;

  override put(): void {
    const now = performance.now();
    if (this.#calls++ >= 2) this.stepMs.push(now - this.#last);
    this.#last = now;
  }

  override end(): void {}
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  return sorted.length ? ((sorted[Math.floor(middle)] ?? 0) + (sorted[Math.ceil(middle) - 1] ?? 0)) / 2 : 0;
}
