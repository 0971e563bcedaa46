/** Contexts in the cache of transformers.js itself: dense, or quantised by ONNX Runtime. Stock caches replace tensors, they do not write into them. */
import { DynamicCache, type PreTrainedModel, type Tensor } from '@huggingface/transformers';
import type { AskedContext } from './context.ts';
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
      const { outputs, logits } = await readForced(model, context, question, answer, fresh());
      lastEntries = entriesOf(outputs);
      return { logits, bytes: stockBytes(context, lastEntries, constant, perToken) };
    },
    answer: ({ inputs }, maxNewTokens, timer) => generateBehind(model, inputs, fresh(), maxNewTokens, timer),
    async [Symbol.asyncDispose]() {
      // Tensors on the CPU are the garbage collector's.
    },
  };
}

function entriesOf(outputs: Readonly<Record<string, Tensor>>): CacheEntries {
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
