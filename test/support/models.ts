/** Tiny random LLaVA models in transformers.js layout, made on the spot: a checkpoint is written to a temporary folder and converted. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { RawImage, Tensor } from '@huggingface/transformers';
import { convertCheckpoint } from '../../src/convert/index.ts';
import { randomNumbers } from './decoders.ts';

export interface TinyModelOptions {
  /** Key/value heads of 4 query heads; 4 is multi-head attention. */
  readonly numKvHeads?: number;
  readonly contextLength?: number;
  readonly seed?: number;
}

export const IMAGE_SIZE = 32;
const PATCH_SIZE = 8;
/** Visual tokens of one image. */
export const TOKENS_PER_IMAGE = (IMAGE_SIZE / PATCH_SIZE) ** 2;
export const NUM_LAYERS = 2;
export const HEAD_DIM = 16;
export const EOS = 2;
export const IMAGE_TOKEN = 3;

const SPECIALS = ['<pad>', '<bos>', '<eos>', '<image>', '<user>', '<assistant>'];
const HIDDEN = 64;
const MLP = 96;
const VISION = 32;
const VISION_MLP = 48;
const VISION_LAYERS = 2;

const CHAT_TEMPLATE = `{{- bos_token -}}
{%- for message in messages -%}
{{- '<' + message['role'] + '>' -}}
{%- if message['content'] is string -%}{{- message['content'] -}}{%- else -%}
{%- for part in message['content'] -%}{{- part['text'] if part['type'] == 'text' else '<image>' -}}{%- endfor -%}
{%- endif -%}
{%- if message['role'] == 'assistant' -%}{{- '<eos>' -}}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<assistant>' -}}{%- endif -%}`;

export function temporaryFolder(): string {
  return mkdtempSync(path.join(os.tmpdir(), 'attentionpack-test-'));
}

export function removeFolder(folder: string): void {
  rmSync(folder, { recursive: true, force: true });
}

/** Writes checkpoint and model into `folder`; resolves to the model's folder, fp32. */
export async function writeTinyModel(folder: string, options: TinyModelOptions = {}): Promise<string> {
  const from = path.join(folder, 'checkpoint');
  const out = path.join(folder, 'model');
  writeTinyCheckpoint(from, options);
  await convertCheckpoint({ from, out, dtype: 'fp32' });
  return out;
}

/** A Hugging Face LLaVA checkpoint whose logits are of order one. */
export function writeTinyCheckpoint(folder: string, { numKvHeads = 4, contextLength = 2048, seed = 5 }: TinyModelOptions = {}): void {
  mkdirSync(folder, { recursive: true });
  const vocabulary = byteVocabulary(SPECIALS);
  const vocab = Object.keys(vocabulary).length;
  const json = (name: string, value: unknown): void => writeFileSync(path.join(folder, name), JSON.stringify(value));
  json('config.json', {
    architectures: ['LlavaForConditionalGeneration'],
    model_type: 'llava',
    image_token_index: IMAGE_TOKEN,
    projector_hidden_act: 'gelu',
    vision_feature_layer: -1,
    vision_feature_select_strategy: 'full',
    tie_word_embeddings: false,
    text_config: {
      model_type: 'llama',
      hidden_act: 'silu',
      hidden_size: HIDDEN,
      intermediate_size: MLP,
      num_hidden_layers: NUM_LAYERS,
      num_attention_heads: 4,
      num_key_value_heads: numKvHeads,
      head_dim: HEAD_DIM,
      vocab_size: vocab,
      max_position_embeddings: contextLength,
      rms_norm_eps: 1e-6,
      rope_theta: 10000,
      eos_token_id: EOS,
    },
    vision_config: {
      model_type: 'siglip_vision_model',
      hidden_size: VISION,
      intermediate_size: VISION_MLP,
      num_hidden_layers: VISION_LAYERS,
      num_attention_heads: 4,
      image_size: IMAGE_SIZE,
      patch_size: PATCH_SIZE,
      vision_use_head: false,
    },
  });
  json('preprocessor_config.json', {
    image_processor_type: 'SiglipImageProcessor',
    processor_class: 'LlavaProcessor',
    do_resize: true,
    size: { height: IMAGE_SIZE, width: IMAGE_SIZE },
    resample: 3,
    do_rescale: true,
    rescale_factor: 1 / 255,
    do_normalize: true,
    image_mean: [0.5, 0.5, 0.5],
    image_std: [0.5, 0.5, 0.5],
  });
  json('generation_config.json', { bos_token_id: 1, eos_token_id: EOS, pad_token_id: 0 });
  json('tokenizer.json', tokenizer(vocabulary, SPECIALS));
  json('tokenizer_config.json', {
    tokenizer_class: 'PreTrainedTokenizerFast',
    processor_class: 'LlavaProcessor',
    bos_token: '<bos>',
    eos_token: '<eos>',
    pad_token: '<pad>',
    padding_side: 'left',
    clean_up_tokenization_spaces: false,
    chat_template: CHAT_TEMPLATE,
  });
  writeSafetensors(path.join(folder, 'model.safetensors'), weightShapes(vocab, numKvHeads), seed);
}

