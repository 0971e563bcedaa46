/** Which pictures each image and clip part of a conversation stands for, and where their placeholders are in its text. */
import type { Processor, RawImage, Tensor } from '@huggingface/transformers';
import { AttentionPackError } from '../errors.ts';
import type { Message, Prompt } from '../prompt.ts';

/**
 * The pictures by part, in order: one of an image part, the frames of a clip part.
 *
 * @throws {AttentionPackError} if the parts stand for more or fewer pictures than there are
 */
export function imageGroups(messages: readonly Message[], images: readonly RawImage[]): RawImage[][] {
  const sizes = messages.flatMap(({ content }) =>
    typeof content === 'string' ? [] : content.flatMap((part) => (part.type === 'image' ? [1] : part.type === 'clip' ? [part.frames] : [])),
  );
  const odd = sizes.find((frames) => !Number.isInteger(frames) || frames < 1);
  if (odd !== undefined) throw new AttentionPackError(`a clip has a whole number of frames >= 1, got ${odd}`);
  const wanted = sizes.reduce((sum, size) => sum + size, 0);
  if (wanted !== images.length) {
    const parts = wanted === sizes.length ? `${wanted} image parts` : `image parts and clips for ${wanted} images`;
    throw new AttentionPackError(`the conversation has ${parts} but ${images.length} images were given; give one for each`);
  }
  let at = 0;
  return sizes.map((size) => images.slice(at, (at += size)));
}

/** @throws {AttentionPackError} if the text has not one placeholder for each image or clip: a question that spells one, for instance */
export function checkPlaceholders(text: string, placeholder: string, wanted: number): void {
  const written = text.split(placeholder).length - 1;
  if (written !== wanted)
    throw new AttentionPackError(
      `the prompt's text has ${written} times '${placeholder}' for ${wanted} images; leave it out of questions, image parts write it`,
    );
}

export function tokenize(processor: Processor, text: string): Prompt {
  const tokenizer = processor.tokenizer as unknown as (text: string, options: object) => Prompt;
  // Chat templates write the special tokens themselves.
  return tokenizer(text, { add_special_tokens: false });
}

/**
 * What the image processor makes of pictures.
 *
 * @throws {AttentionPackError} if the processor cannot read pictures or text
 */
export async function readPictures(
  processor: Processor,
  images: readonly RawImage[],
): Promise<{ pixel_values: Tensor; image_grid_thw?: Tensor }> {
  if (!processor.image_processor || !processor.tokenizer) throw new AttentionPackError('this model has no image processor or no tokenizer');
  return (await processor.image_processor([...images])) as { pixel_values: Tensor; image_grid_thw?: Tensor };
}
