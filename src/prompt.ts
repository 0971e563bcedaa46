/** Messages and images -> model inputs, with as many placeholders per image as the model makes tokens. */
import type { Processor, RawImage, Tensor } from '@huggingface/transformers';
import { AttentionPackError, firstLine } from './errors.ts';
import { gridInputs, hasGrids } from './prompt/grid.ts';
import { isLlava, llavaInputs } from './prompt/llava.ts';
import { imageGroups } from './prompt/placeholders.ts';

export type MessagePart =
  | { readonly type: 'image' }
  /** The next `frames` images are frames of one clip, in order of time. */
  | { readonly type: 'clip'; readonly frames: number }
  | { readonly type: 'text'; readonly text: string };

/** A chat message, as chat templates take it. Each image part stands for the next image, each clip part for its frames. */
export interface Message {
  readonly role: 'system' | 'user' | 'assistant';
  readonly content: string | readonly MessagePart[];
}

/** What `generate` takes. */
export interface Prompt {
  readonly input_ids: Tensor;
  readonly attention_mask: Tensor;
  readonly pixel_values?: Tensor;
  /** [images, 3]: patches in time, height and width of each image or clip; of models whose images vary in size. */
  readonly image_grid_thw?: Tensor;
  readonly [name: string]: Tensor | undefined;
}

export interface QuestionOptions {
  /**
   * Whether the images are the frames of one clip, in order of time, rather than separate pictures. Default false. To a model that knows time
   * (Qwen2-VL) a clip is one visual input with a position in time for each frame; others see one picture after the other.
   */
  readonly clip?: boolean;
}

/** One user message that shows images and asks a question. */
export function question(text: string, numImages: number, { clip = false }: QuestionOptions = {}): Message {
  const shown: MessagePart[] = clip && numImages ? [{ type: 'clip', frames: numImages }] : Array(numImages).fill({ type: 'image' });
  return { role: 'user', content: [...shown, { type: 'text', text }] };
}

/**
 * The inputs of `generate` for a conversation.
 *
 * @param images pictures in the order of the conversation's image and clip parts
 * @throws {AttentionPackError} if there are not as many images as the parts stand for, or frames of a clip differ in size
 */
export async function prompt(processor: Processor, messages: readonly Message[], images: readonly RawImage[]): Promise<Prompt> {
  const groups = imageGroups(messages, images);
  if (hasGrids(processor)) return gridInputs(processor, template(processor, withClips(messages, 'whole')), groups);
  const text = template(processor, withClips(messages, 'by frame'));
  return isLlava(processor) ? llavaInputs(processor, text, images) : ((await call(processor, text, [...images])) as Prompt);
}

/** Chat templates know images only: a clip becomes one, or one for each frame. */
function withClips(messages: readonly Message[], clips: 'whole' | 'by frame'): Message[] {
  return messages.map(({ role, content }) => ({
    role,
    content:
      typeof content === 'string'
        ? content
        : content.flatMap((part): MessagePart[] =>
            part.type === 'clip' ? Array(clips === 'whole' ? 1 : part.frames).fill({ type: 'image' }) : [part],
          ),
  }));
}

function template(processor: Processor, messages: readonly Message[]): string {
  const apply = processor.apply_chat_template.bind(processor) as (messages: unknown, options: object) => unknown;
  try {
    return apply(messages, { tokenize: false, add_generation_prompt: true }) as string;
  } catch (cause) {
    throw new AttentionPackError(`the model's chat template does not take this conversation: ${firstLine(cause)}`, { cause });
  }
}

function call(processor: Processor, text: string, images: RawImage[]): Promise<unknown> {
  const run = processor as unknown as (text: string, images: RawImage[] | null) => Promise<unknown>;
  return run(text, images.length ? images : null);
}
