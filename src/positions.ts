/**
 * Positions on three axes, time, height and width, for decoders with M-RoPE (Qwen2-VL, https://arxiv.org/abs/2409.12191, section 2.1).
 *
 * A text token has one number on all axes; an image's tokens have their frame, row and column counted from where the image begins; what follows an
 * image counts on behind its largest number. So positions of a turn follow from where the turns before ended, and nothing else of them.
 */
import { type PreTrainedModel, Tensor } from '@huggingface/transformers';
import { AttentionPackError } from './errors.ts';
import { conversationSpans, GRID_MODELS, mergeSizeOf } from './images/grid.ts';
import { imageTokenOf } from './images.ts';
import { type Span, stepsOf } from './prefill.ts';

const NUM_AXES = 3;

/** One sequence's new tokens. */
export interface NewTokens {
  /** Position of the first of them. */
  readonly start: number;
  /** 0 for padding. */
  readonly mask: ArrayLike<number>;
  /** Images among them, in order, with their grids. */
  readonly spans: readonly Span[];
}

/** position_ids [3, B, N] of new tokens; 0 for padding. */
export function tokenPositions(rows: readonly NewTokens[]): Tensor {
  const numTokens = rows[0]?.mask.length ?? 0;
  const data = new BigInt64Array(NUM_AXES * rows.length * numTokens);
  rows.forEach(({ start, mask, spans }, b) => {
    const put = (n: number, place: readonly number[]): void => {
      place.forEach((position, axis) => {
        data[(axis * rows.length + b) * numTokens + n] = BigInt(position);
      });
    };
    let next = start;
    for (let n = 0, s = 0; n < numTokens; ) {
      const span = spans[s];
      if (span?.grid && n === span.start) {
        const [, height, width] = span.grid;
        for (let i = 0; n < span.end; n++, i++) {
          put(n, [next + Math.floor(i / (height * width)), next + (Math.floor(i / width) % height), next + (i % width)]);
        }
        next += stepsOf(span);
        s++;
      } else {
        if (mask[n]) put(n, [next, next, next++]);
        n++;
      }
    }
  });
  return new Tensor('int64', data, [NUM_AXES, rows.length, numTokens]);
}

/**
 * Axes of the decoder's position_ids: 3 with M-RoPE, 1 without, 0 if it takes none.
 *
 * @throws {AttentionPackError} if there are three for a model whose images are numbered in a way not known here
 */
export function positionAxes(model: PreTrainedModel): 0 | 1 | 3 {
  for (const session of Object.values(
    model.sessions as Record<string, { inputMetadata?: readonly { name: string; shape?: unknown[] }[] }>,
  )) {
    const input = session.inputMetadata?.find(({ name }) => name === 'position_ids');
    if (!input) continue;
    if (input.shape?.length !== NUM_AXES) return 1;
    if (mergeSizeOf(model) !== undefined) return NUM_AXES;
    const { model_type } = model.config as unknown as { model_type?: string };
    throw new AttentionPackError(
      `the decoder of model type '${model_type}' takes positions on three axes; they are known of ${GRID_MODELS.join(', ')} only`,
    );
  }
  return 0;
}

/** A conversation from its first token on. */
export interface Conversation {
  readonly input_ids: Tensor;
  readonly attention_mask?: Tensor;
  readonly image_grid_thw?: Tensor | undefined;
}

/**
 * position_ids of a conversation's tokens for a stock model; undefined where the model counts them itself. Stock code of M-RoPE models is right for
 * a prompt with images, and counts wrong for new tokens alone and for what it generates behind text alone.
 */
export function conversationPositions(
  model: PreTrainedModel,
  { input_ids, attention_mask, image_grid_thw }: Conversation,
): Tensor | undefined {
  const mergeSize = mergeSizeOf(model);
  if (mergeSize === undefined || positionAxes(model) !== NUM_AXES) return undefined;
  const [batch = 0, numTokens = 0] = input_ids.dims;
  const row = (tensor: Tensor, b: number): number[] =>
    Array.from((tensor.data as BigInt64Array).subarray(b * numTokens, (b + 1) * numTokens), Number);
  const ids = Array.from({ length: batch }, (_, b) => row(input_ids, b));
  const spans = conversationSpans(ids, imageTokenOf(model) ?? -1, mergeSize, image_grid_thw);
  return tokenPositions(
    ids.map((tokens, b) => ({ start: 0, mask: attention_mask ? row(attention_mask, b) : tokens.map(() => 1), spans: spans[b] ?? [] })),
  );
}
