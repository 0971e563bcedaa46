/** Converts a checkpoint, or writes a random model: reads the shape, then builds vision encoder, embedding and decoder one after another. */
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { AttentionPackError } from '../errors.ts';
import type { BuildOptions } from './builder.ts';
import { Checkpoint, readJson } from './checkpoint.ts';
import { writeDecoder } from './decoder.ts';
import { writeEmbedding } from './embed.ts';
import { type Layout, readLayout } from './layout.ts';
import { refuseOther, withLoadingSettings, writeJson } from './output-config.ts';
import { intoFolder } from './output-folder.ts';
import { type Dtype, precisionOf } from './precision.ts';
import { writeProcessorFiles } from './processor-files.ts';
import { BLOCK_SIZE } from './quantise.ts';
import { RandomWeights } from './random.ts';
import { randomConfig } from './random-shapes.ts';
import type { TextShape } from './text-config.ts';
import type { WeightSource } from './weight-source.ts';
import type { WrittenModel } from './weights-writer.ts';

export interface ConvertProgress {
  /** The weight just written, by its name in the checkpoint. */
  readonly part: string;
  /** Weights written so far, and in all. */
  readonly done: number;
  readonly total: number;
}

interface WriteOptions {
  /** Folder to write; absent, empty, or converted before (then this precision joins it). */
  readonly out: string;
  /** One of *fp32*, *fp16*, *q8*, *q4*, *q4f16*; default *q4*. */
  readonly dtype?: Dtype;
  /**
   * accuracy_level of quantised products; default 0. 0 computes in the activations' type. 4 rounds activations to 8 bits: faster on CPUs, and logits move by
   * some 1e-2.
   */
  readonly accuracyLevel?: 0 | 4;
  /** A model file with more weight bytes than this keeps them in `.onnx_data` files; default 1.5e9. 0: always outside. */
  readonly inlineMaxBytes?: number;
  readonly onProgress?: (progress: ConvertProgress) => void;
  /** Stops between weights; nothing is left behind. */
  readonly signal?: AbortSignal;
}

export interface ConvertOptions extends WriteOptions {
  /** Folder of the checkpoint: config.json, safetensors, tokenizer files. */
  readonly from: string;
}

export interface RandomModelOptions extends WriteOptions {
  /** One of *smol-135m*, *mha-1.7b*, *llava-1.5-7b*. */
  readonly shape: string;
  /** Seed of the weights; default 0. */
  readonly seed?: number;
  /** Keeps only this many decoder layers; default: all. */
  readonly layers?: number;
}

export interface ConvertReport {
  readonly out: string;
  readonly dtype: Dtype;
  readonly models: readonly WrittenModel[];
  /** All files of this precision together. */
  readonly bytes: number;
  /** What was done otherwise than asked; one line each. */
  readonly notes: readonly string[];
}

/**
 * Turns a Hugging Face checkpoint (LLaVA, Qwen2-VL) into a folder that transformers.js loads. Memory stays at one tensor, whatever the
 * model's size.
 *
 * @throws {AttentionPackError} if the checkpoint cannot be converted; nothing is written then.
 */
export async function convertCheckpoint(options: ConvertOptions): Promise<ConvertReport> {
  const { from } = options;
  const configFile = path.join(from, 'config.json');
  const config = readJson(configFile);
  const layout = readLayout(config, configFile);
  const source = new Checkpoint(from);
  try {
    return await writeModels(config, layout, source, options, (folder) => writeProcessorFiles(from, folder, layout));
  } finally {
    source.close();
  }
}

/** Writes a model of a known shape with random weights and no tokenizer, for measuring. */
export async function writeRandomModel(options: RandomModelOptions): Promise<ConvertReport> {
  const config = randomConfig(options.shape, options.layers);
  const layout = readLayout(config);
  const source = new RandomWeights(options.seed ?? 0, layout.text.tied);
  return writeModels(config, layout, source, options, (folder) => {
    writeJson(path.join(folder, 'generation_config.json'), { bos_token_id: 1, eos_token_id: 2, pad_token_id: 0 });
    return [];
  });
}

async function writeModels(
  config: Record<string, unknown>,
  layout: Layout,
  source: WeightSource,
  options: WriteOptions,
  writeOthers: (folder: string) => readonly string[],
): Promise<ConvertReport> {
  const { text } = layout;
  const precision = precisionOf(options.dtype ?? 'q4');
  const tied = isTied(text, source);
  const explicit = layout.explicitConfig(config);
  const total = countLinears(layout);
  return intoFolder(options.out, async (folder, before) => {
    refuseOther(explicit, before, options.out);
    const onnx = path.join(folder, 'onnx');
    mkdirSync(onnx);
    let done = 0;
    const step = async (part: string): Promise<void> => {
      options.onProgress?.({ part, done: ++done, total });
      await new Promise((resume) => setImmediate(resume)); // a turn for signals, spinners and servers
      options.signal?.throwIfAborted();
    };
    const { accuracyLevel, inlineMaxBytes } = options;
    const build: BuildOptions = { source, precision, folder: onnx, accuracyLevel, inlineMaxBytes, step };
    const models = [await layout.writeVisionEncoder(build), await writeEmbedding(text, build), await writeDecoder(text, tied, build)];
    const notes = [...writeOthers(folder)];
    if (precision.bits && text.hidden % BLOCK_SIZE)
      notes.push(`hidden size ${text.hidden} is no multiple of ${BLOCK_SIZE}: the embedding is not quantised`);
    writeJson(path.join(folder, 'config.json'), withLoadingSettings(explicit, precision, models, before));
    const bytes = models.reduce((sum, model) => sum + model.bytes, 0);
    return { out: path.resolve(options.out), dtype: precision.dtype, models, bytes, notes };
  });
}

/** Whether the head is the embedding: config.json says so, and the checkpoint has no head of its own. */
function isTied(text: TextShape, source: WeightSource): boolean {
  if (source.has('lm_head.weight')) return false;
  if (text.tied) return true;
  throw new AttentionPackError(
    `weight 'lm_head.weight' is missing and config.json does not tie it to the embedding; set tie_word_embeddings or complete the checkpoint`,
  );
}

/** Steps of progress: linear layers, plus one for the embedding. */
function countLinears({ text, visionLinears }: Layout): number {
  return visionLinears + 1 + 7 * text.numLayers + 1;
}
