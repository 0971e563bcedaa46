/** Score against bytes, one panel for each task, as SVG that goes with light and dark pages. */
import type { TopLevelSpec } from 'vega-lite';
import type { Evaluation } from './run.ts';
import { DENSE } from './settings.ts';

interface Point {
  readonly task: string;
  readonly setting: string;
  readonly family: string;
  readonly compression: number;
  readonly score: number;
  readonly low: number;
  readonly high: number;
}

/** Neutral on white and on black: the page colours nothing inside an SVG. */
const INK = '#808080';
const GRID = '#80808040';

/** Colours of vega's first scheme. */
const MOST_COLOURS = 10;

/** Renders without a DOM. vega is loaded when first needed: other commands start without its megabytes. */
export async function scoreSvg(evaluation: Pick<Evaluation, 'rows' | 'tasks'>): Promise<string> {
  const [vega, { compile }] = await Promise.all([import('vega'), import('vega-lite')]);
  const view = new vega.View(vega.parse(compile(specOf(evaluation)).spec), { renderer: 'none' });
  return view.toSVG();
}

function specOf({ rows, tasks }: Pick<Evaluation, 'rows' | 'tasks'>): TopLevelSpec {
  const metrics = new Map(tasks.map(({ name, metric }) => [name, metric]));
  const title = (task: string): string => `${task}, ${metrics.get(task) ?? 'score'}`;
  const settings = [...new Set(rows.map(({ setting }) => setting))];
  // A colour for each setting while eyes can tell them apart, then one for each sort.
  const colour = settings.length <= MOST_COLOURS ? 'setting' : 'family';
  const points = rows.map(
    ({ task, setting, score, bytes }): Point => ({
      task: title(task),
      setting,
      family: setting.split(':')[0] ?? setting,
      compression: bytes.compression,
      score: score.mean,
      low: score.low,
      high: score.high,
    }),
  );
  const x = {
    field: 'compression',
    type: 'quantitative',
    scale: { type: 'log', nice: true },
    title: 'times smaller than dense float16, all tokens',
  } as const;
  const axis = { labelColor: INK, titleColor: INK, gridColor: GRID, domainColor: INK, tickColor: INK };
  return {
    $schema: 'https://vega.github.io/schema/vega-lite/v6.json',
    background: 'transparent',
    config: { axis, legend: { labelColor: INK, titleColor: INK }, header: { labelColor: INK, titleColor: INK }, view: { stroke: GRID } },
    data: { values: points },
    facet: { field: 'task', type: 'nominal', sort: tasks.map(({ name }) => title(name)), title: null },
    columns: 3,
    spec: {
      width: 250,
      height: 170,
      layer: [
        {
          transform: [{ filter: `datum.setting === '${DENSE.name}'` }],
          mark: { type: 'rule', strokeDash: [4, 4], color: INK },
          encoding: { y: { field: 'score', type: 'quantitative', scale: { zero: false } } },
        },
        {
          mark: { type: 'rule', opacity: 0.6 },
          encoding: {
            x,
            y: { field: 'low', type: 'quantitative', scale: { zero: false }, title: 'score, 95 % interval', axis: { format: '.0%' } },
            y2: { field: 'high' },
            color: { field: colour, type: 'nominal' },
          },
        },
        {
          mark: { type: 'point', filled: true, size: 60, opacity: 1 },
          encoding: {
            x,
            y: { field: 'score', type: 'quantitative', scale: { zero: false } },
            color: { field: colour, type: 'nominal', title: 'cache' },
          },
        },
      ],
    },
    resolve: { scale: { y: 'independent' } },
  };
}
