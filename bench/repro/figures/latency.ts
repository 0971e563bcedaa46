/** Figure 5: total decode latency of a hundred queries. */
import type { PartResult } from '../part.ts';
import type { LatencyData } from '../parts/latency.ts';
import { code, megabytes, percent, table, times } from '../text.ts';
import { type Figure, nameOf } from './figure.ts';

export const latency: Figure<LatencyData> = {
  part: 'latency',
  title: 'Total decode latency of 100 queries',
  paper: 'Figure 5: seconds to decode the answers of 100 queries, LLaVA-1.5-7B, dense against packed.',
  ours: 'One context of many pictures is read once into each cache and asked 100 times; a query is its question read and its answer generated behind the held context. Blocks of ten queries go through all caches in turn, every other block backwards; times faster are ratios to stock transformers.js in the same block. Reading the context stands apart, packing included and the encoding of pictures left out.',
  draw: (results) => ({
    plots: [
      {
        name: 'latency',
        title: 'seconds spent on queries',
        columns: 2,
        x: { title: 'queries answered' },
        y: { title: 'seconds, cumulated', own: true },
        points: results.flatMap((result) =>
          result.data.rows.flatMap(({ setting, cumulativeMs }) =>
            cumulativeMs.map((ms, block) => ({
              panel: nameOf(result),
              series: setting,
              x: (block + 1) * result.data.perBlock,
              y: ms / 1000,
            })),
          ),
        ),
      },
    ],
    tables: results.map((result) => ({ model: nameOf(result), table: tableOf(result) })),
    reading: results.flatMap(readingOf),
  }),
};

const totalMs = ({ cumulativeMs }: LatencyData['rows'][number]): number => cumulativeMs.at(-1) ?? 0;

function tableOf({ data }: PartResult<LatencyData>): string {
  const note = `${data.queries} queries of ${data.pictures} pictures, ${data.contextTokens} tokens. Times faster: median of blocks, least to most. Times smaller: dense float16 bytes over bytes held.`;
  return `${note}\n\n${table(
    ['cache', 'queries, s', 'ms per answer token', 'times faster', 'cache held', 'times smaller', 'same answers', 'reading, s'],
    data.rows.map((row) => [
      code(row.setting),
      (totalMs(row) / 1000).toFixed(1),
      (totalMs(row) / Math.max(1, row.tokens)).toFixed(1),
      `${times(row.timesFaster.median)} (${times(row.timesFaster.least)} to ${times(row.timesFaster.most)})`,
      megabytes(row.heldBytes),
      times(data.denseFp16Bytes / row.heldBytes),
      percent(row.same / Math.max(1, data.queries)),
      (row.prefillMs / 1000).toFixed(2),
    ]),
  )}`;
}

function readingOf(result: PartResult<LatencyData>): string[] {
  const { rows, queries } = result.data;
  const dense = rows.find(({ setting }) => setting === 'dense');
  const plain = rows.find(({ setting }) => setting === 'dense-fp16');
  const best = rows.filter(({ setting }) => setting.startsWith('packed')).sort((a, b) => totalMs(a) - totalMs(b))[0];
  if (!dense || !best) return [];
  const seconds = (row: typeof best): string => `${(totalMs(row) / 1000).toFixed(1)} s`;
  const graph = plain ? `, our graph with nothing packed ${seconds(plain)}` : '';
  return [
    `${nameOf(result)}: ${queries} queries take stock transformers.js ${seconds(dense)}${graph}, ${code(best.setting)} ${seconds(best)} with ${percent(best.same / Math.max(1, queries))} of the answers the same.`,
  ];
}
