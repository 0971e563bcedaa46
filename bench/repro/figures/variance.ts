/** Figure 2: explained variance with and without combined heads and modality separation. */
import { SIDE_NAMES } from '../../../src/spectrum/plot.ts';
import type { PartResult } from '../part.ts';
import type { VarianceData } from '../parts/variance.ts';
import type { Group, LostCurve, LostPoint } from '../spectra.ts';
import { percent, table } from '../text.ts';
import { type Figure, nameOf } from './figure.ts';

const GROUP_NAMES: Readonly<Record<Group, string>> = {
  image: 'one image',
  images: 'all images',
  sampled: 'as many image tokens as text',
  text: 'text',
  together: 'images and text together',
};

const RANKS = [1, 4, 16, 64];
/** Rank the sentences speak of. */
const TOLD = 16;

export const variance: Figure<VarianceData> = {
  part: 'variance',
  title: 'Explained variance against rank',
  paper:
    'Figure 2: keys and values of visual tokens need fewer directions when all heads are laid side by side, and when visual and text tokens are factored apart.',
  ours: 'The exact share of energy that the best factoring of each rank explains, mean over layers and contexts of eight drawn pictures with all their questions. Heads alone, and images and text apart, are given as many numbers of codes and bases as heads combined, or both together, at that rank. The plot shows what is lost (1 − explained), since a logarithmic axis tells 99 % from 99.9 %.',
  draw: (results) => ({
    plots: [
      {
        name: 'variance',
        title: 'energy lost against rank',
        x: { title: 'rank (heads combined, tokens together)', log: true },
        y: { title: 'share of energy lost', log: true, format: '~%' },
        points: results.flatMap((result) =>
          result.data.curves.flatMap((curve) =>
            linesOf(curve).flatMap(({ series, of }) =>
              curve.points
                .filter((point) => of(point) >= 1e-5)
                .map((point) => ({ panel: `${nameOf(result)}, ${SIDE_NAMES[curve.side]}`, series, x: point.rank, y: of(point) })),
            ),
          ),
        ),
      },
    ],
    tables: results.map((result) => ({ model: nameOf(result), table: tableOf(result) })),
    reading: results.flatMap(readingOf),
  }),
};

interface Line {
  readonly series: string;
  of(point: LostPoint): number;
}

/** Lines of the plot; single images and samples are in the table only. */
function linesOf({ group }: LostCurve): Line[] {
  const name = GROUP_NAMES[group];
  if (group === 'image' || group === 'sampled') return [];
  if (group === 'together')
    return [
      { series: `${name}, one basis`, of: ({ combined }) => combined },
      { series: 'images and text apart, as many bytes', of: ({ apart = 0 }) => apart },
    ];
  return [
    { series: `${name}, heads combined`, of: ({ combined }) => combined },
    { series: `${name}, heads alone, as many bytes`, of: ({ heads }) => heads },
  ];
}

function tableOf({ data }: PartResult<VarianceData>): string {
  const explained = (lost: number | undefined): string => (lost === undefined ? '' : percent(1 - lost));
  const rows = data.curves.map(({ side, group, tokens, points }) => [
    SIDE_NAMES[side],
    GROUP_NAMES[group],
    tokens.toFixed(0),
    ...RANKS.map((rank) => {
      const point = pointAt(points, rank);
      const other = group === 'together' ? point?.apart : point?.heads;
      return point ? `${explained(point.combined)} / ${explained(other)}` : '';
    }),
  ]);
  const note =
    'Explained with heads combined / heads alone in as many bytes; of images and text together: one basis / apart in as many bytes.';
  return `${note}\n\n${table(['rows', 'tokens of', 'tokens', ...RANKS.map((rank) => `rank ${rank}`)], rows)}`;
}

/** Nothing where the matrix has a lower full rank. */
const pointAt = (points: readonly LostPoint[], rank: number): LostPoint | undefined => points.find((point) => point.rank === rank);

function readingOf(result: PartResult<VarianceData>): string[] {
  const told = (group: Group): { side: string; point: LostPoint }[] =>
    result.data.curves.flatMap((curve) => {
      const point = curve.group === group ? pointAt(curve.points, TOLD) : undefined;
      return point ? [{ side: SIDE_NAMES[curve.side], point }] : [];
    });
  const heads = told('images').map(
    ({ side, point }) => `${side} lose ${percent(point.combined)} with heads combined and ${percent(point.heads)} with heads alone`,
  );
  const apart = told('together').map(
    ({ side, point }) => `${side} ${percent(point.combined)} with one basis and ${percent(point.apart ?? 0)} with two`,
  );
  return [
    ...(heads.length ? [`${nameOf(result)}, all images at rank ${TOLD} and its bytes: ${heads.join('; ')}.`] : []),
    ...(apart.length ? [`Images and text in the bytes of rank ${TOLD} over both: ${apart.join('; ')}.`] : []),
  ];
}
