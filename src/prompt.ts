/** Messages and images -> model inputs, with as many placeholders per image as the model makes tokens. */
import type { Processor, RawImage, Tensor } from '@huggingface/transformers';
import { AttentionPackError } from './errors.ts';

export type MessagePart = { readonly type: 'image' } | { readonly type: 'text'; readonly text: string };

/** A chat message, as chat templates take it. Each image part stands for the next image. */
export interface Message {
  readonly role: 'system' | 'user' | 'assistant';
  readonly content: string | readonly MessagePart[];
}

/** What `generate` takes. */
export interface Prompt {
  readonly input_ids: Tensor;
  readonly attention_mask: Tensor;
  readonly pixel_values?: Tensor;
  readonly [name: string]: Tensor | undefined;
}

/** One user message that shows images and asks a question. */
export function question(text: string, numImages: number): Message {
  return { role: 'user', content: [...Array.from({ length: numImages }, () => ({ type: 'image' }) as const), { type: 'text', text }] };
}

/**
 * The inputs of `generate` for a conversation.
 *
 * @param images pictures in the order of the conversation's image parts
 * @throws {AttentionPackError} if there are not as many images as image parts
 */
export async function prompt(processor: Processor, messages: readonly Message[], images: readonly RawImage[]): Promise<Prompt> {
  const text = template(processor, messages);
  return isLlava(processor) ? llavaInputs(processor, text, messages, images) : ((await call(processor, text, [...images])) as Prompt);
}

function template(processor: Processor, messages: readonly Message[]): string {
  const apply = processor.apply_chat_template.bind(processor) as (messages: unknown, options: object) => unknown;
  try {
    return apply(messages, { tokenize: false, add_generation_prompt: true }) as string;
  } catch (cause) {
    const [reason = ''] = String((cause as Error).message).split('\n');
    throw new AttentionPackError(`the model's chat template does not take this conversation: ${reason}`, { cause });
  }
}

interface LlavaConfig {
  readonly processor_class?: string;
  readonly image_token?: string;
  readonly patch_size?: number;
  readonly num_additional_image_tokens?: number;
  readonly vision_feature_select_strategy?: string;
}

function isLlava(processor: Processor): boolean {
  return (processor.config as LlavaConfig).processor_class === 'LlavaProcessor';
}

/** The LLaVA processor of transformers.js expands only the first placeholder of a text; here each image gets its own. */
async function llavaInputs(processor: Processor, text: string, messages: readonly Message[], images: readonly RawImage[]): Promise<Prompt> {
  const config = processor.config as LlavaConfig;
  const imageToken = config.image_token ?? '<image>';
  const numParts = messages.reduce(
    (sum, { content }) => sum + (typeof content === 'string' ? 0 : content.filter((part) => part.type === 'image').length),
    0,
  );
  if (numParts !== images.length)
    throw new AttentionPackError(`the conversation has ${numParts} image parts but ${images.length} images were given; give one for each`);
  const written = text.split(imageToken).length - 1;
  if (written !== images.length)
    throw new AttentionPackError(
      `the prompt's text has ${written} times '${imageToken}' for ${images.length} images; leave it out of questions, image parts write it`,
    );
  if (!processor.image_processor || !processor.tokenizer) throw new AttentionPackError('this model has no image processor or no tokenizer');
  if (!images.length) return tokenize(processor, text);
  const { pixel_values } = (await processor.image_processor([...images])) as { pixel_values: Tensor };
  const [height = 0, width = 0] = pixel_values.dims.slice(-2);
  const patch = config.patch_size ?? 14;
  const classToken = config.vision_feature_select_strategy === 'full' ? 0 : 1;
  // HF's processor counts the class token among the additional ones, and drops one where the strategy drops it.
  const additional = config.num_additional_image_tokens ?? 0;
  const perImage = Math.floor(height / patch) * Math.floor(width / patch) + Math.max(0, additional - classToken);
  return { ...tokenize(processor, text.replaceAll(imageToken, imageToken.repeat(perImage))), pixel_values };
}

function tokenize(processor: Processor, text: string): Prompt {
  const tokenizer = processor.tokenizer as unknown as (text: string, options: object) => Prompt;
  // Chat templates write the special tokens themselves.
  return tokenizer(text, { add_special_tokens: false });
}

function call(processor: Processor, text: string, images: RawImage[]): Promise<unknown> {
  const run = processor as unknown as (text: string, images: RawImage[] | null) => Promise<unknown>;
  return run(text, images.length ? images : null);
}
