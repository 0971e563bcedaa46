/** What a part of the reproduction is: what it asks of a model, how it measures that, and the result it leaves. */

import type { JournalIdentity } from '../../src/eval/index.ts';
import type { LoadOptions } from '../../src/hook.ts';
import type { Machine } from '../machine.ts';
import type { Kept } from './kept.ts';
import type { Sizes } from './sizes.ts';

/** In the order they are measured and shown: cheap ones first. */
export const PART_NAMES = ['variance', 'tiers', 'rank', 'combinations', 'frames', 'latency'] as const;
export type PartName = (typeof PART_NAMES)[number];

/** A model and what parts choose their settings by. */
export interface Subject {
  /** Folder or id, as it is loaded. */
  readonly model: string;
  readonly name: string;
  readonly load: LoadOptions;
  readonly identity: JournalIdentity;
  /** W, the narrowest layer's: no rank is larger. */
  readonly width: number;
  /** Pixels a side of drawn pictures; undefined: the tasks' own. */
  readonly pixels: number | undefined;
  /** Whether many pictures are asked about as frames of one clip, as the model's tower reads clips. */
  readonly readsClips: boolean;
}

/** What a part will do: two runs that ask the same may stand for one another. Plain JSON. */
export type Asked = Readonly<Record<string, unknown>>;

export interface Running {
  readonly subject: Subject;
  readonly sizes: Sizes;
  /** Folder for what is finished of this part. */
  readonly kept: Kept;
  readonly signal: AbortSignal;
  /** @param share of this part that is finished, 0 to 1 */
  readonly onProgress: (share: number, text: string) => void;
}

export interface Part<Data> {
  readonly name: PartName;
  readonly about: string;
  /** About how long it takes on two quiet cores for models such as the embedded ones, in minutes. */
  readonly minutes: number;
  /** @throws {AttentionPackError} if this version cannot measure it; the part is then left out, with that reason */
  asks(subject: Subject, sizes: Sizes): Asked;
  measure(running: Running): Promise<Data>;
}

/** One part of one model, as it lies in bench/results. */
export interface PartResult<Data = unknown> {
  readonly format: 'attentionpack-repro';
  readonly version: 1;
  readonly part: PartName;
  readonly model: JournalIdentity;
  readonly machine: Machine;
  /** ISO 8601, when it was finished. */
  readonly date: string;
  /** Of the call that finished it; what earlier calls had done took none of them. */
  readonly seconds: number;
  readonly asked: Asked;
  readonly data: Data;
}
