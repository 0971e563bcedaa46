/** Fills a packed cache as a prefill does, with noise in place of a decoder: chunks, appending, packing and the encoder are the real ones. */
import type { PackedCache } from '../src/cache.ts';
import { newRowsName, PRESENT_POSITIONS, rawKeysName } from '../src/contract.ts';
import { CACHE_HANDLE, PackedSession, withStore } from '../src/decode.ts';
import { toFloat16 } from '../src/encode/quantise.ts';
import { type InferenceSession, Tensor } from '../src/ort.ts';
import type { Span } from '../src/prefill.ts';
import { packsRawKeys, type WindowType } from '../src/shape.ts';
import { type PackedModel, STATE } from '../src/state.ts';
import { noise } from './noise.ts';

/** Ids of random models: `image_token_index` of their config, and some word. */
const IMAGE_TOKEN = 3;
const WORD = 5;

/** Runs a prompt of `context` tokens with images at `spans` into the cache; returns its token ids. */
export function prefill(model: PackedModel, cache: PackedCache, spans: readonly Span[], context: number): Promise<number[]> {
  return prefillBy(new PackedSession(noiseDecoder(model)), new Float32Array(context), cache, spans);
}

/** The same by any session; `embeds` [context, hidden] are what it reads. */
export async function prefillBy(
  session: PackedSession,
  embeds: Float32Array,
  cache: PackedCache,
  spans: readonly Span[],
  hidden = 1,
): Promise<number[]> {
  const context = embeds.length / hidden;
  const ids = new Array<number>(context).fill(WORD);
  for (const { start, end } of spans) ids.fill(IMAGE_TOKEN, start, end);
  const inputs = {
    [CACHE_HANDLE]: cache[CACHE_HANDLE] as unknown as Tensor,
    inputs_embeds: new Tensor('float32', embeds, [1, context, hidden]),
    num_logits_to_keep: new Tensor('int64', BigInt64Array.of(1n), []),
    attention_mask: new Tensor('int64', new BigInt64Array(context).fill(1n), [1, context]),
  };
  await withStore(
    cache.handle,
    () => ({ ids: [ids], spans: [spans], lastLogitsOnly: true }),
    () => session.run(inputs),
  );
  return ids;
}

/** Gives the outputs a packed decoder gives, by the contract, as fast as memory allows. */
function noiseDecoder(model: PackedModel): InferenceSession {
  const { graph } = model[STATE];
  let seed = 0;
  const run = async ({ inputs_embeds: embeds }: Record<string, Tensor>): Promise<Record<string, Tensor>> => {
    const numTokens = embeds?.dims[1] ?? 0;
    const outputs: Record<string, Tensor> = { logits: new Tensor('float32', new Float32Array(1), [1, 1, 1]) };
    for (const { index, numKvHeads, headDim } of graph.shape.layers) {
      const rows = (type: WindowType): Tensor => {
        const values = noise(numKvHeads * numTokens * headDim, seed++);
        const data = (type === 'float16' ? toFloat16(values) : values) as Float32Array;
        return new Tensor(type, data, [1, numKvHeads, numTokens, headDim]);
      };
      outputs[newRowsName(index, 'key')] = rows(graph.shape.windowType);
      outputs[newRowsName(index, 'value')] = rows(graph.shape.windowType);
      if (packsRawKeys(graph.rotary)) outputs[rawKeysName(index)] = rows('float32');
    }
    if (packsRawKeys(graph.rotary)) {
      outputs[PRESENT_POSITIONS] = new Tensor(
        'int64',
        BigInt64Array.from({ length: numTokens }, (_, n) => BigInt(n)),
        [1, numTokens],
      );
    }
    return outputs;
  };
  return { inputNames: ['inputs_embeds', 'attention_mask'], outputNames: [], run } as unknown as InferenceSession;
}
