/** Quality, bytes and throughput against rank. */
import type { PartResult } from '../part.ts';
import type { RankData } from '../parts/rank.ts';
import { against, code, percent, spread, table, times } from '../text.ts';
import { type Figure, nameOf } from './figure.ts';
import { type Measured, measured } from './measured.ts';

export const rank: Figure<RankData> = {
  part: 'rank',
  title: 'Quality, bytes and throughput against rank',
  paper:
    'Caches five to eight times smaller at rank 64 with answers kept, and up to 74 % more tokens a second at equal memory, on LLaVA-1.5-7B.',
  ours: 'Rank with a basis for each image (as in the paper) and with one for all, everything in float16. Score, loyalty and bytes over contexts of eight pictures; milliseconds per token of `generate` behind one longer context, each setting in turn in every round, and the ratio to stock transformers.js in the same round. `dense-fp16` is our graph with nothing packed: what it gains is the graph’s, not the packing’s.',
  draw: (results) => ({
    plots: [
      {
        name: 'rank',
        title: 'quality, bytes and throughput against rank',
        columns: 2,
        x: { title: 'rank', log: true },
        y: { title: '', own: true },
        points: results.flatMap((result) =>
          result.data.settings.flatMap(({ basisPer, rank: x, setting }) => {
            const row = measured(result.data).find((entry) => entry.setting === setting);
            if (!row) return [];
            const series = `${nameOf(result)}, basis per ${basisPer}`;
            const { score, loyalty, bytes } = row;
            return [
              { panel: 'score, 95 % interval', series, x, y: score.mean, low: score.low, high: score.high },
              { panel: 'top-1 agreement with dense', series, x, y: loyalty.top1 },
              { panel: 'times smaller than dense float16, everything', series, x, y: bytes.compression },
              ...(row.step ? [{ panel: 'times faster than stock, per token', series, x, y: row.step.timesFaster.median }] : []),
            ];
          }),
        ),
      },
    ],
    tables: results.map((result) => ({ model: nameOf(result), table: tableOf(result) })),
    reading: results.flatMap(readingOf),
  }),
};

function tableOf({ data }: PartResult<RankData>): string {
  const note = `Milliseconds per token behind ${data.steps.pictures} pictures, ${data.steps.tokens} tokens; times faster: median of ${data.steps.rounds} rounds, least to most.`;
  return `${note}\n\n${qualityTable(measured(data))}`;
}

/** Quality beside bytes beside time. */
export function qualityTable(rows: readonly Measured[]): string {
  return table(
    ['cache', 'all x smaller', 'images x smaller', 'score', 'against dense', 'top-1', 'KL', 'ms per token', 'times faster'],
    rows.map(({ setting, score, difference, loyalty, bytes, step }) => [
      code(setting),
      times(bytes.compression),
      times(bytes.visualCompression),
      spread(score),
      against(difference),
      percent(loyalty.top1),
      loyalty.kl.toFixed(4),
      step ? step.msPerToken.toFixed(2) : '',
      step ? `${times(step.timesFaster.median)} (${times(step.timesFaster.least)} to ${times(step.timesFaster.most)})` : '',
    ]),
  );
}

/** Agreement that a cache is called loyal from. */
const LOYAL = 0.99;

function readingOf(result: PartResult<RankData>): string[] {
  const rows = measured(result.data);
  const own = new Set(result.data.settings.map(({ setting }) => setting));
  const told = ['packed', 'int8', 'int4'].flatMap((name) => {
    const best = rows
      .filter(({ setting, loyalty }) => loyalty.top1 >= LOYAL && (name === 'packed' ? own.has(setting) : setting === name))
      .sort((a, b) => b.bytes.compression - a.bytes.compression)[0];
    return best ? [`${code(best.setting)} ${times(best.bytes.compression)} times smaller (score ${against(best.difference)} points)`] : [];
  });
  const packed = told.some((text) => text.includes('packed'));
  return [
    `${nameOf(result)}, smallest of each kind with at least ${percent(LOYAL, 0)} top-1: ${told.length ? told.join('; ') : 'none'}.${packed ? '' : ' No rank measured reaches it.'}`,
  ];
}
