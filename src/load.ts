/** Loads a model for packing: transformers.js does it as always, and its decoder session is made from the rewritten graph. */
import { existsSync } from 'node:fs';
import path from 'node:path';
import type { PreTrainedModel } from '@huggingface/transformers';
import type { PackedGraph } from './cache/feeds.ts';
import { PackedSession } from './decode.ts';
import { createEncoder, type Encoder } from './encode/factor.ts';
import { AttentionPackError, RefusedGraphError } from './errors.ts';
import { attachPacked } from './model.ts';
import { encodeModel, readModel } from './onnx/index.ts';
import { checkGraphOptions, type PackedOptions, resolveCacheOptions } from './options.ts';
import { InferenceSession, type SessionOptions } from './ort.ts';
import { type RewriteReport, rewrite } from './rewrite.ts';
import type { PackedModel } from './state.ts';

/** What `from_pretrained` of transformers.js takes, as far as packing looks at it. */
export interface LoadOptions {
  readonly dtype?: unknown;
  readonly device?: unknown;
  readonly session_options?: Record<PropertyKey, unknown>;
  readonly [option: string]: unknown;
}

/** A model class of transformers.js, `AutoModelForImageTextToText` for one. */
export interface ModelClass<M extends PreTrainedModel = PreTrainedModel> {
  from_pretrained(idOrPath: string, options?: Record<string, unknown>): Promise<M>;
}

const CACHE_OPTIONS = ['rank', 'compactAt', 'basisPer', 'sink', 'recent', 'chunk', 'seed'] as const;
const GRAPH_OPTIONS = ['rotary', 'codes', 'basis', 'window'] as const;

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
  const cacheOptions = pickOptions(options, CACHE_OPTIONS);
  const graphOptions = checkGraphOptions(pickOptions(options, GRAPH_OPTIONS));
  const request: RewriteRequest = { options: graphOptions, sessions: [], isAbandoned: false };
  hookSessions();
  const loaded = await modelClass
    .from_pretrained(folderOrId(idOrPath), {
      ...dropOptions(options, [...CACHE_OPTIONS, ...GRAPH_OPTIONS]),
      session_options: { ...options.session_options, [REQUEST]: request },
    })
    .catch(async (cause: unknown) => {
      await abandon(request);
      throw cause;
    });
  const { result } = request;
  if (!result) {
    await loaded.dispose();
    throw new AttentionPackError(`${idOrPath} has no decoder with past_key_values that could be packed`);
  }
  const sessions = loaded.sessions as Record<string, unknown>;
  const name = Object.keys(sessions).find((key) => sessions[key] === result.session);
  if (!name) throw new AttentionPackError(`${modelClass.constructor.name} of ${idOrPath} does not use the decoder it loaded`);
  try {
    const defaults = resolveCacheOptions(cacheOptions, result.graph.shape);
    sessions[name] = new PackedSession(result.session);
    const { graph, report } = result;
    return attachPacked(loaded, { graph, report, defaults, contextLength: contextLength(loaded), encoder: lazyEncoder() });
  } catch (cause) {
    await loaded.dispose();
    throw cause;
  }
}

/** A folder as a full path: transformers.js takes 'models/mine' for an id even where such a folder exists. */
export function folderOrId(model: string): string {
  return existsSync(model) ? path.resolve(model) : model;
}

/** Travels with the session options through transformers.js to {@link createPacked}. */
const REQUEST: unique symbol = Symbol('attentionpack');

interface RewriteRequest {
  readonly options: PackedOptions;
  /** All that were made for this model: transformers.js drops those beside one that fails. */
  readonly sessions: InferenceSession[];
  isAbandoned: boolean;
  result?: { readonly graph: PackedGraph; readonly report: RewriteReport; readonly session: InferenceSession };
}

type Create = (model: string | Uint8Array, options?: SessionOptions) => Promise<InferenceSession>;

let hooked = false;

/**
 * transformers.js resolves ids, dtypes and downloads itself and offers no hook before it makes a session, so we stand in front of
 * `InferenceSession.create`. Only sessions whose options carry our request are touched.
 */
function hookSessions(): void {
  if (hooked) return;
  hooked = true;
  const original = InferenceSession.create.bind(InferenceSession) as Create;
  const create: Create = async (model, options) => {
    const request = (options as { [REQUEST]?: RewriteRequest } | undefined)?.[REQUEST];
    if (!request) return original(model, options);
    const isOurs = typeof model === 'string' && isDecoder(model);
    const session = await (isOurs ? createPacked(original, model, options ?? {}, request) : original(model, options));
    request.sessions.push(session);
    if (request.isAbandoned) await abandon(request);
    return session;
  };
  Object.assign(InferenceSession, { create });
}

/** Frees the sessions of a model that could not be loaded whole, those still on their way as they arrive. */
async function abandon(request: RewriteRequest): Promise<void> {
  request.isAbandoned = true;
  for (const session of request.sessions.splice(0)) await session.release();
}

/** File names under which transformers.js keeps decoders with a cache. */
function isDecoder(file: string): boolean {
  return /^(decoder_model_merged|model)(_\w+)?\.onnx$/.test(path.basename(file));
}

async function createPacked(create: Create, file: string, options: SessionOptions, request: RewriteRequest): Promise<InferenceSession> {
  const source = readModel(file);
  if (!source.model.graph?.input?.some((input) => input.name?.startsWith('past_key_values'))) return create(file, options);
  const provider = providerOf(options);
  const { model, shape, report } = rewrite(source, { ...request.options, provider });
  if (report.refused.length) throw new RefusedGraphError(file, report.refused);
  const session = await create(encodeModel(model.model), {
    ...options,
    // Window and codes change shape from step to step; patterns of past shapes would only pile up memory.
    enableMemPattern: false,
    extra: {
      ...options.extra,
      session: { ...(options.extra?.session as object), model_external_initializers_file_folder_path: path.dirname(path.resolve(file)) },
    },
  });
  const graph: PackedGraph = {
    shape,
    rotary: report.rotary,
    codes: request.options.codes ?? 'float32',
    basis: request.options.basis ?? 'float32',
    emptyTensors: provider !== 'webgpu',
  };
  request.result = { graph, report, session };
  return session;
}

function providerOf(options: SessionOptions): 'cpu' | 'webgpu' | 'wasm' {
  const names = (options.executionProviders ?? []).map((provider) => (typeof provider === 'string' ? provider : provider.name));
  return names.includes('webgpu') ? 'webgpu' : names.includes('wasm') ? 'wasm' : 'cpu';
}

/** Tokens the model was made for, from its config. */
function contextLength(model: PreTrainedModel): number | undefined {
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
