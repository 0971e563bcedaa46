/** Contexts in a packed cache. */
import type { PreTrainedModel } from '@huggingface/transformers';
import { type CacheReport, PackedCache } from '../cache.ts';
import { storeOf } from '../decode.ts';
import type { CacheOptions } from '../options.ts';
import { denseTokenBytes } from '../shape.ts';
import { type PackedModel, STATE } from '../state.ts';
import type { AskedContext } from './context.ts';
import { generateBehind, type HeldBytes, type HeldContext, LAST_LOGITS, readForced } from './held.ts';

export interface PackedContext extends HeldContext {
  /** The cache with the images, and the question and answer of the last `force`. */
  readonly lastReport: CacheReport;
}

export async function holdPacked(
  model: PreTrainedModel & PackedModel,
  context: AskedContext,
  options?: CacheOptions,
): Promise<PackedContext> {
  const cache = new PackedCache(model, options);
  try {
    await model({ ...context.inputs, num_logits_to_keep: LAST_LOGITS, past_key_values: cache });
  } catch (cause) {
    await cache.dispose();
    throw cause;
  }
  // Each question is asked as if it were the first: attention paid by others would decide who is evicted, and who is read by all columns.
  const store = storeOf(cache.handle);
  const attention = store?.attention();
  const forget = (): void => {
    cache.crop(context.numTokens);
    if (attention) store?.recall(attention);
  };
  const perToken = denseTokenBytes(model[STATE].graph.shape);
  let lastReport = cache.report();
  const { tiers, text, evict } = store?.options ?? {};
  return {
    context,
    changes: Boolean(tiers || text || evict),
    get lastReport() {
      return lastReport;
    },
    async force(question, answer) {
      const { logits } = await readForced(model, context, question, answer, cache);
      lastReport = cache.report();
      forget();
      return { logits, bytes: packedBytes(context, lastReport, perToken) };
    },
    async answer({ inputs }, maxNewTokens, timer) {
      const generated = await generateBehind(model, inputs, cache, maxNewTokens, timer);
      forget();
      return generated;
    },
    [Symbol.asyncDispose]: () => cache.dispose(),
  };
}

/** Image tokens that stayed dense (the sink, a recent window) count as the window's rows they are, evicted ones as nothing. */
function packedBytes({ numVisualTokens }: AskedContext, report: CacheReport, perToken: number): HeldBytes {
  const packedFp16 = perToken * report.packedTokens;
  const packed = report.visualCompression ? packedFp16 / report.visualCompression : 0;
  const windowTokens = report.tokens - report.packedTokens - report.packedTextTokens - report.evictedTokens;
  const denseVisual = numVisualTokens - report.packedTokens - report.evictedImageTokens;
  const dense = windowTokens ? (report.bytes.window * denseVisual) / windowTokens : 0;
  return {
    tokens: report.tokens,
    held: report.bytes.total,
    denseFp16: report.denseFp16Bytes,
    visualTokens: numVisualTokens,
    visualHeld: packed + dense + report.bytes.pending,
    visualDenseFp16: perToken * numVisualTokens,
  };
}
