/** A tiny random Qwen2-VL in transformers.js layout, made on the spot, and pictures of several shapes for it. */
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { PreTrainedModel, RawImage, Tensor } from '@huggingface/transformers';
import { convertCheckpoint } from '../../src/convert/index.ts';
import { type Message, type Prompt, prompt } from '../../src/index.ts';
import { byteVocabulary, int64, picture, tokenizer, writeSafetensors } from './models.ts';
import { floats, type Inputs, logitsOf, openWritten, type Tiny } from './tiny.ts';

const SPECIALS = [
  '<pad>',
  '<bos>',
  '<eos>',
  '<|image_pad|>',
  '<|vision_start|>',
  '<|vision_end|>',
  '<user>',
  '<assistant>',
  '<|video_pad|>',
];
export const IMAGE_PAD = 3;

/** Pixels a token covers in each direction: two patches of four. */
export const TOKEN_PIXELS = 8;
const PATCH = 4;
const HIDDEN = 64;
const HEAD_DIM = 16;
const NUM_KV_HEADS = 2;
export const WIDTH = NUM_KV_HEADS * HEAD_DIM;
const VISION = 32;

const CHAT_TEMPLATE = `{%- for message in messages -%}
{{- '<' + message['role'] + '>' -}}
{%- if message['content'] is string -%}{{- message['content'] -}}{%- else -%}
{%- for part in message['content'] -%}{{- part['text'] if part['type'] == 'text' else '<|vision_start|><|image_pad|><|vision_end|>' -}}{%- endfor -%}
{%- endif -%}
{%- if message['role'] == 'assistant' -%}{{- '<eos>' -}}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<assistant>' -}}{%- endif -%}`;

export function openTinyQwen2Vl(): Promise<Tiny> {
  return openWritten(async (root) => {
    const from = path.join(root, 'checkpoint');
    writeCheckpoint(from);
    const out = path.join(root, 'model');
    await convertCheckpoint({ from, out, dtype: 'fp32' });
    return out;
  }, WIDTH);
}

/** A picture of noise, `width` x `height` tokens large. */
export async function tokensLarge(seed: number, width: number, height: number): Promise<RawImage> {
  return picture(seed, 64).resize(width * TOKEN_PIXELS, height * TOKEN_PIXELS);
}

/** Inputs of a conversation about pictures of these sizes in tokens. */
export async function shown(tiny: Tiny, messages: readonly Message[], sizes: readonly (readonly [number, number])[]): Promise<Prompt> {
  const images = await Promise.all(sizes.map(([width, height], i) => tokensLarge(i + 1, width, height)));
  return prompt(tiny.processor, messages, images);
}

/** Greedy tokens without any cache: the whole conversation anew for each. Slow, and true also where stock code counts positions wrong. */
export async function slowGreedy(model: PreTrainedModel, inputs: Inputs, numTokens = 12): Promise<number[][]> {
  let ids = (inputs.input_ids as Tensor).tolist() as bigint[][];
  let mask = (inputs.attention_mask as Tensor).tolist() as bigint[][];
  const found: number[][] = ids.map(() => []);
  for (let i = 0; i < numTokens; i++) {
    const logits = await logitsOf(model, { ...inputs, input_ids: int64(ids), attention_mask: int64(mask) });
    const [, length = 0, vocab = 0] = logits.dims;
    const next = ids.map((_, b) => {
      const row = floats(logits).subarray(((b + 1) * length - 1) * vocab, (b + 1) * length * vocab);
      return row.indexOf(Math.max(...row));
    });
    next.forEach((token, b) => {
      found[b]?.push(token);
    });
    ids = ids.map((row, b) => [...row, BigInt(next[b] as number)]);
    mask = mask.map((row) => [...row, 1n]);
  }
  return found;
}

