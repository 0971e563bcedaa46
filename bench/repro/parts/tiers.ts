/** Attention-aware decompression: quality against r1, the share of visual tokens read by all columns, for keys, values and both; figure 4. */
import type { Part } from '../part.ts';
import { measureQuality, type Quality } from '../quality.ts';
import { namesOf, type TierSetting, tierSettings } from '../settings.ts';
import { QUALITY_TASK, qualityTask } from '../tasks.ts';
import { named } from './named.ts';

export interface TiersData {
  readonly settings: readonly TierSetting[];
  readonly quality: Quality;
}

export const tiers: Part<TiersData> = {
  name: 'tiers',
  about: 'quality against r1 for keys, values and both',
  minutes: 3,
  asks: ({ pixels }, { quality }) => ({
    task: QUALITY_TASK,
    pixels: pixels ?? null,
    contexts: quality,
    settings: namesOf(tierSettings().map(({ setting }) => setting)),
  }),
  async measure(running) {
    const settings = named(tierSettings());
    const tasks = [{ task: qualityTask(running.subject), contexts: running.sizes.quality }];
    return { settings, quality: await measureQuality(running, namesOf(settings.map(({ setting }) => setting)), tasks) };
  },
};
