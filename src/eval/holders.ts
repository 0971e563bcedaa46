/** Loads one model for each way to hold a context, all with the same weights, so that a context can be run through every setting in turn. */
import { existsSync } from 'node:fs';
import path from 'node:path';
import {
  AutoModelForImageTextToText,
  AutoProcessor,
  DynamicCache,
  type PreTrainedModel,
  type Processor,
  Tensor,
} from '@huggingface/transformers';
import type { AskedContext } from '../compare/context.ts';
import type { HeldContext } from '../compare/held.ts';
import { holdPacked } from '../compare/packed.ts';
import { beginQuantised, holdQuantised, loadQuantised, type Magnitudes } from '../compare/quantised.ts';
import { entriesOf, holdStock, type StockContext } from '../compare/stock.ts';
import { firstLine, RefusedGraphError } from '../errors.ts';
import { explained, folderOrId, type LoadOptions } from '../hook.ts';
import { packed } from '../load.ts';
import { graphFor } from '../options/graph.ts';
import { presetCache, withDefaultPreset } from '../options/preset.ts';
import { resolveCacheOptions } from '../options.ts';
import { type PackedModel, STATE } from '../state.ts';
import { type CacheSetting, DENSE } from './settings.ts';
import { rememberPictures, shareEncoders } from './sharing.ts';

/** A context in the forms settings ask for. */
export interface ContextForms {
  readonly full: AskedContext;
  /** Of pictures with half the pixels a side; made when first asked for. */
  half(): Promise<AskedContext>;
  /** The context as the dense cache holds it, and the magnitudes of its rows and of those of all questions and answers. */
  readonly dense: StockContext;
  readonly magnitudes: Magnitudes;
}

/** A loaded way to hold contexts. */
export interface Holder {
  readonly setting: CacheSetting;
  hold(forms: ContextForms): Promise<HeldContext>;
}

/** A setting this model, or this version of ONNX Runtime, cannot have. */
export interface RefusedSetting {
  readonly setting: string;
  readonly reason: string;
}

export interface Holders extends AsyncDisposable {
  readonly dense: PreTrainedModel;
  readonly processor: Processor;
  /** In the order of the settings, dense left out. */
  readonly others: readonly Holder[];
  readonly refused: readonly RefusedSetting[];
}

/**
 * Loads everything the settings need. Encoders are loaded once and shared.
 *
 * @param model a folder in transformers.js layout, or a model id
 * @throws {AttentionPackError} if the model cannot be loaded, or a rank is larger than it allows
 */
