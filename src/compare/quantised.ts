/** Contexts in ONNX Runtime's own quantised cache, with the best scales it can have: those of the very rows it will hold. */
import { type PreTrainedModel, Tensor } from '@huggingface/transformers';
import { assert, RefusedGraphError } from '../errors.ts';
import { type LoadOptions, loadChanged, type ModelClass } from '../hook.ts';
import { type QuantisedCacheOptions, quantiseCache, scaleName } from '../passes/quantised-cache.ts';
import type { AskedContext } from './context.ts';
import { type CacheEntries, holdStock, type StockContext } from './stock.ts';

/** Loads a model whose decoder keeps its cache quantised. Begin its caches with {@link beginQuantised}. */
export async function loadQuantised<M extends PreTrainedModel>(
  modelClass: ModelClass<M>,
  idOrPath: string,
  load: LoadOptions,
  options: QuantisedCacheOptions,
): Promise<M> {
  const { model } = await loadChanged(modelClass, idOrPath, load, (source) => {
    const refused = quantiseCache(source.model, options);
    if (refused.length) throw new RefusedGraphError(source.path, refused);
    return { model: source.model, facts: undefined };
  });
  return model;
}

/** Largest magnitudes of the columns of each layer's keys and values, by the names of the cache's entries: [Hkv·D]. */
export type Magnitudes = Map<string, Float32Array>;

/** Widens magnitudes by rows of a dense cache, from slot `from` on. Entries: float [1, Hkv, S, D]. */
export function widen(magnitudes: Magnitudes, dense: CacheEntries, from = 0): void {
  for (const [name, tensor] of Object.entries(dense)) {
    const [, heads = 0, slots = 0, headDim = 0] = tensor.dims;
    const data = tensor.to('float32').data as Float32Array;
    const largest = magnitudes.get(name) ?? new Float32Array(heads * headDim);
    magnitudes.set(name, largest);
    for (let h = 0; h < heads; h++) {
      for (let at = (h * slots + from) * headDim; at < (h + 1) * slots * headDim; at += headDim) {
        for (let d = 0; d < headDim; d++) {
          const size = Math.abs(data[at + d] as number);
          if (size > (largest[h * headDim + d] as number)) largest[h * headDim + d] = size;
        }
      }
    }
  }
}

/** An empty quantised cache with its scales, as tensors by name. */
export function beginQuantised(magnitudes: Magnitudes, dense: CacheEntries, { bits, scales }: QuantisedCacheOptions): CacheEntries {
  const most = 2 ** (bits - 1) - 1;
  const begun: Record<string, Tensor> = {};
  for (const [name, tensor] of Object.entries(dense)) {
    const [, layer, side] = /^past_key_values\.(\d+)\.(key|value)$/.exec(name) ?? [];
    const columns = magnitudes.get(name);
    assert(layer && (side === 'key' || side === 'value') && columns, `'${name}' is no cache of a layer with known magnitudes`);
    const [batch = 1, heads = 0, , headDim = 0] = tensor.dims;
    const largest = columns.reduce((max, size) => Math.max(max, size), 0) || 1;
    // A column that was never anything but 0 gets the layer's scale: what comes later is not cut to 0.
    const channel = columns.map((size) => (size || largest) / most);
    begun[scaleName(Number(layer), side)] =
      scales === 'channel'
        ? new Tensor('float32', channel, [1, heads, 1, headDim])
        : new Tensor('float32', Float32Array.of(largest / most), [1]);
    begun[name] =
      bits === 8
        ? new Tensor('int8', new Int8Array(0), [batch, heads, 0, headDim])
        : new Tensor('uint8', new Uint8Array(0), [batch, heads, 0, headDim / 2]);
  }
  return begun;
}

/** @param dense the same context held dense, and the magnitudes of its rows and of those of every question and answer */
export function holdQuantised(
  model: PreTrainedModel,
  context: AskedContext,
  dense: StockContext,
  magnitudes: Magnitudes,
  options: QuantisedCacheOptions,
): Promise<StockContext> {
  return holdStock(model, context, {
    begin: beginQuantised(magnitudes, dense.entries, options),
    denseTokenBytes: dense.denseTokenBytes,
  });
}
