/** Finds the model and the pictures a command names, and says clearly what is wrong with them. */
import { existsSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import {
  AutoModelForImageTextToText,
  AutoProcessor,
  env,
  LogLevel,
  type PreTrainedModel,
  type Processor,
  RawImage,
} from '@huggingface/transformers';
import sharp from 'sharp';
import { AttentionPackError, firstLine } from '../errors.ts';
import { explained, folderOrId, type LoadOptions } from '../hook.ts';
import { packed } from '../load.ts';
import type { PackedOptions } from '../options.ts';
import type { PackedModel } from '../state.ts';

/** Precisions transformers.js loads. */
export const DTYPES = ['fp32', 'fp16', 'q8', 'int8', 'uint8', 'q4', 'bnb4', 'q4f16'] as const;
type Dtype = (typeof DTYPES)[number];

/** How transformers.js names the files of a precision: fp32 goes without a suffix, q8 is called quantized. */
const suffixOf = (dtype: Dtype): string => (dtype === 'fp32' ? '' : `_${dtype === 'q8' ? 'quantized' : dtype}`);

export interface LoadedModels {
  readonly packed: PreTrainedModel & PackedModel;
  readonly processor: Processor;
}

/**
 * Loads a model for packing, and its processor.
 *
 * @param model a folder in transformers.js layout, or a model id
 * @throws {AttentionPackError} if it cannot be found or is not an image-text-to-text model
 */
export async function loadPacked(model: string, options: PackedOptions & LoadOptions): Promise<LoadedModels> {
  env.logLevel = LogLevel.ERROR;
  checkModel(model);
  return explained(model, async () => ({
    processor: await AutoProcessor.from_pretrained(folderOrId(model)),
    packed: await packed(AutoModelForImageTextToText, model, options),
  }));
}

/** The same weights in a stock model of transformers.js. */
export async function loadDense(model: string, options: LoadOptions): Promise<PreTrainedModel> {
  return explained(model, () => AutoModelForImageTextToText.from_pretrained(folderOrId(model), options as never));
}

/** dtype for the embedded model or as asked; others follow transformers.js's default. */
export function dtypeOption(model: string, dtype: string | undefined): LoadOptions {
  if (dtype !== undefined && !DTYPES.some((known) => known === dtype)) {
    throw new AttentionPackError(`--dtype must be one of ${DTYPES.join(', ')}; got '${dtype}'`);
  }
  if (dtype !== undefined) checkPrecision(model, dtype as Dtype);
  const chosen = dtype ?? configuredDtype(model);
  return chosen === undefined ? {} : { dtype: chosen };
}

/** @throws {AttentionPackError} if a local model has decoders, but none in this precision */
function checkPrecision(model: string, dtype: Dtype): void {
  const has = DTYPES.filter((known) => existsSync(path.join(model, 'onnx', `decoder_model_merged${suffixOf(known)}.onnx`)));
  if (has.length && !has.includes(dtype))
    throw new AttentionPackError(`model '${model}' has no ${dtype} weights; it has ${has.join(', ')}`);
}

/** What the model's config.json says under `transformers.js_config`. */
function configuredDtype(model: string): string | undefined {
  const file = path.join(model, 'config.json');
  if (!existsSync(file)) return undefined;
  try {
    const config = JSON.parse(readFileSync(file, 'utf8')) as { 'transformers.js_config'?: { dtype?: string } } | null;
    return config?.['transformers.js_config']?.dtype;
  } catch (cause) {
    throw new AttentionPackError(`${file} is not JSON: ${(cause as Error).message.split('\n')[0]}`, { cause });
  }
}

/** A path that is not there would otherwise be asked for at a hub. */
export function checkModel(model: string): void {
  if (existsSync(model)) {
    if (!statSync(model).isDirectory())
      throw new AttentionPackError(`${model} is a file; give the folder that holds config.json and onnx/`);
    if (!existsSync(path.join(model, 'config.json')))
      throw new AttentionPackError(
        `${model} has no config.json; give a folder in transformers.js layout ('attentionpack convert' makes one)`,
      );
  } else if (!/^[\w.-]+\/[\w.-]+$/.test(model) || model.startsWith('.')) {
    throw new AttentionPackError(`model '${model}' is neither a folder nor an id of the form owner/name`);
  }
}

/**
 * Reads picture files.
 *
 * @throws {AttentionPackError} naming the file that is missing, or is no picture
 */
export async function readImages(files: readonly string[]): Promise<RawImage[]> {
  const images: RawImage[] = [];
  for (const file of files) {
    if (!existsSync(file)) throw new AttentionPackError(`image '${file}' does not exist`);
    if (!statSync(file).isFile()) throw new AttentionPackError(`image '${file}' is not a file`);
    try {
      images.push((await RawImage.read(file)).rgb());
    } catch (cause) {
      await refuseHuge(file);
      throw new AttentionPackError(
        `image '${file}' cannot be read: ${firstLine(cause)}; give a PNG, JPEG, WebP, GIF, AVIF, TIFF or SVG file`,
        {
          cause,
        },
      );
    }
  }
  return images;
}

/** What sharp reads at most: 16383 pixels squared. */
const MOST_PIXELS = 0x3fff ** 2;

/** @throws {AttentionPackError} if the picture says of itself that it has more pixels than are read; it may have nothing behind its header */
async function refuseHuge(file: string): Promise<void> {
  const { width, height } = await sharp(file, { limitInputPixels: false })
    .metadata()
    .catch(() => ({ width: 0, height: 0 }));
  if (width * height > MOST_PIXELS) {
    const [has, most] = [width * height, MOST_PIXELS].map((pixels) => `${Math.floor(pixels / 1e6)} megapixels`);
    throw new AttentionPackError(`image '${file}' has ${width} x ${height} pixels, ${has}; at most ${most} are read: make it smaller`);
  }
}