export async function openHolders(model: string, settings: readonly CacheSetting[], load: LoadOptions): Promise<Holders> {
  const opened: PreTrainedModel[] = [];
  const close = async (): Promise<void> => {
    // Those that share before the one they share with.
    for (const one of opened.splice(0).reverse()) await one.dispose();
  };
  const keep = <M extends PreTrainedModel>(one: M): M => {
    opened.push(one);
    return one;
  };
  try {
    const processor = await explained(model, () => AutoProcessor.from_pretrained(folderOrId(model)));
    const dense = keep(await explained(model, () => loadStock(model, load)));
    rememberPictures(dense);
    const refused: RefusedSetting[] = [];
    const others: Holder[] = [];
    const graphs = new Map<string, PreTrainedModel & PackedModel>();
    for (const setting of settings.filter(({ name }) => name !== DENSE.name)) {
      try {
        others.push(await openHolder(setting));
      } catch (cause) {
        const reason = refusalOf(cause);
        if (reason === undefined) throw cause;
        refused.push({ setting: setting.name, reason });
      }
    }
    return { dense, processor, others, refused, [Symbol.asyncDispose]: close };

    async function openHolder(setting: CacheSetting): Promise<Holder> {
      switch (setting.kind) {
        case 'dense': {
          if (setting.halfResolution) return { setting, hold: async (forms) => holdStock(dense, await forms.half()) };
          checkFloat32(model, dense);
          const exact = keep(await explained(model, () => loadStock(model, { ...load, dtype: 'fp32' })));
          return { setting, hold: ({ full }) => holdStock(exact, full) };
        }
        case 'quantised': {
          const quantised = keep(await explained(model, () => loadQuantised(AutoModelForImageTextToText, model, load, setting)));
          await shareEncoders(dense, quantised);
          await tryQuantised(dense, quantised, setting);
          return { setting, hold: (forms) => holdQuantised(quantised, forms.full, forms.dense, forms.magnitudes, setting) };
        }
        case 'packed': {
          // Each cache says for itself how much it keeps; a model that says nothing would leave it to the allocator, and be rewritten for that.
          const anyRank = { rank: 8 };
          const { rotary, codes, basis, window, ...given } = setting.options;
          const cache = presetCache(withDefaultPreset(given));
          const graph = graphFor(cache, defined({ rotary, codes, basis, window }), load.device);
          const key = JSON.stringify(graph);
          let loaded = graphs.get(key);
          if (!loaded) {
            loaded = keep(await explained(model, () => packed(AutoModelForImageTextToText, model, { ...load, ...anyRank, ...graph })));
            await shareEncoders(dense, loaded);
            graphs.set(key, loaded);
          }
          const ready = loaded;
          resolveCacheOptions(cache, ready[STATE].graph.shape, ready[STATE].defaults);
          return { setting, hold: ({ full }) => holdPacked(ready, full, cache) };
        }
      }
    }
  } catch (cause) {
    await close();
    throw cause;
  }
}

function loadStock(model: string, load: LoadOptions): Promise<PreTrainedModel> {
  return AutoModelForImageTextToText.from_pretrained(folderOrId(model), load as never);
}

/** Thrown where a setting cannot be had; the run goes on without it. */
class Unavailable extends Error {}

function refusalOf(cause: unknown): string | undefined {
  if (cause instanceof Unavailable) return cause.message;
  if (!(cause instanceof RefusedGraphError)) return undefined;
  const [first] = cause.refusals;
  return `${first?.node}: ${first?.reason}`;
}

/** @throws {Unavailable} if there are no float32 weights, or the dense model has them already */
function checkFloat32(model: string, dense: PreTrainedModel): void {
  const own = (dense.sessions as Record<string, { config?: { dtype?: string } } | undefined>).decoder_model_merged?.config?.dtype;
  if (own === 'fp32') throw new Unavailable('the weights are float32 already');
  if (existsSync(model) && !existsSync(path.join(model, 'onnx', 'decoder_model_merged.onnx')))
    throw new Unavailable('the model has no float32 weights');
}

/**
 * Two tokens through a quantised cache: kernels differ between versions and providers, and one that refuses should say so before the run.
 *
 * @throws {Unavailable} with the runtime's own reason
 */
async function tryQuantised(
  dense: PreTrainedModel,
  quantised: PreTrainedModel,
  setting: CacheSetting & { kind: 'quantised' },
): Promise<void> {
  const inputs = {
    input_ids: new Tensor('int64', BigInt64Array.of(1n, 1n), [1, 2]),
    attention_mask: new Tensor('int64', BigInt64Array.of(1n, 1n), [1, 2]),
  };
  const past = entriesOf((await dense(inputs)) as Record<string, Tensor>);
  const ones: Magnitudes = new Map(
    Object.entries(past).map(
      ([
        name,
        {
          dims: [, heads = 0, , headDim = 0],
        },
      ]) => [name, new Float32Array(heads * headDim).fill(1)],
    ),
  );
  try {
    await quantised({ ...inputs, past_key_values: new DynamicCache({ ...beginQuantised(ones, past, setting) }) });
  } catch (cause) {
    throw new Unavailable(`ONNX Runtime does not run it: ${firstLine(cause)}`, { cause });
  }
}

function defined<T extends object>(options: T): Partial<T> {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as Partial<T>;
}
