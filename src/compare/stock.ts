/** Contexts in the cache of transformers.js itself: dense, or quantised by ONNX Runtime. Stock caches replace tensors, they do not write into them. */
import { DynamicCache, type PreTrainedModel, Tensor } from '@huggingface/transformers';
import { conversationPositions } from '../positions.ts';
import type { AskedContext, AskedQuestion } from './context.ts';
import { generateBehind, type HeldBytes, type HeldContext, LAST_LOGITS, readForced } from './held.ts';

/** Tensors of a cache by name, as DynamicCache takes them. */
export type CacheEntries = Readonly<Record<string, Tensor>>;

export interface StockContext extends HeldContext {
  /** `past_key_values.*` of the context. */
  readonly entries: CacheEntries;
  /** `past_key_values.*` after the last `force`: context, question and answer. */
  readonly lastEntries: CacheEntries;
  /** Bytes of one token in a dense float16 cache. */
  readonly denseTokenBytes: number;
}

export interface StockOptions {
  /** What the cache holds before the first token; for caches that are not float. Default: nothing, transformers.js begins it. */
  readonly begin?: CacheEntries;
  /** Default: counted from the entries, which are floats. */
  readonly denseTokenBytes?: number;
}

export async function holdStock(
  model: PreTrainedModel,
  context: AskedContext,
  { begin, denseTokenBytes }: StockOptions = {},
): Promise<StockContext> {
  const constant = Object.fromEntries(Object.entries(begin ?? {}).filter(([name]) => !name.startsWith('past_key_values')));
  const outputs = (await model({
    ...context.inputs,
    num_logits_to_keep: LAST_LOGITS,
    ...(begin && { past_key_values: new DynamicCache({ ...begin }) }),
  })) as Record<string, Tensor>;
  const entries = entriesOf(outputs);
  let lastEntries = entries;
  const perToken = denseTokenBytes ?? fp16TokenBytes(entries);
  const fresh = (): object => new DynamicCache({ ...constant, ...entries });
  return {
    context,
    entries,
    get lastEntries() {
      return lastEntries;
    },
    denseTokenBytes: perToken,
    async force(question, answer) {
      const { outputs, logits } = await readForced(model, context, question, answer, fresh(), positions(model, context, question, answer));
      lastEntries = entriesOf(outputs);
      return { logits, bytes: stockBytes(context, lastEntries, constant, perToken) };
    },
    answer: ({ inputs }, maxNewTokens, timer) => generateBehind(behindCache(model), inputs, fresh(), maxNewTokens, timer),
    async [Symbol.asyncDispose]() {
      // Tensors on the CPU are the garbage collector's.
    },
  };
}

/** position_ids of question and answer in models that must be told them: those of the whole conversation, the context's left out. */
function positions(
  model: PreTrainedModel,
  { numTokens }: AskedContext,
  { inputs }: AskedQuestion,
  answer: readonly bigint[],
): Record<string, Tensor> {
  const ids = BigInt64Array.from([...(inputs.input_ids.data as BigInt64Array), ...answer.slice(0, -1)]);
  const input_ids = new Tensor('int64', ids, [1, ids.length]);
  const all = conversationPositions(model, { input_ids, image_grid_thw: inputs.image_grid_thw });
  return all ? { position_ids: all.slice(null, null, [numTokens, ids.length]) as Tensor } : {};
}

/**
 * The same model, whose `generate` goes on behind a cache that holds pictures. Stock code of M-RoPE models sets `pixel_values` to null there and then
 * tries to encode it.
 */
function behindCache(model: PreTrainedModel): PreTrainedModel {
  const forward = ({ pixel_values, ...inputs }: Record<string, unknown>): Promise<unknown> =>
    (model.forward as (inputs: unknown) => Promise<unknown>)(pixel_values ? { ...inputs, pixel_values } : inputs);
  return Object.create(model, { forward: { value: forward } }) as PreTrainedModel;
}

/** The cache a decoder's outputs make: each `present*` by the name it goes in with. */
export function entriesOf(outputs: Readonly<Record<string, Tensor>>): CacheEntries {
  return Object.fromEntries(
    Object.entries(outputs).flatMap(([name, tensor]) =>
      name.startsWith('present') ? [[name.replace('present', 'past_key_values'), tensor]] : [],
    ),
  );
}

function fp16TokenBytes(entries: CacheEntries): number {
  return Object.values(entries).reduce((sum, { dims: [, heads = 0, , headDim = 0] }) => sum + 2 * heads * headDim, 0);
}

function stockBytes(context: AskedContext, entries: CacheEntries, constant: CacheEntries, perToken: number): HeldBytes {
  const rows = byteLength(entries);
  const fixed = byteLength(constant);
  const tokens = Object.values(entries)[0]?.dims.at(-2) ?? 0;
  const visualTokens = context.numVisualTokens;
  return {
    tokens,
    held: rows + fixed,
    denseFp16: perToken * tokens,
    visualTokens,
    visualHeld: tokens ? (rows * visualTokens) / tokens + fixed : 0,
    visualDenseFp16: perToken * visualTokens,
  };
}

function byteLength(entries: CacheEntries): number {
  return Object.values(entries).reduce((sum, tensor) => sum + (tensor.data as Float32Array).byteLength, 0);
}
