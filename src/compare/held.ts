/** A context held in some kind of cache, with questions asked behind it: what every kind can do, and the parts they share. */
import { type LogitsProcessor, LogitsProcessorList, type PreTrainedModel, Tensor } from '@huggingface/transformers';
import { assert } from '../errors.ts';
import { joined } from '../joined.ts';
import { argmax } from '../loyalty.ts';
import type { Prompt } from '../prompt.ts';
import type { StepTimer } from '../step-timer.ts';
import { type AskedContext, type AskedQuestion, tailOf } from './context.ts';

/** Bytes as held while an answer stands in the cache, and those of a dense float16 cache of the same tokens. */
export interface HeldBytes {
  /** Tokens of context, question and answer. */
  readonly tokens: number;
  readonly held: number;
  readonly denseFp16: number;
  /** The same for the image tokens alone. */
  readonly visualTokens: number;
  readonly visualHeld: number;
  readonly visualDenseFp16: number;
}

export interface Forced {
  /** Logits [answer.length, V], float32: each answer token as predicted from all tokens before it. */
  readonly logits: Float32Array;
  /** What was held once all but the answer's last token had been read. */
  readonly bytes: HeldBytes;
}

export interface Generated {
  /** Greedy answer as `generate` gives it, its end token included. */
  readonly tokens: readonly bigint[];
  /** Scores [tokens.length, V] the tokens were chosen by. */
  readonly scores: Float32Array;
}

/**
 * A context in a cache. Questions leave nothing behind; each is read by the model behind the held context, so the first token of an answer
 * comes through the cache too.
 */
export interface HeldContext extends AsyncDisposable {
  readonly context: AskedContext;
  /** Whether the cache becomes another one as an answer grows: tokens read together then see something else than one by one. */
  readonly changes?: boolean;
  /** Teacher-forced: reads question and answer at once. */
  force(question: AskedQuestion, answer: readonly bigint[]): Promise<Forced>;
  answer(question: AskedQuestion, maxNewTokens: number, timer?: StepTimer): Promise<Generated>;
}

/** Most a prompt's logits need be: none but the last token's are looked at. */
export const LAST_LOGITS: Tensor = new Tensor('int64', BigInt64Array.of(1n), []);

/**
 * The decoder over question and answer behind a cache that holds the context. Outputs, `present*` included, and their logits.
 *
 * @param further inputs beside tokens, mask and cache
 */
export async function readForced(
  model: PreTrainedModel,
  context: AskedContext,
  question: AskedQuestion,
  answer: readonly bigint[],
  past_key_values: object,
  further: Readonly<Record<string, Tensor>> = {},
): Promise<{ readonly outputs: Record<string, Tensor>; readonly logits: Float32Array }> {
  assert(answer.length, 'an answer has at least one token');
  const { numTokens } = context;
  const ids = BigInt64Array.from([...tailOf(question, numTokens), ...answer.slice(0, -1)]);
  const outputs = (await model({
    ...further,
    input_ids: new Tensor('int64', ids, [1, ids.length]),
    attention_mask: ones(numTokens + ids.length),
    past_key_values,
  })) as Record<string, Tensor>;
  const { logits } = outputs;
  const [, length = 0, vocab = 0] = logits?.dims ?? [];
  assert(logits && length === ids.length, `${length} rows of logits for ${ids.length} tokens`);
  const rows = (logits.to('float32').data as Float32Array).slice((length - answer.length) * vocab);
  return { outputs, logits: rows };
}

/** An attention mask without padding. */
function ones(length: number): Tensor {
  return new Tensor('int64', new BigInt64Array(length).fill(1n), [1, length]);
}

/** Greedy answer behind a cache that holds the context, by `generate` itself. The images are in the cache, so pixel values stay out. */
export async function generateBehind(
  model: PreTrainedModel,
  inputs: Prompt,
  past_key_values: object,
  max_new_tokens: number,
  timer: StepTimer | undefined,
): Promise<Generated> {
  timer?.restart();
  // Looks on as tokens are chosen: last in line, so what it sees is what decides.
  const rows: Float32Array[] = [];
  const probe = (_ids: bigint[][], logits: Tensor): Tensor => {
    rows.push((logits.data as Float32Array).slice());
    return logits;
  };
  const logits_processor = new LogitsProcessorList();
  logits_processor.push(probe as unknown as LogitsProcessor);
  const asked = { ...inputs, past_key_values, max_new_tokens, do_sample: false, logits_processor, ...(timer && { streamer: timer }) };
  const sequences = (await model.generate(asked as never)) as Tensor;
  return { tokens: [...(sequences.data as BigInt64Array).subarray(inputs.input_ids.dims[1])], scores: joined(rows) };
}

/**
 * Whether teacher-forced logits [answer.length, V] prove that `generate` would give this very answer: every token of it is the most likely one,
 * by more than `noise`, so that reading tokens together rather than one by one cannot have turned the choice.
 */
export function proves(logits: Float32Array, answer: readonly bigint[], noise: number): boolean {
  const vocab = logits.length / answer.length;
  return answer.every((token, n) => {
    const row = logits.subarray(n * vocab, (n + 1) * vocab);
    const best = argmax(row);
    if (BigInt(best) !== token) return false;
    const top = row[best] as number;
    return row.every((logit, i) => i === best || logit < top - noise);
  });
}

/** Largest difference between two sets of logits; by how far tokens read together and one by one disagree. */
export function largestDifference(a: Float32Array, b: Float32Array): number {
  assert(a.length === b.length, `logits of ${a.length} and ${b.length}`);
  let largest = 0;
  for (let i = 0; i < a.length; i++) largest = Math.max(largest, Math.abs((a[i] as number) - (b[i] as number)));
  return largest;
}
