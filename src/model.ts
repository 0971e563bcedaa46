/** Makes a transformers.js model use packed caches: whose cache a call uses, and what its tokens are. */
import { PreTrainedModel, Tensor } from '@huggingface/transformers';
import { PackedCache } from './cache.ts';
import { lastColumns, withStore } from './decode.ts';
import { AttentionPackError } from './errors.ts';
import { type NewImages, newImages } from './images.ts';
import { positionAxes, tokenPositions } from './positions.ts';
import { type PackedModel, type PackedState, STATE } from './state.ts';
import type { CacheStore } from './store.ts';

/** The inputs of a forward pass that packing looks at. */
export interface ModelInputs {
  input_ids?: Tensor;
  inputs_embeds?: Tensor;
  attention_mask?: Tensor;
  pixel_values?: Tensor;
  image_grid_thw?: Tensor;
  position_ids?: Tensor;
  past_key_values?: unknown;
  [GENERATING]?: boolean;
  [name: string]: unknown;
}

/** Set on inputs that `generate` prepared: it reads no logits but the last token's. */
const GENERATING: unique symbol = Symbol('attentionpack.generating');

/** The part of a GenerationConfig that says when to stop. */
interface Lengths {
  readonly max_new_tokens?: number | null;
}

/** The methods of PreTrainedModel that are stood in front of. */
interface Hooked {
  generate(options: { past_key_values?: unknown }): Promise<unknown>;
  forward(inputs: ModelInputs): Promise<Record<string, Tensor>>;
  prepare_inputs_for_generation(ids: bigint[][], inputs: ModelInputs, config: Lengths): ModelInputs;
  dispose(): Promise<unknown>;
}

/** Turns a loaded model, whose decoder session is a PackedSession, into a PackedModel. */
export function attachPacked<M extends PreTrainedModel>(model: M, state: PackedState): M & PackedModel {
  const hooked = model as unknown as Hooked;
  const hasAxes = positionAxes(model) === 3;
  const stock: Hooked = {
    generate: hooked.generate.bind(model),
    forward: hooked.forward.bind(model),
    // That of M-RoPE models drops the pictures as soon as there is a cache, be it empty, and counts positions, which the cache does here.
    prepare_inputs_for_generation: (hasAxes ? PreTrainedModel.prototype : hooked).prepare_inputs_for_generation.bind(model),
    dispose: hooked.dispose.bind(model),
  };
  let disposed: Promise<unknown> | undefined;
  const result = Object.assign(model, {
    [STATE]: state,
    generate: (options: { past_key_values?: unknown } = {}) => generate(result, stock, options),
    forward: (inputs: ModelInputs) => {
      if (disposed) throw new AttentionPackError('this model was disposed; load it again with packed()');
      return forward(result, stock, inputs, hasAxes);
    },
    prepare_inputs_for_generation: (ids: bigint[][], inputs: ModelInputs, config: Lengths) => prepare(result, stock, ids, inputs, config),
    dispose: () => (disposed ??= state.encoder.dispose().then(() => stock.dispose())),
    [Symbol.asyncDispose]: async () => {
      await result.dispose();
    },
  }) as M & PackedModel;
  return result;
}

/** Brings a cache where the caller has none, and frees it unless the caller gets it with the result. */
async function generate(model: PackedModel, stock: Hooked, options: { past_key_values?: unknown }): Promise<unknown> {
  if (ownCache(model, options.past_key_values)) return stock.generate(options);
  const cache = new PackedCache(model);
  let isHandedOver = false;
  try {
    const result = await stock.generate({ ...options, past_key_values: cache });
    isHandedOver = !(result instanceof Tensor);
    return result;
  } finally {
    if (!isHandedOver) await cache.dispose();
  }
}

/** Runs before each forward pass of `generate`: cuts off the tokens the cache has seen. */
function prepare(model: PackedModel, stock: Hooked, ids: bigint[][], inputs: ModelInputs, config: Lengths): ModelInputs {
  const cache = ownCache(model, inputs.past_key_values);
  const isFirst = !inputs[GENERATING];
  if (isFirst) checkLength(model, ids[0]?.length ?? 0, 0, config);
  if (!cache) return { ...stock.prepare_inputs_for_generation(ids, inputs, config), [GENERATING]: true };
  if (isFirst) checkPrefix(cache, ids);
  else checkUntouched(cache, ids);
  // Without a mask, stock code takes the whole conversation for new tokens behind the cache.
  const length = inputs.input_ids?.dims[1] ?? 0;
  const mask = inputs.attention_mask ?? ones(ids.length, length);
  return { ...stock.prepare_inputs_for_generation(ids, { ...inputs, attention_mask: mask }, config), [GENERATING]: true };
}

