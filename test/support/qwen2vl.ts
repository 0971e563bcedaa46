/** The Qwen2-VL fixtures: what PyTorch transformers computed for each case; see scripts/golden/qwen2vl.py. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import type * as ort from 'onnxruntime-node';
import { SafetensorsFile } from '../../src/convert/safetensors.ts';
import { float32, int64, type Values } from './converted.ts';

export const QWEN2VL_FIXTURES = path.resolve(import.meta.dirname, '../fixtures/qwen2vl');
export const QWEN2VL_KINDS = ['tied-v5', 'untied-v4', 'linear-rope'] as const;

export interface GoldenCase {
  /** [B][N], 0 where padded on the left. */
  readonly inputIds: readonly (readonly number[])[];
  readonly mask: readonly (readonly number[])[];
  /** [images][3]: time, height, width in patches. */
  readonly grids: readonly (readonly number[])[];
  /** [3][B][N] */
  readonly positions: readonly (readonly (readonly number[])[])[];
  /** Tokens PyTorch generates, [B]; undefined where its positions are not ours. */
  readonly greedy?: readonly (readonly number[])[];
  /** [patches, width]; empty without images. */
  readonly pixels: Float32Array;
  /** [tokens, hidden] */
  readonly imageFeatures: Float32Array;
  /** [B, N, vocab] */
  readonly logits: Float32Array;
}

export function readCases(kind: string): ReadonlyMap<string, GoldenCase> {
  const folder = path.join(QWEN2VL_FIXTURES, kind);
  const cases = JSON.parse(readFileSync(path.join(folder, 'golden.json'), 'utf8')) as Record<string, Record<string, never>>;
  const file = new SafetensorsFile(path.join(folder, 'golden.safetensors'));
  const all = (name: string): Float32Array => {
    const dims = file.tensors.get(name)?.dims;
    return dims ? file.rows(name, 0, dims[0] ?? 0) : new Float32Array(0);
  };
  const read = Object.entries(cases).map(([name, facts]): [string, GoldenCase] => [
    name,
    {
      inputIds: facts.input_ids as never,
      mask: facts.attention_mask as never,
      grids: facts.grids as never,
      positions: facts.position_ids as never,
      ...(facts.greedy ? { greedy: facts.greedy as never } : {}),
      pixels: all(`${name}/pixel_values`),
      imageFeatures: all(`${name}/image_features`),
      logits: all(`${name}/logits`),
    },
  ]);
  file.close();
  return new Map(read);
}

/** The vision encoder's inputs. */
export function visionFeeds({ grids, pixels }: Pick<GoldenCase, 'grids' | 'pixels'>): Values {
  const numPatches = grids.reduce((sum, [t = 0, h = 0, w = 0]) => sum + t * h * w, 0);
  return {
    pixel_values: float32(pixels, [numPatches, pixels.length / numPatches]),
    grid_thw: int64(grids.flat(), [grids.length, 3]),
  };
}

/** position_ids [3, B, to - from]. */
export function positionsBetween({ positions }: GoldenCase, from: number, to: number): ort.Tensor {
  const cut = positions.map((rows) => rows.map((row) => row.slice(from, to)));
  return int64(cut.flat(2), [3, cut[0]?.length ?? 0, to - from]);
}
