/** Random models for measuring: writes them once to a cache folder and loads their text decoder, stock or packed. */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { env, LlamaForCausalLM, LogLevel, type PreTrainedModel } from '@huggingface/transformers';
import { decoderFile } from '../src/cli/inspect.ts';
import { type Dtype, writeRandomModel } from '../src/convert/index.ts';
import type { ModelClass } from '../src/hook.ts';
import { packed } from '../src/load.ts';
import { dimsOf, eachTensor, numElements, rawBytes, readModel } from '../src/onnx/index.ts';
import type { PackedOptions } from '../src/options.ts';
import { readShape } from '../src/rewrite.ts';
import type { ModelShape } from '../src/shape.ts';
import type { PackedModel } from '../src/state.ts';

export interface RandomFolder {
  readonly shape: string;
  readonly dtype: Dtype;
  /** accuracy_level of its int4 products: 4 multiplies in int8, as llama.cpp does; 0 in float32, as most published models ask for. */
  readonly accuracy: 0 | 4;
  /** Keeps only this many layers; undefined: all. */
  readonly layers?: number | undefined;
}

/** Writes the model's folder unless it is there, and tells where it is. */
export async function modelFolder(
  root: string,
  { shape, dtype, accuracy, layers }: RandomFolder,
  onProgress: (text: string) => void,
): Promise<string> {
  const out = path.join(root, `${shape}${layers === undefined ? '' : `-${layers}l`}-${dtype}${accuracy ? '' : '-exact'}`);
  if (!existsSync(path.join(out, 'config.json'))) {
    await writeRandomModel({
      shape,
      dtype,
      accuracyLevel: accuracy,
      out,
      ...(layers === undefined ? {} : { layers }),
      onProgress: ({ done, total }) => onProgress(`writing ${out}: ${done} of ${total}`),
    });
  }
  return out;
}

export interface DecoderFacts {
  readonly shape: ModelShape;
  /** Bytes of the weights of linear layers: each is read once a step. */
  readonly weightBytes: number;
  /** Multiplications and additions by those weights in one step of one token. */
  readonly weightFlops: number;
  /** Bytes of all weights, rotary tables included. */
  readonly fileBytes: number;
}

/** What the card must know of a decoder, read from its graph. */
export function decoderFacts(folder: string): DecoderFacts {
  const file = readModel(decoderFile(folder));
  const sizes = new Map<string, { bytes: number; elements: number }>();
  eachTensor(file.model, (tensor) => {
    if (tensor.name) sizes.set(tensor.name, { bytes: rawBytes(tensor), elements: dimsOf(tensor).length < 2 ? 0 : numElements(tensor) });
  });
  let weightBytes = 0;
  let weightFlops = 0;
  for (const node of file.model.graph?.node ?? []) {
    if (node.opType !== 'MatMulNBits' && node.opType !== 'MatMul') continue;
    for (const input of node.input?.slice(1) ?? []) weightBytes += sizes.get(input)?.bytes ?? 0;
    const [columns, rows] = ['N', 'K'].map((name) => Number(node.attribute?.find((attribute) => attribute.name === name)?.i ?? 0));
    weightFlops += 2 * (columns && rows ? columns * rows : (sizes.get(node.input?.[1] ?? '')?.elements ?? 0));
  }
  const fileBytes = [...sizes.values()].reduce((sum, { bytes }) => sum + bytes, 0);
  return { shape: readShape(file), weightBytes, weightFlops, fileBytes };
}

interface LoadSettings {
  readonly dtype: string;
  readonly threads: number;
  readonly profile?: string | undefined;
}

/**
 * The text decoder of a LLaVA folder without its vision tower. transformers.js loads it through a causal class as text only, but still looks
 * for the method that merges image features; there are none, so it is never called.
 */
const textClass: ModelClass = {
  async from_pretrained(folder, options) {
    env.logLevel = LogLevel.ERROR;
    const model = await LlamaForCausalLM.from_pretrained(folder, options as never);
    return Object.assign(model, { _merge_input_ids_with_image_features: () => undefined });
  },
};

function sessionOptions({ dtype, threads, profile }: LoadSettings): Record<string, unknown> {
  return {
    dtype,
    session_options: {
      intraOpNumThreads: threads,
      ...(profile === undefined ? {} : { enableProfiling: true, profileFilePrefix: profile }),
    },
  };
}

export async function loadTextModel(folder: string, settings: LoadSettings): Promise<{ model: PreTrainedModel; shape: ModelShape }> {
  const model = await textClass.from_pretrained(folder, sessionOptions(settings));
  return { model, shape: decoderFacts(folder).shape };
}

export async function loadPackedTextModel(
  folder: string,
  settings: LoadSettings & { readonly packing: PackedOptions },
): Promise<PreTrainedModel & PackedModel> {
  return packed(textClass, folder, { ...settings.packing, ...sessionOptions(settings) });
}