async function forward(
  model: PreTrainedModel & PackedModel,
  stock: Hooked,
  inputs: ModelInputs,
  hasAxes: boolean,
): Promise<Record<string, Tensor>> {
  const given = ownCache(model, inputs.past_key_values);
  const cache = given ?? new PackedCache(model);
  try {
    const prepared: ModelInputs = { ...inputs, past_key_values: cache };
    return await withStore(
      cache.handle,
      (store) => {
        const [batch = 0, numTokens = 0] = (inputs.input_ids ?? inputs.inputs_embeds)?.dims ?? [];
        store.checkBatch(batch);
        checkLength(model, store.numSlots, numTokens);
        const mask = lastColumns(inputs.attention_mask, batch, numTokens);
        // What was seen before has the mask it was seen with, and positions are counted from the whole mask.
        const whole = store.mask(mask);
        prepared.attention_mask = new Tensor('int64', whole.data as BigInt64Array, whole.dims as number[]);
        const images = inputs.input_ids && newImages(model, store, inputs.input_ids, inputs);
        if (hasAxes) prepared.position_ids = newPositions(store, mask, images, inputs.position_ids);
        if (!images) return undefined;
        const { ids, spans, pixels, grids } = images;
        if (pixels) prepared.pixel_values = pixels;
        else delete prepared.pixel_values;
        if (grids) prepared.image_grid_thw = grids;
        else delete prepared.image_grid_thw;
        return { ids, spans, lastLogitsOnly: Boolean(inputs[GENERATING]) };
      },
      () => stock.forward(prepared),
    );
  } finally {
    if (!given) await cache.dispose();
  }
}

/**
 * Positions on three axes of the new tokens, behind those in the cache.
 *
 * @throws {AttentionPackError} if the caller gives other ones, by which the cache could not go on
 */
function newPositions(
  store: CacheStore,
  mask: readonly (readonly number[])[],
  images: NewImages | undefined,
  given: Tensor | undefined,
): Tensor {
  const counted = tokenPositions(mask.map((row, b) => ({ start: store.nextPosition(b), mask: row, spans: images?.spans[b] ?? [] })));
  const [own, other] = [counted.data as BigInt64Array, given?.data as BigInt64Array | undefined];
  if (other && (other.length !== own.length || own.some((position, i) => position !== other[i]))) {
    throw new AttentionPackError(
      `position_ids [${given?.dims}] are not those of these ${mask[0]?.length ?? 0} new tokens behind ${store.numSlots} in the cache; leave them out, they are counted`,
    );
  }
  return counted;
}

/**
 * The PackedCache among the inputs, if there is one.
 *
 * @throws {AttentionPackError} if it is another model's, or a cache that is not packed
 */
function ownCache(model: PackedModel, given: unknown): PackedCache | undefined {
  if (given === undefined || given === null) return undefined;
  if (!(given instanceof PackedCache)) {
    throw new AttentionPackError(
      'past_key_values of a packed model must be a PackedCache, or be left out; a DynamicCache cannot be read by it',
    );
  }
  if (!given.isOf(model))
    throw new AttentionPackError(
      'this PackedCache was made for another model; make one with new PackedCache(model) of the model that runs',
    );
  return given;
}

/** @throws {AttentionPackError} before any work, if the tokens will not fit into the model's context */
function checkLength(model: PackedModel, seen: number, added: number, { max_new_tokens }: Lengths = {}): void {
  const { contextLength } = model[STATE];
  if (contextLength === undefined) return;
  const total = seen + added;
  const advice = `exceed the model's context of ${contextLength}`;
  if (total > contextLength) {
    const parts = added ? ` (${seen} in the cache, ${added} new)` : '';
    throw new AttentionPackError(`${total} tokens${parts} ${advice}; use fewer or smaller images, or a shorter prompt`);
  }
  if (max_new_tokens !== undefined && max_new_tokens !== null && total + max_new_tokens > contextLength) {
    throw new AttentionPackError(
      `${total} tokens of prompt and max_new_tokens ${max_new_tokens} make ${total + max_new_tokens}, which ${advice}; ask for at most ${contextLength - total} new tokens`,
    );
  }
}

/**
 * Holds a conversation's tokens against what the cache has seen.
 *
 * @throws {AttentionPackError} at the first token that differs; going on would answer about another conversation.
 */
function checkPrefix(cache: PackedCache, ids: bigint[][]): void {
  const seen = cache.get_seq_length();
  ids.forEach((row, b) => {
    const known = cache.ids(b);
    if (seen > 0 && row.length <= seen) {
      throw new AttentionPackError(
        `the cache holds ${seen} tokens, the input ${row.length}; pass the whole conversation's input_ids, old turns included`,
      );
    }
    const differs = known.findIndex((id, i) => id >= 0 && BigInt(id) !== row[i]);
    if (differs >= 0) {
      throw new AttentionPackError(
        `the cache holds another conversation: token ${differs} is ${known[differs]} in the cache and ${row[differs]} in the input`,
      );
    }
  });
}

/** @throws {AttentionPackError} if another call changed the cache between two steps of `generate` */
function checkUntouched(cache: PackedCache, ids: bigint[][]): void {
  const [seen, wanted] = [cache.get_seq_length(), (ids[0]?.length ?? 0) - 1];
  if (seen !== wanted) {
    throw new AttentionPackError(
      `this PackedCache was changed by another call: it holds ${seen} tokens, ${wanted} were generated so far; use one cache for each`,
    );
  }
}

function ones(batch: number, length: number): Tensor {
  return new Tensor('int64', new BigInt64Array(batch * length).fill(1n), [batch, length]);
}
