/** Loads a model of transformers.js whose decoder graph is changed in memory before ONNX Runtime makes a session of it. */
import { existsSync } from 'node:fs';
import path from 'node:path';
import type { PreTrainedModel } from '@huggingface/transformers';
import { AttentionPackError, firstLine } from './errors.ts';
import { encodeModel, type Model, type ModelFile, readModel } from './onnx/index.ts';
import { InferenceSession, type SessionOptions } from './ort.ts';
import type { Provider } from './rewrite.ts';
import { rememberStreams, stopReading } from './unread.ts';

/** What `from_pretrained` of transformers.js takes, as far as we look at it. */
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

/** Makes the graph to run of the one that was read, and says what is worth knowing of it. What it throws, loading throws. */
export type ChangeDecoder<T> = (source: ModelFile, provider: Provider) => { readonly model: Model; readonly facts: T };

export interface ChangedModel<M extends PreTrainedModel, T> {
  readonly model: M;
  /** What the change said. */
  readonly facts: T;
  /** Under which name `model.sessions` has the decoder. */
  readonly decoder: string;
  readonly session: InferenceSession;
}

/**
 * Loads a model as `from_pretrained` does, its decoder changed. Weights are read once, by ONNX Runtime, from where they lie.
 *
 * @throws {AttentionPackError} for a model without a decoder cache
 */
export async function loadChanged<M extends PreTrainedModel, T>(
  modelClass: ModelClass<M>,
  idOrPath: string,
  options: LoadOptions,
  change: ChangeDecoder<T>,
): Promise<ChangedModel<M, T>> {
  const request: Request<T> = { change, sessions: [], isAbandoned: false };
  hookSessions();
  const ours = { ...options, session_options: { ...options.session_options, [REQUEST]: request } };
  const model = await rememberStreams(() => modelClass.from_pretrained(folderOrId(idOrPath), ours)).catch(async (cause: unknown) => {
    await abandon(request);
    throw cause;
  });
  const { result } = request;
  if (!result) {
    await model.dispose();
    throw new AttentionPackError(`${idOrPath} has no decoder with past_key_values that could be packed`);
  }
  const sessions = model.sessions as Record<string, unknown>;
  const decoder = Object.keys(sessions).find((key) => sessions[key] === result.session);
  if (!decoder) {
    await model.dispose();
    throw new AttentionPackError(`${modelClass.constructor.name} of ${idOrPath} does not use the decoder it loaded`);
  }
  return { model, decoder, ...result };
}

/** A folder as a full path: transformers.js takes 'models/mine' for an id even where such a folder exists. */
export function folderOrId(model: string): string {
  return existsSync(model) ? path.resolve(model) : model;
}

/**
 * Turns what transformers.js throws for a model it cannot find or load into one line.
 *
 * @throws {AttentionPackError} naming the model and the reason
 */
export async function explained<T>(model: string, load: () => Promise<T>): Promise<T> {
  try {
    return await load();
  } catch (cause) {
    if (cause instanceof AttentionPackError) throw cause;
    throw new AttentionPackError(`model '${model}' could not be loaded: ${firstLine(cause)}`, { cause });
  }
}

/** Travels with the session options through transformers.js to {@link createChanged}. */
const REQUEST: unique symbol = Symbol('attentionpack');

interface Request<T> {
  readonly change: ChangeDecoder<T>;
  /** All that were made for this model: transformers.js drops those beside one that fails. */
  readonly sessions: InferenceSession[];
  isAbandoned: boolean;
  result?: { readonly session: InferenceSession; readonly facts: T };
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
    const request = (options as { [REQUEST]?: Request<unknown> } | undefined)?.[REQUEST];
    if (!request) return original(model, options);
    if (typeof model === 'string') stopReading(model);
    const isOurs = typeof model === 'string' && isDecoder(model);
    const session = await (isOurs ? createChanged(original, model, options ?? {}, request) : original(model, options));
    request.sessions.push(session);
    if (request.isAbandoned) await abandon(request);
    return session;
  };
  Object.assign(InferenceSession, { create });
}

/** Frees the sessions of a model that could not be loaded whole, those still on their way as they arrive. */
async function abandon(request: Request<unknown>): Promise<void> {
  request.isAbandoned = true;
  for (const session of request.sessions.splice(0)) await session.release();
}

/** File names under which transformers.js keeps decoders with a cache. */
function isDecoder(file: string): boolean {
  return /^(decoder_model_merged|model)(_\w+)?\.onnx$/.test(path.basename(file));
}

async function createChanged(create: Create, file: string, options: SessionOptions, request: Request<unknown>): Promise<InferenceSession> {
  const source = readModel(file);
  if (!source.model.graph?.input?.some((input) => input.name?.startsWith('past_key_values'))) return create(file, options);
  const { model, facts } = request.change(source, providerOf(options));
  const session = await create(encodeModel(model), {
    ...options,
    // The cache changes shape from step to step; patterns of past shapes would only pile up memory.
    enableMemPattern: false,
    extra: {
      ...options.extra,
      session: { ...(options.extra?.session as object), model_external_initializers_file_folder_path: path.dirname(path.resolve(file)) },
    },
  });
  request.result = { session, facts };
  return session;
}

function providerOf(options: SessionOptions): Provider {
  const names = (options.executionProviders ?? []).map((provider) => (typeof provider === 'string' ? provider : provider.name));
  return names.includes('webgpu') ? 'webgpu' : names.includes('wasm') ? 'wasm' : 'cpu';
}
