/** Packing together with eviction, quantised codes and fusion: attention on codes as they are instead of rebuilt keys. */
import type { Part, Subject } from '../part.ts';
import { measureQuality, type Quality } from '../quality.ts';
import { combinations as all, type Combination, namesOf, QUANTISED, UNPACKED } from '../settings.ts';
import { measureSteps, type Steps } from '../steps.ts';
import { QUALITY_TASK, qualityTask } from '../tasks.ts';
import { named } from './named.ts';

export interface CombinationsData {
  readonly settings: readonly Combination[];
  readonly quality: Quality;
  readonly steps: Steps;
}

const names = (subject: Subject): string[] => namesOf([UNPACKED, ...QUANTISED, ...all(subject).map(({ setting }) => setting)]);

export const combinations: Part<CombinationsData> = {
  name: 'combinations',
  about: 'packing with eviction, quantisation and fusion',
  minutes: 4.5,
  asks: (subject, { quality, steps }) => ({
    task: QUALITY_TASK,
    pixels: subject.pixels ?? null,
    contexts: quality,
    steps,
    settings: names(subject),
  }),
  async measure(running) {
    const { subject, sizes } = running;
    const tasks = [{ task: qualityTask(subject), contexts: sizes.quality }];
    const quality = await measureQuality(running, names(subject), tasks, { to: 0.6 });
    return { settings: named(all(subject)), quality, steps: await measureSteps(running, names(subject), 0.6) };
  },
};