/** Special tokens, then one token for each byte as byte-level tokenizers write it. */
export function byteVocabulary(specials: readonly string[]): Record<string, number> {
  const printable = [...Array(256).keys()].filter((byte) => (byte >= 33 && byte <= 126) || (byte >= 161 && byte !== 173));
  const others = [...Array(256).keys()].filter((byte) => !printable.includes(byte));
  const letters = [...printable, ...others.map((_, i) => 256 + i)].map((code) => String.fromCodePoint(code));
  return Object.fromEntries([...specials, ...letters].map((token, id) => [token, id]));
}

export function tokenizer(vocabulary: Record<string, number>, specials: readonly string[]): object {
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: specials.map((content, id) => ({
      id,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    normalizer: null,
    pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
    post_processor: null,
    decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: { type: 'BPE', dropout: null, unk_token: null, fuse_unk: false, byte_fallback: false, vocab: vocabulary, merges: [] },
  };
}

function weightShapes(vocab: number, numKvHeads: number): Record<string, number[]> {
  const shapes: Record<string, number[]> = {
    'language_model.lm_head.weight': [vocab, HIDDEN],
    'language_model.model.embed_tokens.weight': [vocab, HIDDEN],
    'language_model.model.norm.weight': [HIDDEN],
    'multi_modal_projector.linear_1.weight': [HIDDEN, VISION],
    'multi_modal_projector.linear_1.bias': [HIDDEN],
    'multi_modal_projector.linear_2.weight': [HIDDEN, HIDDEN],
    'multi_modal_projector.linear_2.bias': [HIDDEN],
    'vision_tower.embeddings.patch_embedding.weight': [VISION, 3, PATCH_SIZE, PATCH_SIZE],
    'vision_tower.embeddings.patch_embedding.bias': [VISION],
    'vision_tower.embeddings.position_embedding.weight': [TOKENS_PER_IMAGE, VISION],
    'vision_tower.post_layernorm.weight': [VISION],
    'vision_tower.post_layernorm.bias': [VISION],
  };
  const width = 4 * HEAD_DIM;
  for (let l = 0; l < NUM_LAYERS; l++) {
    const layer = `language_model.model.layers.${l}`;
    shapes[`${layer}.input_layernorm.weight`] = [HIDDEN];
    shapes[`${layer}.post_attention_layernorm.weight`] = [HIDDEN];
    shapes[`${layer}.self_attn.q_proj.weight`] = [width, HIDDEN];
    shapes[`${layer}.self_attn.k_proj.weight`] = [numKvHeads * HEAD_DIM, HIDDEN];
    shapes[`${layer}.self_attn.v_proj.weight`] = [numKvHeads * HEAD_DIM, HIDDEN];
    shapes[`${layer}.self_attn.o_proj.weight`] = [HIDDEN, width];
    shapes[`${layer}.mlp.gate_proj.weight`] = [MLP, HIDDEN];
    shapes[`${layer}.mlp.up_proj.weight`] = [MLP, HIDDEN];
    shapes[`${layer}.mlp.down_proj.weight`] = [HIDDEN, MLP];
  }
  for (let l = 0; l < VISION_LAYERS; l++) {
    const layer = `vision_tower.encoder.layers.${l}`;
    const linear = (name: string, rows: number, columns: number): void => {
      shapes[`${layer}.${name}.weight`] = [rows, columns];
      shapes[`${layer}.${name}.bias`] = [rows];
    };
    for (const name of ['q_proj', 'k_proj', 'v_proj', 'out_proj']) linear(`self_attn.${name}`, VISION, VISION);
    linear('mlp.fc1', VISION_MLP, VISION);
    linear('mlp.fc2', VISION, VISION_MLP);
    for (const name of ['layer_norm1', 'layer_norm2']) {
      shapes[`${layer}.${name}.weight`] = [VISION];
      shapes[`${layer}.${name}.bias`] = [VISION];
    }
  }
  return shapes;
}

/** Random weights, drawn wide: at the deviations models are trained from, any graph would pass a tolerance. */
export function writeSafetensors(file: string, shapes: Record<string, number[]>, seed: number): void {
  const random = randomNumbers(seed);
  const header: Record<string, unknown> = {};
  const parts: Buffer[] = [];
  let at = 0;
  for (const [name, shape] of Object.entries(shapes)) {
    const size = shape.reduce((product, dim) => product * dim, 1);
    const isNorm = /norm\d?\.weight$/.test(name);
    const scale = shape.length < 2 ? 0.2 : 2.5 / Math.sqrt(size / (shape[0] ?? 1));
    const values = Float32Array.from({ length: size }, () => (isNorm ? 1 : 0) + scale * random());
    header[name] = { dtype: 'F32', shape, data_offsets: [at, at + 4 * size] };
    parts.push(Buffer.from(values.buffer));
    at += 4 * size;
  }
  const text = JSON.stringify(header);
  const padded = text.padEnd(Math.ceil(text.length / 8) * 8);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(padded.length));
  writeFileSync(file, Buffer.concat([length, Buffer.from(padded), ...parts]));
}

/** A picture of noise; the same seed gives the same picture. */
export function picture(seed: number, size = IMAGE_SIZE): RawImage {
  const random = randomNumbers(seed);
  return new RawImage(
    Uint8ClampedArray.from({ length: size * size * 3 }, () => (random() + 1) * 127.5),
    size,
    size,
    3,
  );
}

/** int64 rows of equal length as a tensor [B, N]. */
export function int64(rows: readonly (readonly (number | bigint)[])[]): Tensor {
  return new Tensor('int64', BigInt64Array.from(rows.flat().map(BigInt)), [rows.length, rows[0]?.length ?? 0]);
}
