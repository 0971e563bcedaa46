/** Quality, bytes and decode throughput against rank, beside the dense cache and those of ONNX Runtime. */
import type { Part, Subject } from '../part.ts';
import { measureQuality, type Quality } from '../quality.ts';
import { namesOf, QUANTISED, type RankSetting, rankSettings, UNPACKED } from '../settings.ts';
import { measureSteps, type Steps } from '../steps.ts';
import { QUALITY_TASK, qualityTask } from '../tasks.ts';
import { named } from './named.ts';

export interface RankData {
  readonly settings: readonly RankSetting[];
  readonly quality: Quality;
  readonly steps: Steps;
}

const all = (subject: Subject): string[] => namesOf([UNPACKED, ...QUANTISED, ...rankSettings(subject).map(({ setting }) => setting)]);

export const rank: Part<RankData> = {
  name: 'rank',
  about: 'quality, bytes and decode throughput against rank',
  minutes: 4,
  asks: (subject, { quality, steps }) => ({
    task: QUALITY_TASK,
    pixels: subject.pixels ?? null,
    contexts: quality,
    steps,
    settings: all(subject),
  }),
  async measure(running) {
    const { subject, sizes } = running;
    const tasks = [{ task: qualityTask(subject), contexts: sizes.quality }];
    const quality = await measureQuality(running, all(subject), tasks, { to: 0.6 });
    return { settings: named(rankSettings(subject)), quality, steps: await measureSteps(running, all(subject), 0.6) };
  },
};
