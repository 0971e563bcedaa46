/** Asks the same questions of a dense and a packed model about one context of images: answers, loyalty, bytes and time, side by side. */
import { DynamicCache, type PreTrainedModel, type Processor, type RawImage, Tensor } from '@huggingface/transformers';
import { type CacheReport, PackedCache } from './cache.ts';
import { AttentionPackError, assert } from './errors.ts';
import { imageTokenOf } from './images.ts';
import { type Agreement, agreement, meanAgreement } from './loyalty.ts';
import type { CacheOptions } from './options.ts';
import { type Prompt, prompt, question } from './prompt.ts';
import type { PackedModel } from './state.ts';
import { median, StepTimer } from './step-timer.ts';

/** A context of images and questions behind it, as the dense model answers them: what a packed cache is held against. */
export interface Reference {
  /** The inputs up to the last image token, which all questions share. */
  readonly context: Prompt;
  readonly questions: readonly ReferenceAnswer[];
  readonly msPerToken: number;
}

export interface ReferenceAnswer {
  readonly question: string;
  readonly inputs: Prompt;
  /** The dense model's greedy answer, its end token included. */
  readonly answer: readonly bigint[];
  /** Teacher-forced logits over the answer, [answer.length, V]. */
  readonly logits: Float32Array;
}

export interface Answer {
  readonly question: string;
  readonly dense: string;
  readonly packed: string;
}

/** How far one packed cache kept a reference. */
export interface Loyalty {
  /** Teacher-forced over the dense answers, first answer token included. */
  readonly agreement: Agreement;
  /** Share of questions whose greedy answer is the dense one, token for token. */
  readonly answerMatch: number;
  /** The cache with the images, the last question and its answer in it. */
  readonly report: CacheReport;
}

export interface Comparison extends Loyalty {
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
  const reference = await askDense(dense, processor, images, questions, maxNewTokens, onProgress);
  const { answers, msPerToken } = await askPacked(packed, reference, cache, maxNewTokens, onProgress);
  const loyalty = await measureLoyalty(packed, reference, cache);
  return {
    ...loyalty,
    images: images.length,
    visualTokens: loyalty.report.packedTokens,
    answers: reference.questions.map(({ question, answer }, i) => ({
      question,
      dense: decode(processor, answer),
      packed: decode(processor, answers[i] ?? []),
    })),
    decodeMsPerToken: { dense: reference.msPerToken, packed: msPerToken },
  };
}

/** Lets the dense model answer every question about the images. */
export async function askDense(
  dense: PreTrainedModel,
  processor: Processor,
  images: readonly RawImage[],
  questions: readonly string[],
  maxNewTokens: number,
  onProgress: Progress = () => {},
): Promise<Reference> {
  const prompts: Prompt[] = [];
  for (const text of questions) prompts.push(await prompt(processor, [question(text, images.length)], images));
  const [first] = prompts;
  if (!first) throw new AttentionPackError('there are no questions to compare answers of; give at least one');
  const length = lengthOfContext(dense, first);
  const context = { ...first, input_ids: head(first.input_ids, length), attention_mask: head(first.attention_mask, length) };
  onProgress('reading the images, dense cache');
  const past = pastOf(await dense(context));
  const timer = new StepTimer();
  const answered: ReferenceAnswer[] = [];
  for (const [i, inputs] of prompts.entries()) {
    onProgress(`dense cache: ${questions[i]}`);
    const answer = await generated(dense, inputs, past(), maxNewTokens, timer);
    const logits = await forcedLogits(dense, inputs, length, answer, past());
    answered.push({ question: questions[i] ?? '', inputs, answer, logits });
  }
  return { context, questions: answered, msPerToken: median(timer.stepMs) };
}

