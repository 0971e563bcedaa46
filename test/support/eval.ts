/** A task of noise pictures for tests of the evaluation, and what it was asked for. */
import type { RawImage } from '@huggingface/transformers';
import type { Context, Question, Task } from '../../src/eval/task.ts';
import { picture } from './models.ts';

export interface TaskOptions {
  readonly name?: string;
  readonly size?: number;
  readonly maxNewTokens?: number;
  /** Pictures of a context; the seed is the context's index. */
  readonly images?: (index: number) => Promise<RawImage[]>;
  readonly isClip?: boolean;
  readonly questions?: readonly Question[];
}

export interface NoiseTask extends Task {
  /** Contexts whose pictures were asked for, in order. */
  readonly drawn: readonly string[];
}

const QUESTIONS: readonly Question[] = [
  { text: 'What is in the first?', answers: ['a'], kind: 'first' },
  { text: 'And what is in all of them, a little longer?', answers: ['b'], kind: 'all' },
];

/** Judges by the share of a's, so that scores differ between answers of noise. */
export function noiseTask(options: TaskOptions = {}): NoiseTask {
  const { name = 'noise', size = 3, maxNewTokens = 6, questions = QUESTIONS, isClip = false } = options;
  const drawn: string[] = [];
  const images = options.images ?? (async (index: number) => [picture(2 * index + 1), picture(2 * index + 2)]);
  const context = (index: number): Context => ({
    id: `${name}-${index}`,
    numImages: 2,
    isClip,
    questions,
    images: async () => {
      drawn.push(`${name}-${index}`);
      return images(index);
    },
  });
  return {
    name,
    about: 'two pictures of noise',
    metricName: 'likeness',
    metric: (answer) => [...answer].filter((letter) => letter <= 'a').length / Math.max(1, answer.length),
    maxNewTokens,
    size,
    drawn,
    async *contexts(from = 0) {
      for (let index = from; index < size; index++) yield context(index);
    },
  };
}
