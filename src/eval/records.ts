/** What a run writes down of each context in each setting; everything else is computed from these. */
import type { HeldBytes } from '../compare/held.ts';

export interface QuestionRecord {
  /** Sort of question within the task. */
  readonly kind: string;
  /** As decoded, without special tokens. */
  readonly answer: string;
  /** By the task's metric, 0 to 1. */
  readonly score: number;
  /** Whether the answer is the dense one, token for token. */
  readonly same: boolean;
  /** Tokens of the dense answer, and how many of them are the most likely ones here too, teacher-forced. */
  readonly tokens: number;
  readonly top1: number;
  /** Kullback-Leibler divergence from the dense distribution, summed over those tokens, in nats. */
  readonly kl: number;
}

export interface ContextRecord {
  readonly task: string;
  readonly setting: string;
  /** The context's id. */
  readonly context: string;
  /** Which context of the task it is, from 0. */
  readonly index: number;
  readonly images: number;
  /** Held while the first question's dense answer stands in the cache. */
  readonly bytes: HeldBytes;
  readonly questions: readonly QuestionRecord[];
  /** Time it took, for the estimate of what is left. */
  readonly ms: number;
}

/** A context no setting was asked about, and why. */
export interface SkippedContext {
  readonly task: string;
  readonly context: string;
  readonly index: number;
  readonly skipped: string;
}

export type JournalEntry = ContextRecord | SkippedContext;

export const isSkipped = (entry: JournalEntry): entry is SkippedContext => 'skipped' in entry;
