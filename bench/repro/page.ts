/** The page of the reproduction: Markdown and SVG plots, made from results alone. */
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { combinations } from './figures/combinations.ts';
import type { Figure } from './figures/figure.ts';
import { frames } from './figures/frames.ts';
import { latency } from './figures/latency.ts';
import { rank } from './figures/rank.ts';
import { tiers } from './figures/tiers.ts';
import { variance } from './figures/variance.ts';
import type { PartResult } from './part.ts';
import { plotSvg } from './plot.ts';
import { fileOf, newest, writeWhole } from './results.ts';
import { table } from './text.ts';

const FIGURES: readonly Figure<never>[] = [variance, tiers, rank, combinations, frames, latency];

/** Name of the page's file; plots lie beside it. */
export const PAGE_FILE = 'README.md';

/** Writes page and plots; returns the page's file. */
export async function writePage(folder: string, resultsFolder: string): Promise<string> {
  mkdirSync(folder, { recursive: true });
  const link = path.relative(folder, resultsFolder).replaceAll('\\', '/') || '.';
  for (const [name, text] of Object.entries(await pageOf(newest(resultsFolder), link))) writeWhole(path.join(folder, name), text);
  return path.join(folder, PAGE_FILE);
}

/**
 * The page and its plots by file name. The same results always give the same text.
 *
 * @param link where the results lie, as seen from the page
 */
export async function pageOf(results: readonly PartResult[], link: string): Promise<Record<string, string>> {
  const files: Record<string, string> = {};
  const sections: string[] = [];
  for (const figure of FIGURES) {
    const own = results.filter(({ part }) => part === figure.part);
    const drawn = own.length ? figure.draw(own as PartResult[] as readonly unknown[] as readonly PartResult<never>[]) : undefined;
    for (const plot of drawn?.plots ?? []) if (plot.points.length) files[`${plot.name}.svg`] = await plotSvg(plot);
    sections.push(
      [
        `## ${figure.title}`,
        `**The paper.** ${figure.paper}`,
        `**Here.** ${figure.ours}`,
        ...(drawn ? [] : ['Not measured yet.']),
        ...(drawn?.reading ?? []),
        ...(drawn?.plots ?? []).filter(({ points }) => points.length).map(({ name, title }) => `![${title}](${name}.svg)`),
        ...(drawn?.tables ?? []).map((entry) => `<details><summary>${entry.model}</summary>\n\n${entry.table}\n\n</details>`),
      ].join('\n\n'),
    );
  }
  files[PAGE_FILE] = `${[HEAD.replaceAll('../results', link), measuredOn(results, link), ...sections, LEGEND].join('\n\n')}\n`;
  return files;
}

const HEAD = `# AttentionPack's figures, in kind

What [AttentionPack](https://arxiv.org/abs/2603.23914) shows on 7B models and a GPU, measured on the two small models of this package, on drawn
pictures and a CPU: the same questions, not the same numbers. \`npm run repro\` measures all of it and makes this page (\`--help\` says how long it
takes), \`npm run repro -- --model <model>\` does so for any other model, \`npm run repro -- --page\` makes the page from the results there are. Every number comes
from a dated JSON in [bench/results](../results).`;

const LEGEND = `## What the columns say

Score: mean of the task's metric over questions with its 95 % interval, questions about one context counting as one draw; against dense: the paired
difference in points, likewise. Top-1: share of the dense answers' tokens that are the most likely ones here too, teacher-forced, the first answer
token included; KL: mean divergence from the dense distribution over them, in nats. Times smaller: dense float16 bytes over bytes held, bases,
scales and indices included. Settings are the words of \`attentionpack eval --cache\`. \`int8\` and \`int4\` are ONNX Runtime's own quantised caches.`;

/** Machine, dates and weights of every result. */
function measuredOn(results: readonly PartResult[], link: string): string {
  if (!results.length) return 'Nothing is measured yet.';
  const [{ machine }] = results as [PartResult];
  const prints = new Map<string, Set<string>>();
  for (const { model } of results) prints.set(model.model, (prints.get(model.model) ?? new Set()).add(model.fingerprint));
  const mixed = [...prints].filter(([, set]) => set.size > 1).map(([model]) => model);
  return [
    `${machine.cpu}, ${machine.threads} threads of ${machine.cores} cores; Node ${machine.node}, ONNX Runtime ${machine.onnxruntime}, transformers.js ${machine.transformers}.`,
    ...(mixed.length ? [`Results of ${mixed.join(' and ')} are of different weights; compare within a row only.`] : []),
    table(
      ['model', 'weights', 'part', 'measured', 'commit', 'load before', 'minutes', 'result'],
      results.map((result) => {
        const { model, part, date, machine: on, seconds } = result;
        const file = fileOf(link, result);
        return [
          model.model,
          `\`${model.fingerprint.slice(0, 12)}\``,
          part,
          date.slice(0, 16).replace('T', ' '),
          on.commit,
          on.load.toFixed(1),
          (seconds / 60).toFixed(1),
          `[JSON](${file})`,
        ];
      }),
    ),
  ].join('\n\n');
}
