/** Retrieval against number of frames at fixed memory. */
import type { PartResult } from '../part.ts';
import type { FittedCell, FramesData } from '../parts/frames.ts';
import { code, megabytes, short, spread, table } from '../text.ts';
import { type Figure, nameOf } from './figure.ts';

export const frames: Figure<FramesData> = {
  part: 'frames',
  title: 'Retrieval against number of frames at fixed memory',
  paper: 'A smaller cache holds more frames of a video in the same memory, and with more frames retrieval gets better.',
  ours: 'Needles in 4 to 64 pictures or frames: which shows a thing, what one shows, the colour behind a thing; half as many questions below 16 frames. For the bytes that a dense float16 cache takes for 4, 8 and 16 frames: the most frames each cache holds (of the numbers measured), its score with so many, and frames held times score: how many can be found again.',
  draw: (results) => ({
    plots: [
      {
        name: 'frames',
        title: 'score against frames held',
        columns: 2,
        x: { title: 'frames', log: true },
        y: { title: 'score, 95 % interval', format: '.0%' },
        points: results.flatMap((result) =>
          result.data.cells.map(({ setting, frames: x, score }) => ({
            panel: nameOf(result),
            series: setting,
            x,
            y: score.mean,
            low: score.low,
            high: score.high,
          })),
        ),
      },
      {
        name: 'frames-memory',
        title: 'frames that can be found again, at equal memory',
        columns: 2,
        x: { title: 'memory, in frames of a dense float16 cache', log: true },
        y: { title: 'frames held x score' },
        points: results.flatMap((result) =>
          result.data.fitted.flatMap(({ denseFrames, setting, cell }) =>
            cell ? [{ panel: nameOf(result), series: setting, x: denseFrames, y: cell.frames * cell.score.mean }] : [],
          ),
        ),
      },
    ],
    tables: results.map((result) => ({ model: nameOf(result), table: tableOf(result) })),
    reading: results.flatMap(readingOf),
  }),
};

function tableOf({ data }: PartResult<FramesData>): string {
  const rows = data.fitted.map(({ denseFrames, budget, setting, cell }) => [
    `${megabytes(budget)}, dense ${denseFrames}`,
    code(setting),
    ...(cell
      ? [String(cell.frames), megabytes(cell.bytes), spread(cell.score), `${cell.score.n} of ${cell.score.numContexts}`, found(cell)]
      : ['none', '', '', '', '']),
  ]);
  const head = ['memory', 'cache', data.clip ? 'frames held' : 'pictures held', 'bytes', 'score', 'questions of contexts', 'held x score'];
  return table(head, rows);
}

const found = (cell: NonNullable<FittedCell['cell']>): string => short(cell.frames * cell.score.mean);

function readingOf(result: PartResult<FramesData>): string[] {
  const { fitted, clip } = result.data;
  const largest = Math.max(0, ...fitted.map(({ denseFrames }) => denseFrames));
  const at = fitted
    .filter(({ denseFrames }) => denseFrames === largest)
    .flatMap((entry) => (entry.cell ? [{ ...entry, cell: entry.cell }] : []));
  const dense = at.find(({ setting }) => setting === 'dense');
  const best = at.toSorted((a, b) => b.cell.frames * b.cell.score.mean - a.cell.frames * a.cell.score.mean)[0];
  if (!dense || !best) return [];
  const what = clip ? 'frames' : 'pictures';
  const held = (entry: typeof best): string =>
    `${code(entry.setting)} holds ${entry.cell.frames} ${what} and answers ${spread(entry.cell.score)}`;
  const most = best === dense ? 'no other cache finds more' : `${held(best)}, the most found again`;
  return [`${nameOf(result)} in the memory of ${largest} dense ${what}: ${held(dense)}; ${most}.`];
}
