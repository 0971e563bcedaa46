/** The tables there are, each made from committed results alone. */
import type { EvaluationRow } from '../../src/eval/index.ts';
import type { Evaluation } from '../../src/eval/run.ts';
import { DENSE } from '../../src/eval/settings.ts';
import type { LoyaltyRow } from '../loyalty/main.ts';
import { curveOf } from '../loyalty/settings.ts';
import { percent, table } from './blocks.ts';
import { newest, trained } from './results.ts';

const RENDERERS: Readonly<Record<string, (...args: string[]) => string>> = { scores, kinds, caches, loyalty, cost };

export function render(name: string, args: readonly string[]): string {
  const renderer = RENDERERS[name];
  if (!renderer) throw new Error(`there is no table '${name}'; there are ${Object.keys(RENDERERS).join(', ')}`);
  return renderer(...args);
}

/** `scores <model>…`: dense scores with their intervals, a column for each model. */
function scores(...models: string[]): string {
  const results = models.map((model) => newest<Evaluation>(`eval-${model}`));
  const tasks = results[0]?.tasks ?? [];
  return table(
    ['task', 'metric', 'questions', ...models],
    tasks.map(({ name, metric, questions }) => [
      name,
      metric,
      String(questions),
      ...results.map((result) => {
        const { mean, low, high } = denseRow(result, name).score;
        return `${percent(mean)} (${percent(low)} to ${percent(high)})`;
      }),
    ]),
  );
}

/** `kinds <model>`: dense scores of tasks whose questions are of several kinds. */
function kinds(model: string): string {
  const result = newest<Evaluation>(`eval-${model}`);
  const rows = result.tasks.map(({ name }) => denseRow(result, name)).filter((row) => row.kinds);
  const names = [...new Set(rows.flatMap((row) => Object.keys(row.kinds ?? {})))];
  return table(
    ['task', ...names],
    rows.map((row) => [row.task, ...names.map((name) => (row.kinds?.[name] ? percent(row.kinds[name].mean) : ''))]),
  );
}

function denseRow(result: Evaluation, task: string): EvaluationRow {
  const row = result.rows.find((candidate) => candidate.task === task && candidate.setting === DENSE.name);
  if (!row) throw new Error(`no dense row of ${task}`);
  return row;
}

/** `caches <model> [run]`: every cache setting over all tasks it was run on. */
function caches(model: string, run = 'caches'): string {
  const result = newest<Evaluation>(`eval-${model}-${run}`);
  const tasks = result.tasks.map(({ name }) => name);
  const scoreOf = (task: string, setting: string): string => {
    const row = result.rows.find((candidate) => candidate.task === task && candidate.setting === setting);
    return row ? percent(row.score.mean) : '';
  };
  return table(
    ['cache', ...tasks, 'top-1', 'KL', 'all x smaller', 'images x smaller'],
    result.overall.map(({ setting, loyalty, bytes }) => [
      `\`${setting}\``,
      ...tasks.map((task) => scoreOf(task, setting)),
      ...(setting === DENSE.name ? ['', ''] : [percent(loyalty.top1, 2), loyalty.kl.toFixed(4)]),
      bytes.compression.toFixed(1),
      bytes.visualCompression.toFixed(1),
    ]),
  );
}

/** Top-1 agreement that a row of `loyalty` has at least. */
const LEVELS = [0.999, 0.99, 0.97];

/** `loyalty <model>`: for each kind of packing, the smallest cache at each level of top-1 agreement. */
function loyalty(model: string): string {
  const { rows, denseAccuracy } = newest<{ rows: readonly LoyaltyRow[]; denseAccuracy: number }>(`loyalty-${model}`);
  const chosen = rows.filter((row) =>
    LEVELS.some((level) => {
      const good = rows.filter((other) => curveOf(other) === curveOf(row) && other.top1 >= level);
      return good.length > 0 && good.every((other) => other.visualCompression <= row.visualCompression) && good.includes(row);
    }),
  );
  return table(
    ['rotary', 'basis per', 'codes', 'rank', 'images x smaller', 'all x smaller', 'top-1', 'KL', 'same answers', 'accuracy'],
    [
      ['dense', '', '', '', '1', '1', '', '', '', `${percent(denseAccuracy)} %`],
      ...chosen.map((row) => [
        row.rotary,
        row.basisPer,
        row.codes,
        String(row.rank),
        row.visualCompression.toFixed(1),
        row.compression.toFixed(2),
        `${percent(row.top1)} %`,
        row.kl.toFixed(4),
        `${percent(row.answerMatch)} %`,
        `${percent(row.accuracy)} %`,
      ]),
    ],
  );
}

/** `cost <model>`: what training each stage took. */
function cost(model: string): string {
  const { tower, decoder } = trained(model).cost.stages;
  const number = (count: number): string => count.toLocaleString('en').replaceAll(',', ' ');
  return table(
    ['stage', 'minutes', 'steps', 'seen'],
    [
      ['tower', String(tower.minutes), number(tower.steps), `${number(tower.pictures)} pictures`],
      [
        'decoder',
        String(decoder.minutes),
        number(decoder.steps),
        `${number(decoder.questions)} questions, ${number(decoder.tokens)} tokens`,
      ],
    ],
  );
}
