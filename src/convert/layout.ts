/** The checkpoint layouts we convert: what each brings beside a decoder and an embedding, which all share. */
import type { BuildOptions } from './builder.ts';
import { Fields } from './fields.ts';
import { llavaLayout } from './llava/layout.ts';
import { qwen2VlLayout, refuseQwen25Vl } from './qwen2vl/layout.ts';
import type { TextShape } from './text-config.ts';
import type { WrittenModel } from './weights-writer.ts';

export type Json = Record<string, unknown>;

export interface Layout {
  readonly text: TextShape;
  /** Linear layers of the vision encoder, for progress. */
  readonly visionLinears: number;
  writeVisionEncoder(options: BuildOptions): Promise<WrittenModel>;
  /** config.json with every field that transformers.js reads made explicit. */
  explicitConfig(config: Json): Json;
  /** Writes preprocessor_config.json and processor_config.json as transformers.js wants them, from those of the checkpoint. */
  writeProcessor(from: string, to: string): void;
}

const LAYOUTS = { llava: llavaLayout, qwen2_vl: qwen2VlLayout } as const satisfies Record<string, (root: Fields) => Layout>;
const MODEL_TYPES = Object.keys(LAYOUTS) as (keyof typeof LAYOUTS)[];

/**
 * The layout of a checkpoint. Fields that config.json leaves out have the defaults of transformers' config classes: LLaVA 1.5's names hardly any.
 *
 * @throws {AttentionPackError} for an architecture, activation, rope scaling or attention we cannot convert, with the ones we can.
 */
export function readLayout(config: unknown, file = 'config.json'): Layout {
  const root = new Fields(config, file);
  if (root.raw('model_type').value === 'qwen2_5_vl') refuseQwen25Vl(root);
  return LAYOUTS[root.oneOf('model_type', MODEL_TYPES)](root);
}
