/** Runs a converted folder the way transformers.js does, with nothing of it: vision encoder, embedding, merge, decoder. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import * as ort from 'onnxruntime-node';
import { type Dtype, precisionOf } from '../../src/convert/precision.ts';
import { SafetensorsFile } from '../../src/convert/safetensors.ts';

export const FIXTURES = path.resolve(import.meta.dirname, '../fixtures/convert');
export const KINDS = ['clip-llama-mha', 'siglip-llama-gqa-tied', 'clip-qwen2-gqa-sharded', 'clip-llama-full'] as const;

export interface Golden {
  readonly inputIds: readonly number[];
  /** Two rows, the first padded on the left with 0. */
  readonly paddedIds: readonly (readonly number[])[];
  /** [2, 3, 24, 24] */
  readonly pixels: Float32Array;
  /** [2, tokens, hidden] */
  readonly imageFeatures: Float32Array;
  /** [N, vocab] */
  readonly logits: Float32Array;
  /** [2, N, vocab] */
  readonly paddedLogits: Float32Array;
}

/** What PyTorch transformers computed; see scripts/golden/convert.py. */
export function readGolden(kind: string): Golden {
  const folder = path.join(FIXTURES, kind);
  const { input_ids: inputIds, padded_ids: paddedIds } = JSON.parse(readFileSync(path.join(folder, 'golden.json'), 'utf8'));
  const file = new SafetensorsFile(path.join(folder, 'golden.safetensors'));
  const all = (name: string): Float32Array => file.rows(name, 0, file.tensors.get(name)?.dims[0] ?? 0);
  const golden = {
    inputIds,
    paddedIds,
    pixels: all('pixel_values'),
    imageFeatures: all('image_features'),
    logits: all('logits'),
    paddedLogits: all('padded_logits'),
  };
  file.close();
  return golden;
}

export type Values = Readonly<Record<string, ort.Tensor>>;

export const int64 = (values: readonly number[], dims: readonly number[]): ort.Tensor =>
  new ort.Tensor('int64', BigInt64Array.from(values.map(BigInt)), [...dims]);
export const float32 = (values: Float32Array, dims: readonly number[]): ort.Tensor => new ort.Tensor('float32', values, [...dims]);

const openSession = (file: string): Promise<ort.InferenceSession> =>
  // Level 3: ONNX Runtime warns of every fp16 node it casts for the CPU.
  ort.InferenceSession.create(file, { logSeverityLevel: 3, intraOpNumThreads: 1, enableMemPattern: false });

/** The three sessions of a folder. */
export class ConvertedModel {
  readonly vision: ort.InferenceSession;
  readonly embed: ort.InferenceSession;
  readonly decoder: ort.InferenceSession;
  readonly imageToken = 3;

  private constructor(vision: ort.InferenceSession, embed: ort.InferenceSession, decoder: ort.InferenceSession) {
    this.vision = vision;
    this.embed = embed;
    this.decoder = decoder;
  }

  static async open(folder: string, dtype: Dtype): Promise<ConvertedModel> {
    const file = (name: string): string => path.join(folder, 'onnx', `${name}${precisionOf(dtype).suffix}.onnx`);
    return new ConvertedModel(
      await openSession(file('vision_encoder')),
      await openSession(file('embed_tokens')),
      await openSession(file('decoder_model_merged')),
    );
  }

  /** @param feeds the vision encoder's inputs, or two pictures of the LLaVA fixtures. */
  async imageFeatures(feeds: Float32Array | Values): Promise<Float32Array> {
    const inputs = feeds instanceof Float32Array ? { pixel_values: float32(feeds, [2, 3, 24, 24]) } : feeds;
    const { image_features: features } = await this.vision.run(inputs);
    return features?.data as Float32Array;
  }

  /** Embeddings [B, N, hidden] with the image features in place of image tokens. */
  async embeddings(rows: readonly (readonly number[])[], features?: Float32Array): Promise<ort.Tensor> {
    const numTokens = rows[0]?.length ?? 0;
    const { inputs_embeds: embeds } = await this.embed.run({ input_ids: int64(rows.flat(), [rows.length, numTokens]) });
    const tensor = embeds as ort.Tensor;
    const hidden = tensor.dims[2] as number;
    const data = tensor.data as Float32Array;
    let feature = 0;
    for (const [i, id] of rows.flat().entries()) {
      if (features && id === this.imageToken) data.set(features.subarray(feature * hidden, ++feature * hidden), i * hidden);
    }
    return tensor;
  }

  /** One decoder step over `embeds`, after `past` (the outputs of the step before). `positions` [3, B, N] are for decoders that take them. */
  async step(embeds: ort.Tensor, mask: readonly number[], past?: Values, numLogits = 0, positions?: ort.Tensor): Promise<Values> {
    const [batch = 1] = embeds.dims;
    const feeds: Record<string, ort.Tensor> = {
      inputs_embeds: embeds,
      attention_mask: int64(mask, [batch, mask.length / batch]),
      num_logits_to_keep: int64([numLogits], []),
      ...(positions && { position_ids: positions }),
    };
    for (const input of this.decoder.inputMetadata) {
      if (!input.isTensor || !input.name.startsWith('past_key_values')) continue;
      const [, heads = 0, , headDim = 0] = input.shape as number[];
      const before = past?.[input.name.replace('past_key_values', 'present')];
      const empty = input.type === 'float16' ? new Uint16Array(0) : new Float32Array(0);
      feeds[input.name] = before ?? new ort.Tensor(input.type as 'float32', empty as Float32Array, [batch, heads, 0, headDim]);
    }
    return this.decoder.run(feeds);
  }

  /** Logits [N, vocab] of the golden prompt, its images included. */
  async promptLogits(golden: Golden): Promise<Float32Array> {
    const embeds = await this.embeddings([golden.inputIds], await this.imageFeatures(golden.pixels));
    const { logits } = await this.step(
      embeds,
      golden.inputIds.map(() => 1),
    );
    return logits?.data as Float32Array;
  }

  async release(): Promise<void> {
    await Promise.all([this.vision.release(), this.embed.release(), this.decoder.release()]);
  }
}

/** The largest difference, with where and how large on average, so that a failure says more than "too large". */
export function difference(actual: Float32Array, expected: Float32Array): { max: number; mean: number; at: number } {
  if (actual.length !== expected.length) throw new Error(`${actual.length} values, ${expected.length} expected`);
  let max = 0;
  let at = 0;
  let sum = 0;
  for (const [i, value] of actual.entries()) {
    const error = Math.abs(value - (expected[i] as number));
    sum += error;
    if (!(error <= max)) {
      max = error;
      at = i;
    }
  }
  return { max, mean: sum / actual.length, at };
}