/** Greedy answers of the packed model, and milliseconds per token. */
export async function askPacked(
  packed: PreTrainedModel & PackedModel,
  reference: Reference,
  options: CacheOptions | undefined,
  maxNewTokens: number,
  onProgress: Progress = () => {},
): Promise<{ answers: bigint[][]; msPerToken: number }> {
  onProgress('reading the images, packed cache');
  await using cache = new PackedCache(packed, options);
  await packed({ ...reference.context, past_key_values: cache });
  const length = cache.get_seq_length();
  const timer = new StepTimer();
  const answers: bigint[][] = [];
  for (const { question, inputs } of reference.questions) {
    onProgress(`packed cache: ${question}`);
    answers.push(await generated(packed, inputs, cache, maxNewTokens, timer));
    cache.crop(length);
  }
  return { answers, msPerToken: median(timer.stepMs) };
}

/**
 * Teacher-forced: the packed model reads each question and the dense answer behind packed images, and predicts every token of the answer from
 * those before it. A greedy answer is the dense one exactly if all its tokens are predicted, so answers are not generated again.
 */
export async function measureLoyalty(
  packed: PreTrainedModel & PackedModel,
  reference: Reference,
  options?: CacheOptions,
): Promise<Loyalty> {
  await using cache = new PackedCache(packed, options);
  await packed({ ...reference.context, past_key_values: cache });
  const length = cache.get_seq_length();
  const agreements: Agreement[] = [];
  let report = cache.report();
  for (const { inputs, answer, logits } of reference.questions) {
    const own = await forcedLogits(packed, inputs, length, answer, cache);
    agreements.push(agreement(logits, own, logits.length / answer.length));
    report = cache.report();
    cache.crop(length);
  }
  return {
    agreement: meanAgreement(agreements),
    answerMatch: agreements.filter(({ top1 }) => top1 === 1).length / agreements.length,
    report,
  };
}

/** Tokens up to and with the last image token. */
function lengthOfContext(model: PreTrainedModel, { input_ids }: Prompt): number {
  const last = (input_ids.data as BigInt64Array).lastIndexOf(BigInt(imageTokenOf(model) ?? -1));
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

/** Greedy answer tokens behind a cache that holds the context. The images are in the cache, so pixel values stay out. */
async function generated(
  model: PreTrainedModel,
  { input_ids, attention_mask }: Prompt,
  past_key_values: object,
  max_new_tokens: number,
  timer: StepTimer,
): Promise<bigint[]> {
  timer.restart();
  const inputs = { input_ids, attention_mask, past_key_values, max_new_tokens, do_sample: false, streamer: timer };
  const sequences = (await model.generate(inputs as never)) as Tensor;
  return [...(sequences.data as BigInt64Array).subarray(input_ids.dims[1])];
}

/** Logits [answer.length, V] over an answer, from what stands behind the context: the question and all but the answer's last token. */
async function forcedLogits(
  model: PreTrainedModel,
  inputs: Prompt,
  contextLength: number,
  answer: readonly bigint[],
  past_key_values: object,
): Promise<Float32Array> {
  const ids = BigInt64Array.from([...(inputs.input_ids.data as BigInt64Array).subarray(contextLength), ...answer.slice(0, -1)]);
  const total = contextLength + ids.length;
  const { logits } = (await model({
    input_ids: new Tensor('int64', ids, [1, ids.length]),
    attention_mask: new Tensor('int64', new BigInt64Array(total).fill(1n), [1, total]),
    past_key_values,
  })) as { logits: Tensor };
  const [, length = 0, vocab = 0] = logits.dims;
  assert(length === ids.length, `${length} rows of logits for ${ids.length} tokens`);
  return (logits.to('float32').data as Float32Array).subarray((length - answer.length) * vocab);
}

function head(tensor: Tensor, length: number): Tensor {
  return new Tensor('int64', (tensor.data as BigInt64Array).slice(0, length), [1, length]);
}

/** Answer tokens as text, without special tokens. */
export function decode(processor: Processor, ids: readonly bigint[]): string {
  assert(processor.tokenizer, 'a processor with a tokenizer');
  return processor.tokenizer.decode([...ids], { skip_special_tokens: true }).trim();
}
