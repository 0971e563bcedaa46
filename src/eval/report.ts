/** Results as one HTML page that needs nothing else: tables, the plot, light and dark. */
import prettyBytes from 'pretty-bytes';
import { scoreSvg } from './plot.ts';
import type { EvaluatedTask, Evaluation } from './run.ts';
import { DENSE } from './settings.ts';
import type { EvaluationRow, LoyaltyFigures } from './summary.ts';

export async function htmlReport(evaluation: Evaluation): Promise<string> {
  const { model, run, tasks, refused, settings } = evaluation;
  const date = run.date.slice(0, 10);
  const title = `Cache settings of ${model.model}, ${date}`;
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escaped(title)}</title>
<style>${STYLE}</style>
</head>
<body>
<h1>${escaped(title)}</h1>
<p>${escaped(aboutRun(evaluation))}</p>
${evaluation.rows.length ? await scoreSvg(evaluation) : ''}
<p>Each point is one setting; the bar is its 95 % interval, the dashed line the dense cache. Further to the right is smaller.</p>
<h2>All tasks</h2>
${overallTable(evaluation)}
${tasks.map((task) => section(task, evaluation)).join('\n')}
<h2>Settings</h2>
<dl>${settings.map(({ name, about }) => `<dt>${escaped(name)}</dt><dd>${escaped(about)}</dd>`).join('')}</dl>
${refused.length ? `<h2>Not measured</h2><dl>${refused.map(({ setting, reason }) => `<dt>${escaped(setting)}</dt><dd>${escaped(reason)}</dd>`).join('')}</dl>` : ''}
<h2>What the columns say</h2>
<dl>
<dt>score</dt><dd>Mean of the task's metric over questions, with its 95 % interval; questions about one context count as one draw.</dd>
<dt>against dense</dt><dd>Mean difference to the dense cache over the same questions, with its 95 % interval.</dd>
<dt>top-1</dt><dd>Share of the dense answers' tokens that are the most likely ones here too, teacher-forced, the first answer token included.</dd>
<dt>same answers</dt><dd>Share of questions with the dense answer, token for token.</dd>
<dt>KL</dt><dd>Mean Kullback-Leibler divergence from the dense distribution over those tokens, in nats.</dd>
<dt>images, all</dt><dd>Dense float16 bytes over bytes held, while the answer to a context's first question stands in the cache.</dd>
<dt>held</dt><dd>Bytes held for a context, in the mean, scales and indices included. transformers.js holds its dense cache as its graphs do, often in float32.</dd>
</dl>
</body>
</html>
`;
}

/** One sentence on model, versions and counts. */
export function aboutRun({ model, run, tasks }: Evaluation): string {
  const questions = tasks.reduce((sum, task) => sum + task.questions, 0);
  const contexts = tasks.reduce((sum, task) => sum + task.contexts, 0);
  const dtype = model.dtype ? `, ${model.dtype}` : '';
  return `${model.model} (${model.fingerprint.slice(0, 12)}${dtype}), attentionpack ${model.attentionpack}, ONNX Runtime ${model.onnxruntime}; ${questions} questions about ${contexts} contexts in ${tasks.length} tasks, ${run.date}.`;
}

const HEAD = ['cache', 'score', 'against dense', 'top-1', 'same answers', 'KL', 'images', 'all', 'held'] as const;

/** The cells of one row, as `--cache` tables and the page print them. */
export function cells({ setting, score, difference, loyalty, bytes }: EvaluationRow): string[] {
  const spread = `${percent(score.mean)} (${percent(score.low)} to ${percent(score.high)})`;
  const against = difference ? `${points(difference.mean)} (${points(difference.low)} to ${points(difference.high)})` : '';
  return [
    setting,
    spread,
    against,
    ...loyaltyCells(loyalty),
    times(bytes.visualCompression),
    times(bytes.compression),
    prettyBytes(bytes.heldPerContext, { maximumFractionDigits: 1 }),
  ];
}

export { HEAD as COLUMNS };

function loyaltyCells({ top1, answerMatch, kl }: LoyaltyFigures): string[] {
  return [percent(top1), percent(answerMatch), kl.toFixed(4)];
}

function overallTable({ overall }: Evaluation): string {
  return table(
    ['cache', 'mean score', 'top-1', 'same answers', 'KL', 'images', 'all', 'held'],
    overall.map(({ setting, score, loyalty, bytes }) => [
      setting,
      percent(score),
      ...loyaltyCells(loyalty),
      times(bytes.visualCompression),
      times(bytes.compression),
      prettyBytes(bytes.heldPerContext, { maximumFractionDigits: 1 }),
    ]),
  );
}

function section(task: EvaluatedTask, { rows }: Evaluation): string {
  const own = rows.filter((row) => row.task === task.name);
  const dense = own.find(({ setting }) => setting === DENSE.name);
  const counts = `${task.metric}; ${task.questions} questions about ${task.contexts} of ${task.size} contexts`;
  const size = dense
    ? `, ${Math.round(dense.bytes.tokensPerContext)} tokens each, ${Math.round(dense.bytes.visualTokensPerContext)} of them of images`
    : '';
  const skipped = task.skipped ? ` ${task.skipped} contexts were left out: ${task.skippedWhy}.` : '';
  return `<h2>${escaped(task.name)}</h2>
<p>${escaped(`${task.about}. ${counts}${size}.${skipped}`)}</p>
${own.length ? table(HEAD, own.map(cells)) : ''}
${own.some(({ kinds }) => kinds) ? kindsTable(own) : ''}`;
}

function kindsTable(rows: readonly EvaluationRow[]): string {
  const kinds = Object.keys(rows[0]?.kinds ?? {});
  return table(
    ['cache', ...kinds.map((kind) => `${kind} (${rows[0]?.kinds?.[kind]?.n ?? 0})`)],
    rows.map(({ setting, kinds: own }) => [setting, ...kinds.map((kind) => percent(own?.[kind]?.mean ?? Number.NaN))]),
  );
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (tag: 'th' | 'td', row: readonly string[]): string =>
    `<tr>${row.map((cell) => `<${tag}>${escaped(cell)}</${tag}>`).join('')}</tr>`;
  return `<div class="wide"><table><thead>${line('th', head)}</thead><tbody>${rows.map((row) => line('td', row)).join('\n')}</tbody></table></div>`;
}

const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;
const points = (share: number): string => `${share < 0 ? '−' : '+'}${Math.abs(100 * share).toFixed(1)}`;
const times = (factor: number): string => `${factor.toFixed(factor < 10 ? 2 : 1)}×`;

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');
}

const STYLE = `
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 0.25rem 0.75rem; text-align: right; border-bottom: 1px solid #80808040; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
dt { font-weight: 600; } dd { margin: 0 0 0.5rem 1.5rem; }
svg { max-width: 100%; height: auto; }
`;
