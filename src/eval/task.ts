/** What an evaluation asks: contexts of pictures, questions about them, and how an answer is judged. */
import type { RawImage } from '@huggingface/transformers';

/** One question about a context. Each is asked on its own behind the shared pictures, as the first turn of a conversation. */
export interface Question {
  /** The whole text of the user's turn behind the pictures, instructions to the model included. */
  readonly text: string;
  /** Answers taken as right, the preferred one first. */
  readonly answers: readonly string[];
  /** Sort of question within the task, for a table by kind. Default: the task's name. */
  readonly kind?: string;
  /** Options of a multiple choice, in the order of their letters A, B, C... */
  readonly choices?: readonly string[];
}

/** Pictures that several questions share; packed once. */
export interface Context {
  /** Unique within its task and stable over runs: results are kept under it. */
  readonly id: string;
  /** How many pictures `images()` gives. */
  readonly numImages: number;
  /** Reads or draws the pictures, in the prompt's order. */
  images(): Promise<RawImage[]>;
  /** True if the pictures are frames of one clip, in order of time. Default false. */
  readonly isClip?: boolean;
  readonly questions: readonly Question[];
}

/** Judges an answer: 0 (wrong) to 1 (right), as decoded, without special tokens. */
export type Metric = (answer: string, question: Question) => number;

/** A named set of contexts with its metric. The same options always give the same contexts in the same order. */
export interface Task {
  /** As given to `--tasks`. */
  readonly name: string;
  /** One line for `--help` and for reports. */
  readonly about: string;
  /** What a score is, e.g. 'accuracy' or 'ROUGE-L'. */
  readonly metricName: string;
  readonly metric: Metric;
  /** Longest answer, in tokens. */
  readonly maxNewTokens: number;
  /** Contexts there are. */
  readonly size: number;
  /** The contexts from index `from` on; pictures are read only when asked for. */
  contexts(from?: number): AsyncIterable<Context>;
}
