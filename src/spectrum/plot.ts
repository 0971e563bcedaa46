/** Lost energy against rank as SVG, small multiples of layers and sides: figure 2 of arXiv 2603.23914. */
import type { TopLevelSpec } from 'vega-lite';
import type { Group, SpectrumReport } from './measure.ts';
import { SIDES, type Side } from './rows.ts';

export const SIDE_NAMES: Readonly<Record<Side, string>> = {
  keysBeforeRotary: 'keys before rotary',
  keysAfterRotary: 'keys after rotary',
  values: 'values',
};

const HEADS = ['heads combined', 'each head alone, same bytes'] as const;

/** Drawn losses end here; 0, at full rank, has no place on a logarithmic axis. */
const LEAST_LOST = 1e-4;

interface Point {
  readonly layer: string;
  readonly side: string;
  readonly tokens: string;
  readonly heads: (typeof HEADS)[number];
  readonly rank: number;
  readonly lost: number;
}

/** Renders without a DOM. vega is loaded when first needed: other commands start without its megabytes. */
export async function spectrumSvg(report: SpectrumReport, title: string): Promise<string> {
  const [vega, { compile }] = await Promise.all([import('vega'), import('vega-lite')]);
  const view = new vega.View(vega.parse(compile(specOf(report, title)).spec), { renderer: 'none' });
  return view.toSVG();
}

function specOf(report: SpectrumReport, title: string): TopLevelSpec {
  const names = groupNames(report);
  const layers = report.layers.map(({ layer }) => `layer ${layer}`);
  const sides = SIDES.filter((side) => report.layers.some((layer) => layer.sides[side])).map((side) => SIDE_NAMES[side]);
  const points = pointsOf(report, names);
  const widest = points.reduce((most, { rank }) => Math.max(most, rank), 2);
  return {
    $schema: 'https://vega.github.io/schema/vega-lite/v6.json',
    title: {
      text: title,
      subtitle: `${report.images} ${report.images === 1 ? 'image' : 'images'}, ${report.imageTokens} image tokens and ${report.textTokens} of text. Below the grey line less than 1 % is lost.`,
    },
    background: 'white',
    data: { values: points },
    facet: {
      row: { field: 'layer', type: 'nominal', sort: layers, title: null, header: { labelAngle: 0, labelAlign: 'left' } },
      column: { field: 'side', type: 'nominal', sort: sides, title: null },
    },
    spec: {
      width: 230,
      height: 130,
      layer: [
        // Data of its own: it would be drawn once for every point otherwise.
        { data: { values: [{}] }, mark: { type: 'rule', color: '#999' }, encoding: { y: { datum: 0.01 } } },
        {
          mark: { type: 'line', clip: true },
          encoding: {
            x: {
              field: 'rank',
              type: 'quantitative',
              scale: { type: 'log', base: 2, domain: [1, widest] },
              title: 'rank of the combined heads',
            },
            y: {
              field: 'lost',
              type: 'quantitative',
              scale: { type: 'log', domain: [LEAST_LOST, 1] },
              axis: { format: '~%', values: [1, 0.1, 0.01, 0.001, LEAST_LOST] },
              title: 'lost energy',
            },
            color: {
              field: 'tokens',
              type: 'nominal',
              sort: Object.values(names),
              legend: { orient: 'bottom', columns: 2, title: null, labelLimit: 300 },
            },
            strokeDash: {
              field: 'heads',
              type: 'nominal',
              sort: [...HEADS],
              legend: { orient: 'bottom', columns: 1, title: null, labelLimit: 300 },
            },
          },
        },
      ],
    },
  };
}

/** How groups are called, with their tokens. */
export function groupNames({ images, imageTokens, textTokens, layers }: SpectrumReport): Record<Group, string> {
  const [side] = Object.values(layers[0]?.sides ?? {});
  const perImage = imageTokens / images;
  return {
    eachImage: `each image alone (${Number.isInteger(perImage) ? '' : 'about '}${Math.round(perImage)} tokens)`,
    allImages: `all images (${imageTokens} tokens)`,
    text: `text (${textTokens} tokens)`,
    sampledImages: `all images, ${side?.sampledImages.tokens ?? 0} of their tokens`,
  };
}

function pointsOf({ layers }: SpectrumReport, names: Readonly<Record<Group, string>>): Point[] {
  return layers.flatMap(({ layer, sides }) =>
    SIDES.flatMap((side) =>
      Object.entries(sides[side] ?? {}).flatMap(([group, { curve }]) =>
        curve.flatMap((at) => {
          const place = { layer: `layer ${layer}`, side: SIDE_NAMES[side], tokens: names[group as Group], rank: at.rank };
          const drawn = (lost: number): number => Math.max(lost, LEAST_LOST / 1000); // under the frame's edge
          const combined = { ...place, heads: HEADS[0], lost: drawn(at.combined) };
          // The sample is there to hold text against; its heads would be one line too many.
          return group === 'sampledImages' ? [combined] : [combined, { ...place, heads: HEADS[1], lost: drawn(at.heads) }];
        }),
      ),
    ),
  );
}
