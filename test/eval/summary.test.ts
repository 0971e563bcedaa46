import { expect, test } from 'vitest';
import type { ContextRecord } from '../../src/eval/records.ts';
import { htmlReport } from '../../src/eval/report.ts';
import type { Evaluation } from '../../src/eval/run.ts';
import { overall, summarise } from '../../src/eval/summary.ts';
import type { Task } from '../../src/eval/task.ts';
import { TimeLeft } from '../../src/eval/time-left.ts';

/** Context `index` of task t: a score for each question, and bytes a packed setting halves. */
function record(setting: string, index: number, scores: readonly number[], kinds = ['a', 'b']): ContextRecord {
  const held = setting === 'dense' ? 400 : 100;
  return {
    task: 't',
    setting,
    context: `c${index}`,
    index,
    images: 2,
    bytes: { tokens: 10, held, denseFp16: 200, visualTokens: 8, visualHeld: held / 2, visualDenseFp16: 160 },
    questions: scores.map((score, q) => ({
      kind: kinds[q % kinds.length] ?? 'a',
      answer: '',
      score,
      same: setting === 'dense' || score === 1,
      tokens: 4,
      top1: setting === 'dense' || score === 1 ? 4 : 3,
      kl: setting === 'dense' ? 0 : 0.4,
    })),
    ms: setting === 'dense' ? 100 : 300,
  };
}

const records = [
  record('dense', 0, [1, 1]),
  record('packed:8', 0, [1, 0]),
  record('dense', 1, [0, 1]),
  record('packed:8', 1, [0, 1]),
  record('dense', 2, [1, 1]), // the other setting has not come to it yet
];

test('settings are paired over the contexts all of them finished', () => {
  const [dense, packed] = summarise(records, ['t', 'none'], ['dense', 'packed:8']);
  expect(dense).toMatchObject({
    setting: 'dense',
    score: { mean: 0.75, n: 4, numContexts: 2 },
    loyalty: { top1: 1, answerMatch: 1, kl: 0 },
  });
  expect(dense?.difference).toBeUndefined();
  expect(packed).toMatchObject({
    setting: 'packed:8',
    score: { mean: 0.5, n: 4 },
    difference: { mean: -0.25, better: 0, worse: 1 },
    loyalty: { top1: 14 / 16, answerMatch: 0.5, kl: 0.1, tokens: 16 },
    bytes: { heldPerContext: 100, denseFp16PerContext: 200, compression: 2, visualCompression: 3.2 },
    kinds: { a: { mean: 0.5, n: 2 }, b: { mean: 0.5, n: 2 } },
  });
});

test('a task without several kinds has none, and one that was not asked has no row', () => {
  const rows = summarise([record('dense', 0, [1], ['t'])], ['t', 'none'], ['dense']);
  expect(rows).toHaveLength(1);
  expect(rows[0]?.kinds).toBeUndefined();
});

test('the time left follows contexts of the same task and setting', () => {
  const task = { name: 't', size: 4 } as Task;
  const time = new TimeLeft([task], ['dense', 'packed:8'], 3, records.slice(0, 2));
  expect(time.progress()).toEqual({ done: 2, total: 6, secondsLeft: (2 * 100 + 2 * 300) / 1000 });
  time.add(records[2] as ContextRecord);
  expect(time.progress()).toEqual({ done: 3, total: 6, secondsLeft: (100 + 2 * 300) / 1000 });
  time.add({ task: 't', context: 'c2', index: 2, skipped: 'too long' });
  expect(time.progress()).toEqual({ done: 5, total: 6, secondsLeft: 0.3 });
  expect(new TimeLeft([task], ['dense'], 9, []).progress()).toEqual({ done: 0, total: 4, secondsLeft: undefined });
});

test('the page stands alone: tables, the plot as SVG, nothing to fetch, names escaped', async () => {
  const rows = summarise(records, ['t'], ['dense', 'packed:8']);
  const evaluation: Evaluation = {
    format: 'attentionpack-eval',
    version: 1,
    model: { model: 'a<b', fingerprint: '0123456789abcdef', dtype: 'q8', attentionpack: '1.0.0', onnxruntime: '1.30.0' },
    settings: [{ name: 'dense', about: 'as it is' }],
    refused: [{ setting: 'int4', reason: 'no & why' }],
    tasks: [
      { name: 't', about: 'two pictures', metric: 'accuracy', size: 4, contexts: 2, questions: 4, skipped: 1, skippedWhy: 'too long' },
    ],
    rows,
    overall: overall(rows, records, ['dense', 'packed:8']),
    run: { date: '2026-11-23T05:00:00.000Z', seconds: 1, contextsAsked: 2, contextsPerSecond: 2 },
  };
  const page = await htmlReport(evaluation);
  expect(page).toContain('Cache settings of a&lt;b, 2026-11-23');
  expect(page).toContain('<td>packed:8</td><td>50.0 % (');
  expect(page).toContain('no &amp; why');
  expect(page).toContain('1 contexts were left out: too long.');
  expect(page).toContain('color-scheme: light dark');
  expect(page).toMatch(/<svg[^>]*>[\s\S]*accuracy[\s\S]*<\/svg>/);
  expect(page.replaceAll('http://www.w3.org/', '')).not.toMatch(/https?:|<script|<link|@import|url\(/);
});
