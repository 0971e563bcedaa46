/** The curve: visual compression against loyalty, one line per kind of packing, as SVG. */
import * as vega from 'vega';
import { compile, type TopLevelSpec } from 'vega-lite';
import { curveOf, type Packing } from './settings.ts';

export interface Point extends Packing {
  readonly visualCompression: number;
  readonly top1: number;
}

/** Renders without a DOM. */
export async function loyaltySvg(points: readonly Point[], title: string): Promise<string> {
  const spec: TopLevelSpec = {
    $schema: 'https://vega.github.io/schema/vega-lite/v6.json',
    title,
    width: 560,
    height: 320,
    background: 'white',
    data: { values: points.map((point) => ({ ...point, packing: curveOf(point) })) },
    layer: [
      {
        mark: { type: 'line', point: true },
        encoding: {
          x: {
            field: 'visualCompression',
            type: 'quantitative',
            scale: { type: 'log' },
            title: 'compression of the images (dense fp16 bytes / bytes held)',
          },
          y: {
            field: 'top1',
            type: 'quantitative',
            scale: { zero: false },
            title: 'top-1 agreement with the dense cache',
            axis: { format: '.0%' },
          },
          color: { field: 'packing', type: 'nominal', legend: { orient: 'bottom', columns: 1, title: null, labelLimit: 400 } },
        },
      },
      { mark: { type: 'rule', strokeDash: [4, 4], color: '#888' }, encoding: { y: { datum: 0.97 } } },
      { mark: { type: 'rule', strokeDash: [4, 4], color: '#888' }, encoding: { x: { datum: 5 } } },
    ],
  };
  const view = new vega.View(vega.parse(compile(spec).spec), { renderer: 'none' });
  return view.toSVG();
}
