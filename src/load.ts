/** Loads a model for packing: transformers.js does it as always, and its decoder session is made from the rewritten graph. */
import type { PreTrainedModel } from '@huggingface/transformers';
import type { PackedGraph } from './cache/feeds.ts';
import { PackedSession } from './decode.ts';
import { createEncoder, type Encoder } from './encode/factor.ts';
import { RefusedGraphError } from './errors.ts';
import { type LoadOptions, loadChanged, type ModelClass } from './hook.ts';
import { attachPacked } from './model.ts';
import { checkBits } from './options/bits.ts';
import { graphFor } from './options/graph.ts';
import { presetCache, withDefaultPreset } from './options/preset.ts';
import { checkBases, checkGraphOptions, type PackedOptions, resolveCacheOptions } from './options.ts';
import { momentsFile, readMetrics } from './query-moments.ts';
import { rewrite } from './rewrite.ts';
import type { PackedModel } from './state.ts';
import { checkTiers } from './tiering.ts';

const CACHE_OPTIONS = [
  'compression',
  'counted',
  'budget',
  'preset',
  'spend',
  'rank',
  'bits',
  'spread',
  'compactAt',
  'basisPer',
  'tolerance',
  'bases',
  'sink',
  'recent',
  'chunk',
  'seed',
  'text',
  'evict',
  'tiers',
] as const;
const GRAPH_OPTIONS = ['rotary', 'codes', 'basis', 'window', 'rawKeys', 'mass', 'tiered', 'queryMoments', 'moments'] as const;

/**
 * Loads a model whose decoder attends to a packed cache. Use it like the model `from_pretrained` gives; `generate` packs the images of its
 * prompt, with the options given here, or takes a `PackedCache` as `past_key_values` to keep.
 *
 * Weights are read once, by ONNX Runtime, from where they lie: only the graph is rewritten, in memory.
 *
 * @param modelClass a class of transformers.js, such as `AutoModelForImageTextToText`
 * @param idOrPath model id or local folder, as `from_pretrained` takes it
 * @param options those of `from_pretrained` and {@link PackedOptions}, side by side
 * @throws {RefusedGraphError} if the decoder has attention that cannot be rewritten
 * @throws {AttentionPackError} for wrong options or a model without a decoder cache
 */
export async function packed<M extends PreTrainedModel>(
  modelClass: ModelClass<M>,
  idOrPath: string,
  options: PackedOptions & LoadOptions = {},
): Promise<M & PackedModel> {
  const cacheOptions = presetCache(withDefaultPreset(pickOptions(options, CACHE_OPTIONS)));
  const given = checkGraphOptions(pickOptions(options, GRAPH_OPTIONS));
  const { moments: named, mass = false, tiered = false, ...others } = graphFor(cacheOptions, given, options.device);
  const graphOptions = { ...others, mass, tiered };
  const loadOptions = dropOptions(options, [...CACHE_OPTIONS, ...GRAPH_OPTIONS]);
  const { codes = 'float32', basis = 'float32', queryMoments = false } = graphOptions;
  const moments = momentsFile(idOrPath, named);
  const changed = await loadChanged(modelClass, idOrPath, loadOptions, (source, provider) => {
    const { model, shape, report } = rewrite(source, { ...graphOptions, provider });
    if (report.refused.length) throw new RefusedGraphError(source.path, report.refused);
    const { rotary } = report;
    const metrics = moments === undefined ? undefined : readMetrics(moments, shape, rotary);
    const graph: PackedGraph = { shape, rotary, codes, basis, mass, tiered, queryMoments, metrics, emptyTensors: provider !== 'webgpu' };
    return { model: model.model, facts: { graph, report } };
  });
  const { model: loaded, facts } = changed;
  const { graph, report } = facts;
  try {
    const defaults = resolveCacheOptions(cacheOptions, graph.shape, { bases: graph.metrics ? 'weighted' : 'plain' });
    checkBases(graph, defaults);
    checkBits(graph, defaults);
    checkTiers(graph, defaults);
    (loaded.sessions as Record<string, unknown>)[changed.decoder] = new PackedSession(changed.session);
    return attachPacked(loaded, { graph, report, defaults, contextLength: contextLength(loaded), encoder: lazyEncoder() });
  } catch (cause) {
    await loaded.dispose();
    throw cause;
  }
}

/** Tokens the model was made for, from its config. */
export function contextLength(model: PreTrainedModel): number | undefined {
  const config = model.config as { text_config?: { max_position_embeddings?: number }; max_position_embeddings?: number };
  return config.text_config?.max_position_embeddings ?? config.max_position_embeddings;
}

/** Makes the encoder's sessions when the first image is packed. */
function lazyEncoder(): { get(): Promise<Encoder>; dispose(): Promise<void> } {
  let made: Promise<Encoder> | undefined;
  return {
    get: () => (made ??= createEncoder()),
    dispose: async () => {
      await (await made)?.dispose();
      made = undefined;
    },
  };
}

function pickOptions<K extends keyof PackedOptions>(options: PackedOptions, names: readonly K[]): Pick<PackedOptions, K> {
  return Object.fromEntries(names.flatMap((name) => (options[name] === undefined ? [] : [[name, options[name]]]))) as Pick<
    PackedOptions,
    K
  >;
}

function dropOptions(options: LoadOptions, names: readonly string[]): Record<string, unknown> {
  return Object.fromEntries(Object.entries(options).filter(([name]) => !names.includes(name)));
}
