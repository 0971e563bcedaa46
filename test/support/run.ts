/** Sessions, tensors, and a plain runner of one sequence through an original decoder. */
import * as ort from 'onnxruntime-node';
import { DataType, dimsOfValue, elementType, encodeModel, floatTensor, GraphEditor, type Model } from '../../src/onnx/index.ts';
import { readShape } from '../../src/rewrite.ts';
import type { ModelShape } from '../../src/shape.ts';

/** ONNX Runtime's own graph optimisations are off unless asked for: only the rewrite is under test. */
export function openSession(model: Model, optimised = false): Promise<ort.InferenceSession> {
  return ort.InferenceSession.create(encodeModel(model), {
    graphOptimizationLevel: optimised ? 'all' : 'disabled',
    intraOpNumThreads: 1,
    interOpNumThreads: 1,
    logSeverityLevel: 3,
  });
}

/** Floats as a tensor of a decoder's own type. */
export function floats(type: DataType, values: Float32Array, dims: readonly number[]): ort.Tensor {
  if (type !== DataType.FLOAT16) return new ort.Tensor('float32', values, dims);
  const bytes = floatTensor('', [values.length], values, type).rawData as Uint8Array;
  return new ort.Tensor('float16', new Uint16Array(bytes.slice().buffer), dims);
}

/** What a runner must know of a decoder. */
export interface Facts {
  readonly shape: ModelShape;
  readonly embed: number;
  readonly embedType: DataType;
  readonly vocabulary: number;
}

export function factsOf(model: Model): Facts {
  const editor = new GraphEditor(model.graph as NonNullable<Model['graph']>);
  return {
    shape: readShape({ model, path: 'original.onnx' }),
    embed: Number(dimsOfValue(editor.input('inputs_embeds'))?.[2]),
    embedType: elementType(editor.input('inputs_embeds')) ?? DataType.FLOAT,
    vocabulary: Number(dimsOfValue(editor.output('logits'))?.[2]),
  };
}

/** One sequence through an original decoder, chunk by chunk, with the whole past kept dense. Resolves to logits [tokens, vocabulary]. */
export async function runPlain(
  session: ort.InferenceSession,
  { shape, embed, embedType, vocabulary }: Facts,
  embeds: Float32Array,
  chunks: readonly number[],
  firstPosition = 0,
): Promise<Float32Array> {
  const logits = new Float32Array((embeds.length / embed) * vocabulary);
  const windowType = shape.windowType === 'float16' ? DataType.FLOAT16 : DataType.FLOAT;
  let past: Record<string, ort.Tensor> = {};
  for (const { index, numKvHeads, headDim } of shape.layers) {
    for (const side of ['key', 'value']) {
      past[`past_key_values.${index}.${side}`] = floats(windowType, new Float32Array(0), [1, numKvHeads, 0, headDim]);
    }
  }
  let done = 0;
  for (const chunk of chunks) {
    const feeds: Record<string, ort.Tensor> = {
      ...past,
      attention_mask: new ort.Tensor('int64', new BigInt64Array(done + chunk).fill(1n), [1, done + chunk]),
      inputs_embeds: floats(embedType, embeds.slice(done * embed, (done + chunk) * embed), [1, chunk, embed]),
    };
    if (session.inputNames.includes('num_logits_to_keep')) feeds.num_logits_to_keep = ALL_LOGITS;
    if (session.inputNames.includes('position_ids')) {
      const places = Array.from({ length: chunk }, (_, i) => firstPosition + done + i);
      feeds.position_ids = positionIds(session, places, [1, chunk]);
    }
    const results = await session.run(feeds);
    logits.set(numbers(results.logits), done * vocabulary);
    past = Object.fromEntries(Object.keys(past).map((name) => [name, results[name.replace('past_key_values', 'present')] as ort.Tensor]));
    done += chunk;
  }
  return logits;
}

/** position_ids [B, N], or [3, B, N] where a session takes three axes: then height and width go to and fro, as they do over images. */
export function positionIds(session: ort.InferenceSession, positions: readonly number[], dims: readonly [number, number]): ort.Tensor {
  const input = session.inputMetadata.find(({ name }) => name === 'position_ids');
  const hasAxes = input?.isTensor && input.shape.length === 3;
  const all = hasAxes ? [positions, positions.map((p) => (3 * p) % 7), positions.map((p) => (5 * p) % 11)].flat() : positions;
  return new ort.Tensor('int64', BigInt64Array.from(all.map(BigInt)), hasAxes ? [3, ...dims] : dims);
}

/** `num_logits_to_keep`: 0 keeps them all. */
export const ALL_LOGITS: ort.Tensor = new ort.Tensor('int64', new BigInt64Array(1), []);

/** A tensor's numbers, fp16 widened. */
export function numbers(tensor: ort.Tensor | undefined): Float32Array {
  if (!tensor) throw new Error('no such output');
  if (tensor.type !== 'float16') return tensor.data as Float32Array;
  const bits = tensor.data as Uint16Array;
  const out = new Float32Array(bits.length);
  const words = new Uint16Array(bits.buffer, bits.byteOffset, bits.length);
  for (const [i, h] of words.entries()) {
    const exponent = (h >> 10) & 31;
    const fraction = h & 1023;
    const size =
      exponent === 0
        ? fraction * 2 ** -24
        : exponent === 31
          ? fraction
            ? Number.NaN
            : Infinity
          : (1 + fraction / 1024) * 2 ** (exponent - 15);
    out[i] = h & 0x8000 ? -size : size;
  }
  return out;
}
