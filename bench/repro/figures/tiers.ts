/** Figure 4: quality against r1, the share of visual tokens decompressed in full, for keys, values and both. */
import type { PartResult } from '../part.ts';
import type { TiersData } from '../parts/tiers.ts';
import type { QualityRow } from '../quality.ts';
import type { TierSetting, TiersOf } from '../settings.ts';
import { against, percent, points, spread, table, times } from '../text.ts';
import { type Figure, nameOf } from './figure.ts';

const NAMES: Readonly<Record<TiersOf, string>> = { keys: 'keys', values: 'values', both: 'keys and values' };

export const tiers: Figure<TiersData> = {
  part: 'tiers',
  title: 'Attention-aware decompression: quality against r1',
  paper:
    'Figure 4: accuracy against the share r1 of visual tokens, those of the most attention, that are decompressed at full rank while the others make do with fewer columns, for keys only, values only and both.',
  ours: 'Task score of five questions about eight pictures, paired with the dense cache, at r1 of 0.125 to 0.5; at 0 all tokens are read by the few columns, at 1 all by the many.',
  draw: (results) => ({
    plots: [
      {
        name: 'tiers',
        title: 'score and divergence against r1',
        columns: 2,
        x: { title: 'r1, share of visual tokens read by all columns' },
        y: { title: 'score with 95 % interval; KL in nats', own: true },
        points: results.flatMap((result) =>
          rowsOf(result).flatMap(({ of, share, row }) => [
            {
              panel: `${nameOf(result)}, score`,
              series: NAMES[of],
              x: share,
              y: row.score.mean,
              low: row.score.low,
              high: row.score.high,
            },
            { panel: `${nameOf(result)}, KL`, series: NAMES[of], x: share, y: row.loyalty.kl },
          ]),
        ),
      },
    ],
    tables: results.map((result) => ({ model: nameOf(result), table: tableOf(result) })),
    reading: results.flatMap(readingOf),
  }),
};

interface Tier extends TierSetting {
  readonly row: QualityRow;
}

function rowsOf({ data }: PartResult<TiersData>): Tier[] {
  return data.settings.flatMap((entry) => {
    const row = data.quality.rows.find(({ setting }) => setting === entry.setting);
    return row ? [{ ...entry, row }] : [];
  });
}

function tableOf(result: PartResult<TiersData>): string {
  return table(
    ['of', 'r1', 'score', 'against dense', 'top-1', 'KL', 'images x smaller'],
    rowsOf(result).map(({ of, share, row }) => [
      NAMES[of],
      String(share),
      spread(row.score),
      against(row.difference),
      percent(row.loyalty.top1),
      row.loyalty.kl.toFixed(4),
      times(row.bytes.visualCompression),
    ]),
  );
}

/** The paper's default. */
const TOLD = 0.25;

function readingOf(result: PartResult<TiersData>): string[] {
  const rows = rowsOf(result);
  const told = (Object.keys(NAMES) as TiersOf[]).flatMap((of) => {
    const at = (share: number): QualityRow | undefined => rows.find((row) => row.of === of && row.share === share)?.row;
    const [none, some, all] = [at(0), at(TOLD), at(1)];
    if (!none || !some || !all) return [];
    const kl = `KL ${none.loyalty.kl.toFixed(4)} at 0, ${some.loyalty.kl.toFixed(4)} at ${TOLD}, ${all.loyalty.kl.toFixed(4)} at 1`;
    return [`${NAMES[of]}: ${points(some.score.mean - all.score.mean)} points of score against r1 = 1 (${kl})`];
  });
  return told.length ? [`${nameOf(result)} at r1 = ${TOLD}: ${told.join('; ')}.`] : [];
}
