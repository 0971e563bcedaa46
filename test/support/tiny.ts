/** A tiny model, stock and packed, and what tests of the transformers.js integration ask of both. */
import { AutoModelForImageTextToText, AutoProcessor, type PreTrainedModel, type Processor, Tensor } from '@huggingface/transformers';
import { expect } from 'vitest';
import {
  type CacheOptions,
  type LoadOptions,
  type Message,
  type PackedCache,
  type PackedModel,
  type PackedOptions,
  type Prompt,
  packed,
  prompt,
} from '../../src/index.ts';
import { saySize } from '../../src/options/preset.ts';
import { HEAD_DIM, int64, picture, removeFolder, type TinyModelOptions, temporaryFolder, writeTinyModel } from './models.ts';

/**
 * Logits are of order five; fp32 sums over a few hundred products in another order differ by some 1e-6 of that. Stock and packed agree to 5e-6
 * here, and a wrong position, mask or row is off by 1e-1 and more.
 */
export const TOLERANCE = 2e-5;

/** A packed model with stock's types, so that tests read as a user's code does. */
export type Packed = PreTrainedModel & PackedModel;

/** One thread: a model this small gains nothing from more, and spinning threads starve the other tests. */
const SESSION = { session_options: { intraOpNumThreads: 1, interOpNumThreads: 1 } };

/** generate and forward as tests use them; transformers.js types its inputs more narrowly than it takes them. */
export interface Inputs {
  readonly [name: string]: unknown;
}

export interface Tiny extends AsyncDisposable {
  readonly folder: string;
  readonly processor: Processor;
  readonly stock: PreTrainedModel;
  /** W of the model: no rank is higher, and none that reaches the tokens of an image loses anything. */
  readonly width: number;
  load(options?: PackedOptions & LoadOptions): Promise<Packed>;
}

export async function openTiny(options: TinyModelOptions = {}): Promise<Tiny> {
  return openWritten((root) => writeTinyModel(root, options), (options.numKvHeads ?? 4) * HEAD_DIM);
}

/** @param write writes a model into a temporary folder and resolves to the model's own */
export async function openWritten(write: (root: string) => Promise<string>, width: number): Promise<Tiny> {
  const root = temporaryFolder();
  const folder = await write(root);
  const stock = await AutoModelForImageTextToText.from_pretrained(folder, { dtype: 'fp32', ...SESSION } as never);
  const processor = await AutoProcessor.from_pretrained(folder);
  const loaded: PreTrainedModel[] = [stock];
  return {
    folder,
    processor,
    stock,
    width,
    async load(packing = {}) {
      // Tests say how much is kept, cache by cache; by default the allocator would.
      const rank = saySize(packing) ? {} : { rank: Math.min(64, width) };
      const model = await packed(AutoModelForImageTextToText, folder, { dtype: 'fp32', ...SESSION, ...rank, ...packing });
      loaded.push(model);
      return model;
    },
    async [Symbol.asyncDispose]() {
      for (const model of loaded) await model.dispose();
      removeFolder(root);
    },
  };
}

/** A user's message with `numImages` pictures. */
export function ask(text: string, numImages = 0): Message {
  return { role: 'user', content: [...Array.from({ length: numImages }, () => ({ type: 'image' }) as const), { type: 'text', text }] };
}

/** Inputs of a conversation whose images are the pictures of these seeds. */
export function conversation(tiny: Tiny, messages: readonly Message[], seeds: readonly number[] = []): Promise<Prompt> {
  return prompt(
    tiny.processor,
    messages,
    seeds.map((seed) => picture(seed)),
  );
}

/** Greedy token ids behind the prompt, one row per sequence. */
export async function greedy(model: PreTrainedModel, inputs: Inputs, max_new_tokens = 12): Promise<number[][]> {
  return newTokens(await generate(model, { ...inputs, max_new_tokens, do_sample: false }), inputs);
}

export async function generate(model: PreTrainedModel, inputs: Inputs): Promise<Tensor> {
  return (await model.generate(inputs as never)) as Tensor;
}

export function newTokens(sequences: Tensor, inputs: Inputs): number[][] {
  const length = (inputs.input_ids as Tensor).dims[1];
  return (sequences.tolist() as bigint[][]).map((row) => row.slice(length).map(Number));
}

export async function logitsOf(model: PreTrainedModel, inputs: Inputs): Promise<Tensor> {
  return ((await model(inputs)) as { logits: Tensor }).logits;
}

/** Fails with the largest difference and where it is. */
export function expectClose(actual: ArrayLike<number>, wanted: ArrayLike<number>, tolerance = TOLERANCE): void {
  expect(actual.length).toBe(wanted.length);
  let [worst, at] = [0, -1];
  for (let i = 0; i < wanted.length; i++) {
    const difference = Math.abs((actual[i] as number) - (wanted[i] as number));
    if (!(difference <= worst)) [worst, at] = [difference, i];
  }
  expect(worst, `largest difference ${worst} at ${at} of ${wanted.length}`).toBeLessThanOrEqual(tolerance);
}

export function largestDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let worst = 0;
  for (let i = 0; i < b.length; i++) worst = Math.max(worst, Math.abs((a[i] as number) - (b[i] as number)));
  return worst;
}

export function floats(tensor: Tensor): Float32Array {
  return tensor.data as Float32Array;
}

/** Prompts of different lengths as one batch, padded on the left; pictures sequence by sequence. */
export function leftPadded(prompts: readonly Prompt[]): { input_ids: Tensor; attention_mask: Tensor; pixel_values?: Tensor } {
  const rows = prompts.map(({ input_ids }) => [...(input_ids.data as BigInt64Array)]);
  const longest = Math.max(...rows.map((row) => row.length));
  const fill = (row: readonly bigint[]): bigint[] => new Array<bigint>(longest - row.length).fill(0n);
  const pixels = prompts.flatMap(({ pixel_values }) => (pixel_values ? [pixel_values] : []));
  const first = pixels[0];
  return {
    input_ids: int64(rows.map((row) => [...fill(row), ...row])),
    attention_mask: int64(rows.map((row) => [...fill(row), ...row.map(() => 1n)])),
    ...(first && {
      pixel_values: new Tensor('float32', Float32Array.from(pixels.flatMap((tensor) => [...floats(tensor)])), [
        pixels.reduce((sum, tensor) => sum + (tensor.dims[0] ?? 0), 0),
        ...first.dims.slice(1),
      ]),
    }),
  };
}

export type { CacheOptions, PackedCache };
