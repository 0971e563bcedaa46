/** Needles among frames at fixed memory: the smaller the cache, the more frames it holds, and the more of them can be found again. */
import { DENSE } from '../../../src/eval/settings.ts';
import { framesThatFit } from '../fit.ts';
import type { Part, Subject } from '../part.ts';
import { measureQuality, type Quality, type QualityRow } from '../quality.ts';
import { frameSettings, namesOf } from '../settings.ts';
import type { Sizes } from '../sizes.ts';
import { needleTask } from '../tasks.ts';

/** One setting at one number of frames. */
export interface FrameCell {
  readonly setting: string;
  readonly frames: number;
  /** Held for a context, in the mean; of the dense cache as float16. */
  readonly bytes: number;
  readonly score: QualityRow['score'];
}

export interface FittedCell {
  /** Frames that a dense cache of these bytes holds. */
  readonly denseFrames: number;
  readonly budget: number;
  readonly setting: string;
  /** What fits; undefined: not even the fewest frames measured. */
  readonly cell?: FrameCell | undefined;
}

export interface FramesData {
  /** Whether frames are those of one clip, or pictures each with its number. */
  readonly clip: boolean;
  readonly cells: readonly FrameCell[];
  readonly fitted: readonly FittedCell[];
  readonly quality: Quality;
}

/** Memory is that of a dense cache of so many frames. */
const DENSE_FRAMES = [4, 8, 16];

export const frames: Part<FramesData> = {
  name: 'frames',
  about: 'retrieval against number of frames at fixed memory',
  minutes: 5,
  asks: (subject, { frames: numbers }) => ({
    tasks: tasksOf(subject, numbers).map(({ task, contexts }) => ({ task: task.name, contexts })),
    pixels: subject.pixels ?? null,
    settings: namesOf(frameSettings(subject)),
  }),
  async measure(running) {
    const { subject, sizes } = running;
    const quality = await measureQuality(running, namesOf(frameSettings(subject)), tasksOf(subject, sizes.frames));
    const cells = quality.rows.map((row) => cellOf(row, framesOf(row.task)));
    return { clip: subject.readsClips, cells, fitted: fitAll(cells), quality };
  },
};

const tasksOf = (subject: Subject, numbers: Sizes['frames']) =>
  numbers.map(({ frames: count, contexts }) => ({ task: needleTask(subject, count, contexts), contexts }));

/** `needle-16`, `needle-frames-16` -> 16 */
const framesOf = (task: string): number => Number(task.split('-').at(-1));

function cellOf({ setting, bytes, score }: QualityRow, count: number): FrameCell {
  return { setting, frames: count, bytes: setting === DENSE.name ? bytes.denseFp16PerContext : bytes.heldPerContext, score };
}

/** What fits into the bytes of a dense cache of 4, 8 and 16 frames, for every setting. */
export function fitAll(cells: readonly FrameCell[]): FittedCell[] {
  const settings = [...new Set(cells.map(({ setting }) => setting))];
  return DENSE_FRAMES.flatMap((denseFrames) => {
    const budget = cells.find(({ setting, frames: count }) => setting === DENSE.name && count === denseFrames)?.bytes;
    if (budget === undefined) return [];
    return settings.map((setting) => ({ denseFrames, budget, setting, cell: framesThatFit(cells, setting, budget) }));
  });
}
