/** Pictures and the questions behind them as model inputs: the pictures are read once, and all questions share the tokens up to the last one. */
import { type PreTrainedModel, type Processor, type RawImage, Tensor } from '@huggingface/transformers';
import { AttentionPackError, assert } from '../errors.ts';
import { imageTokenOf } from '../images.ts';
import { type Prompt, prompt, question } from '../prompt.ts';

/** What all questions share: tokens up to and with the last image token, and the pictures. */
export interface AskedContext {
  readonly inputs: Prompt;
  readonly numTokens: number;
  readonly numVisualTokens: number;
  readonly numImages: number;
  readonly questions: readonly AskedQuestion[];
}

/** One question behind the context. */
export interface AskedQuestion {
  readonly text: string;
  /** The whole prompt, context included, without the pictures: those are in the cache. */
  readonly inputs: Prompt;
}

export interface PrepareOptions {
  /** Whether the pictures are frames of one clip. Default false. */
  readonly clip?: boolean;
  /** What is done to the pictures between their processor and the model. Default: nothing. */
  readonly pixels?: (pixels: Tensor) => Tensor;
}

/**
 * Inputs of a context and of each question behind it, every question on its own as the first turn of a conversation.
 *
 * @throws {AttentionPackError} without questions or pictures, or if a chat template puts what differs between questions before the pictures
 */
export async function prepare(
  model: PreTrainedModel,
  processor: Processor,
  images: readonly RawImage[],
  questions: readonly string[],
  { clip = false, pixels = (tensor) => tensor }: PrepareOptions = {},
): Promise<AskedContext> {
  if (!questions.length) throw new AttentionPackError('there are no questions to compare answers of; give at least one');
  if (!images.length) throw new AttentionPackError('the prompt has no images; give at least one');
  const reader = readingOnce(processor);
  const prompts: Prompt[] = [];
  for (const text of questions) prompts.push(await prompt(reader, [question(text, images.length, { clip })], images));
  const [first] = prompts;
  assert(first, 'a prompt for each question');
  const ids = first.input_ids.data as BigInt64Array;
  const imageToken = BigInt(imageTokenOf(model) ?? -1);
  const numTokens = ids.lastIndexOf(imageToken) + 1;
  if (!numTokens) throw new AttentionPackError("the prompt has no image tokens; the model's chat template must write one for each image");
  for (const [i, { input_ids }] of prompts.entries()) {
    const other = input_ids.data as BigInt64Array;
    if (ids.subarray(0, numTokens).some((id, at) => id !== other[at])) {
      throw new AttentionPackError(
        `the model's chat template puts something of question ${i + 1} before the pictures; one packed context cannot serve several questions`,
      );
    }
  }
  const { pixel_values } = first;
  return {
    inputs: {
      ...first,
      input_ids: head(first.input_ids, numTokens),
      attention_mask: head(first.attention_mask, numTokens),
      ...(pixel_values && { pixel_values: pixels(pixel_values) }),
    },
    numTokens,
    numVisualTokens: ids.reduce((sum, id) => sum + Number(id === imageToken), 0),
    numImages: images.length,
    questions: prompts.map(({ pixel_values: _, ...inputs }, i) => ({ text: questions[i] ?? '', inputs })),
  };
}

/** Tokens of a question, behind `numTokens` of its context. */
export function tailOf({ inputs }: AskedQuestion, numTokens: number): BigInt64Array {
  return (inputs.input_ids.data as BigInt64Array).subarray(numTokens);
}

function head(tensor: Tensor, length: number): Tensor {
  return new Tensor('int64', (tensor.data as BigInt64Array).slice(0, length), [1, length]);
}

type ImageProcessor = ((images: RawImage[], ...rest: unknown[]) => Promise<unknown>) & { config: unknown };

/** The same processor, except that pictures it has read are not read again. It remembers them as long as it lives. */
function readingOnce(processor: Processor): Processor {
  const { image_processor } = processor as unknown as { image_processor?: ImageProcessor };
  if (!image_processor) return processor;
  const seen: { readonly images: readonly RawImage[]; readonly read: Promise<unknown> }[] = [];
  const once = (images: RawImage[], ...rest: unknown[]): Promise<unknown> => {
    const known = seen.find((entry) => entry.images.length === images.length && entry.images.every((image, i) => image === images[i]));
    if (known) return known.read;
    const read = image_processor(images, ...rest);
    seen.push({ images: [...images], read });
    return read;
  };
  Object.setPrototypeOf(once, image_processor);
  // Processors are functions that call their own `_call`; one that inherits from another calls that one's, with our picture reader.
  const reader = (...args: unknown[]): unknown => (reader as unknown as { _call(...args: unknown[]): unknown })._call(...args);
  Object.setPrototypeOf(reader, processor);
  Object.defineProperty(reader, 'components', { value: { ...processor.components, image_processor: once } });
  return reader as unknown as Processor;
}