function writeCheckpoint(folder: string): void {
  mkdirSync(folder, { recursive: true });
  const vocabulary = byteVocabulary(SPECIALS);
  const vocab = Object.keys(vocabulary).length;
  const json = (name: string, value: unknown): void => writeFileSync(path.join(folder, name), JSON.stringify(value));
  json('config.json', {
    architectures: ['Qwen2VLForConditionalGeneration'],
    model_type: 'qwen2_vl',
    image_token_id: IMAGE_PAD,
    vision_start_token_id: 4,
    vision_end_token_id: 5,
    video_token_id: 8,
    tie_word_embeddings: false,
    hidden_size: HIDDEN,
    intermediate_size: 96,
    num_hidden_layers: 2,
    num_attention_heads: HIDDEN / HEAD_DIM,
    num_key_value_heads: NUM_KV_HEADS,
    vocab_size: vocab,
    max_position_embeddings: 2048,
    rms_norm_eps: 1e-6,
    rope_theta: 10000,
    rope_scaling: { type: 'mrope', mrope_section: [2, 3, 3] },
    vision_config: {
      depth: 2,
      embed_dim: VISION,
      num_heads: 2,
      mlp_ratio: 2,
      hidden_size: HIDDEN,
      patch_size: PATCH,
      spatial_merge_size: 2,
      temporal_patch_size: 2,
    },
  });
  json('preprocessor_config.json', {
    image_processor_type: 'Qwen2VLImageProcessor',
    min_pixels: TOKEN_PIXELS ** 2,
    max_pixels: 64 * TOKEN_PIXELS ** 2,
    image_mean: [0.5, 0.5, 0.5],
    image_std: [0.5, 0.5, 0.5],
  });
  json('generation_config.json', { eos_token_id: 2, pad_token_id: 0 });
  json('tokenizer.json', tokenizer(vocabulary, SPECIALS));
  json('tokenizer_config.json', {
    tokenizer_class: 'PreTrainedTokenizerFast',
    eos_token: '<eos>',
    pad_token: '<pad>',
    padding_side: 'left',
    clean_up_tokenization_spaces: false,
    chat_template: CHAT_TEMPLATE,
  });
  writeSafetensors(path.join(folder, 'model.safetensors'), weightShapes(vocab), 5);
}

function weightShapes(vocab: number): Record<string, number[]> {
  const wide = 4 * VISION;
  const shapes: Record<string, number[]> = {
    'lm_head.weight': [vocab, HIDDEN],
    'model.embed_tokens.weight': [vocab, HIDDEN],
    'model.norm.weight': [HIDDEN],
    'visual.patch_embed.proj.weight': [VISION, 3, 2, PATCH, PATCH],
    'visual.merger.ln_q.weight': [VISION],
    'visual.merger.ln_q.bias': [VISION],
    'visual.merger.mlp.0.weight': [wide, wide],
    'visual.merger.mlp.0.bias': [wide],
    'visual.merger.mlp.2.weight': [HIDDEN, wide],
    'visual.merger.mlp.2.bias': [HIDDEN],
  };
  const linear = (name: string, rows: number, columns: number): void => {
    shapes[`${name}.weight`] = [rows, columns];
    shapes[`${name}.bias`] = [rows];
  };
  for (let l = 0; l < 2; l++) {
    const block = `visual.blocks.${l}`;
    linear(`${block}.attn.qkv`, 3 * VISION, VISION);
    linear(`${block}.attn.proj`, VISION, VISION);
    linear(`${block}.mlp.fc1`, 2 * VISION, VISION);
    linear(`${block}.mlp.fc2`, VISION, 2 * VISION);
    for (const norm of ['norm1', 'norm2']) {
      shapes[`${block}.${norm}.weight`] = [VISION];
      shapes[`${block}.${norm}.bias`] = [VISION];
    }
    const layer = `model.layers.${l}`;
    linear(`${layer}.self_attn.q_proj`, HIDDEN, HIDDEN);
    linear(`${layer}.self_attn.k_proj`, WIDTH, HIDDEN);
    linear(`${layer}.self_attn.v_proj`, WIDTH, HIDDEN);
    shapes[`${layer}.self_attn.o_proj.weight`] = [HIDDEN, HIDDEN];
    shapes[`${layer}.mlp.gate_proj.weight`] = [96, HIDDEN];
    shapes[`${layer}.mlp.up_proj.weight`] = [96, HIDDEN];
    shapes[`${layer}.mlp.down_proj.weight`] = [HIDDEN, 96];
    shapes[`${layer}.input_layernorm.weight`] = [HIDDEN];
    shapes[`${layer}.post_attention_layernorm.weight`] = [HIDDEN];
  }
  return shapes;
}
