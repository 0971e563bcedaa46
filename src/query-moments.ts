/** Second moments of a model's queries, by which errors of its keys are weighed: what `calibrate` collects, kept in a file beside the model. */
import { existsSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { SafetensorsFile } from './convert/safetensors.ts';
import { type Metric, metricOf } from './encode/weighted.ts';
import { AttentionPackError, FileFormatError } from './errors.ts';
import { type LayerShape, type ModelShape, packsRawKeys, type RotaryMode } from './shape.ts';

/** Where a model's moments are looked for, in its folder. */
export const MOMENTS_FILE = 'query_moments.safetensors';

/** Where keys that are weighed stand against rotary embedding. */
export const FRAMES = ['before_rotary', 'after_rotary'] as const;
export type Frame = (typeof FRAMES)[number];

/**
 * By frame and layer index: the mean of q·qᵀ over queries behind images, [Hkv, D, D], as image tokens meet them: turned back by their positions, and forth again
 * for the second frame. The first is missing where the graph turns keys out of sight; then the second is as it was found.
 */
export type QueryMoments = Readonly<Partial<Record<Frame, ReadonlyMap<number, Float32Array>>>>;

const tensorName = (layer: number, frame: Frame): string => `layers.${layer}.query_moment.${frame}`;

/** Writes a safetensors file of float32 tensors [Hkv, D, D]; as many bytes as 4·L·Hkv·D² for each frame. */
export function writeMoments(file: string, moments: QueryMoments, shape: ModelShape): void {
  const header: Record<string, object> = {};
  const parts: Float32Array[] = [];
  let at = 0;
  for (const frame of FRAMES) {
    for (const { index, numKvHeads, headDim } of shape.layers) {
      const moment = moments[frame]?.get(index);
      if (!moment) continue;
      header[tensorName(index, frame)] = {
        dtype: 'F32',
        shape: [numKvHeads, headDim, headDim],
        data_offsets: [at, at + moment.byteLength],
      };
      parts.push(moment);
      at += moment.byteLength;
    }
  }
  const text = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  try {
    writeFileSync(file, Buffer.concat([length, text, ...parts.map((part) => Buffer.from(part.buffer, part.byteOffset, part.byteLength))]));
  } catch (cause) {
    throw new AttentionPackError(`${file} cannot be written: ${(cause as Error).message}`, { cause });
  }
}

/**
 * The file to read: the one named, or that in the model's folder if there is one.
 *
 * @param named `false`: none is wanted
 * @throws {AttentionPackError} if one is named that does not exist
 */
export function momentsFile(model: string, named: string | false | undefined): string | undefined {
  if (named === false) return undefined;
  if (named !== undefined) {
    if (!existsSync(named)) throw new AttentionPackError(`moments ${named} does not exist; make it with 'attentionpack calibrate <model>'`);
    return named;
  }
  const file = path.join(model, MOMENTS_FILE);
  return existsSync(file) ? file : undefined;
}

/**
 * What errors of keys cost in each layer of a model whose keys are packed in this rotary mode.
 *
 * @throws {FileFormatError} if the file is broken, another model's, or has nothing for this mode
 */
export function readMetrics(file: string, { layers }: ModelShape, rotary: RotaryMode): Metric[] {
  const frame: Frame = packsRawKeys(rotary) ? 'before_rotary' : 'after_rotary';
  const stored = new SafetensorsFile(file);
  try {
    return layers.map((layer) => metricOf(readMoment(stored, layer, frame), layer.numKvHeads, layer.headDim));
  } finally {
    stored.close();
  }
}

function readMoment(stored: SafetensorsFile, { index, numKvHeads, headDim }: LayerShape, frame: Frame): Float32Array {
  const name = tensorName(index, frame);
  const dims = stored.tensors.get(name)?.dims;
  const again = "make it again with 'attentionpack calibrate <model>'";
  if (!dims) throw new FileFormatError(stored.path, `has no tensor '${name}'; ${again}`);
  if (String(dims) !== String([numKvHeads, headDim, headDim]))
    throw new FileFormatError(stored.path, `'${name}' is [${dims}], this model's is [${numKvHeads}, ${headDim}, ${headDim}]; ${again}`);
  const moment = stored.rows(name, 0, numKvHeads);
  for (let h = 0; h < numKvHeads; h++) {
    const trace = Array.from({ length: headDim }, (_, i) => moment[(h * headDim + i) * headDim + i] as number).reduce((a, b) => a + b, 0);
    if (!(trace > 0 && Number.isFinite(trace)))
      throw new FileFormatError(stored.path, `'${name}' has trace ${trace} in head ${h}; ${again}`);
  }
  return moment;
}
