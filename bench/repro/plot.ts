/** Plots of the page: points and lines in panels, as SVG on white, without a DOM. */
import type { TopLevelSpec } from 'vega-lite';

export interface PlotPoint {
  readonly panel: string;
  readonly series: string;
  readonly x: number;
  readonly y: number;
  /** Ends of a bar behind the point. */
  readonly low?: number | undefined;
  readonly high?: number | undefined;
}

export interface Plot {
  /** File name without .svg. */
  readonly name: string;
  readonly title: string;
  readonly points: readonly PlotPoint[];
  readonly x: Axis;
  readonly y: Axis;
  /** Whether points of a series are joined, in the order of x. Default true. */
  readonly joined?: boolean;
  readonly columns?: number;
}

export interface Axis {
  readonly title: string;
  readonly log?: boolean;
  /** As d3-format says it. */
  readonly format?: string;
  /** Whether each panel has a scale of its own. Default false. */
  readonly own?: boolean;
}

export async function plotSvg(plot: Plot): Promise<string> {
  const [vega, { compile }] = await Promise.all([import('vega'), import('vega-lite')]);
  // Names of clip paths are counted over all drawings of a process; the same plot is always to be the same text.
  vega.resetSVGDefIds();
  const view = new vega.View(vega.parse(compile(specOf(plot)).spec), { renderer: 'none' });
  return `${await view.toSVG()}\n`;
}

function specOf({ title, points, x, y, joined = true, columns = 3 }: Plot): TopLevelSpec {
  const axis = (of: Axis, field: 'x' | 'y') =>
    ({
      field,
      type: 'quantitative',
      title: of.title,
      scale: of.log ? ({ type: 'log', nice: false } as const) : { zero: false },
      ...(of.format !== undefined && { axis: { format: of.format } }),
    }) as const;
  const color = {
    field: 'series',
    type: 'nominal',
    sort: [...new Set(points.map(({ series }) => series))],
    legend: { orient: 'bottom', columns: 1, title: null, labelLimit: 700, symbolLimit: 40 },
    scale: { scheme: 'tableau20' },
  } as const;
  const encoding = { x: axis(x, 'x'), y: axis(y, 'y'), color };
  return {
    $schema: 'https://vega.github.io/schema/vega-lite/v6.json',
    title,
    background: 'white',
    // A logarithmic axis has no place for 0.
    data: { values: points.filter((point) => !(x.log && point.x <= 0) && !(y.log && point.y <= 0)) },
    facet: { field: 'panel', type: 'nominal', sort: [...new Set(points.map(({ panel }) => panel))], title: null },
    columns,
    spec: {
      width: 270,
      height: 190,
      layer: [
        {
          mark: { type: 'rule', opacity: 0.5 },
          encoding: { x: axis(x, 'x'), y: { ...axis(y, 'y'), field: 'low' }, y2: { field: 'high' }, color },
        },
        ...(joined ? [{ mark: { type: 'line' as const, opacity: 0.8 }, encoding }] : []),
        { mark: { type: 'point' as const, filled: true, size: 40, opacity: 1 }, encoding },
      ],
    },
    resolve: { scale: { ...(x.own && { x: 'independent' as const }), ...(y.own && { y: 'independent' as const }) } },
  };
}
