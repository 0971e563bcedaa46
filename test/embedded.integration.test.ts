/** The models in the package are those the committed figures are of, and answer as those say. */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { modelNamed, PACKAGE_ROOT } from '../src/cli/embedded.ts';
import { dtypeOption } from '../src/cli/models.ts';
import { evaluate } from '../src/eval/index.ts';
import type { Evaluation } from '../src/eval/run.ts';
import { DENSE } from '../src/eval/settings.ts';
import { DRAWN_TASKS } from '../src/eval/tasks/index.ts';

const MODELS = ['pack-mha', 'pack-gqa'];
const CONTEXTS = 40;
const TASKS = ['name', 'ocr'];

/** The newest committed result of `attentionpack eval <model>`. */
function committed(model: string): Evaluation {
  const folder = path.join(PACKAGE_ROOT, 'bench', 'results');
  const file = readdirSync(folder)
    .filter((name) => name.endsWith(`-eval-${model}.json`))
    .sort()
    .at(-1);
  if (!file) throw new Error(`${folder} has no result of ${model}`);
  return JSON.parse(readFileSync(path.join(folder, file), 'utf8')) as Evaluation;
}

describe.each(MODELS)('%s', (model) => {
  const folder = modelNamed(model);

  test('answers the first contexts as well as the committed figures say, from the weights they are of', async () => {
    const said = committed(model);
    const tasks = TASKS.map((name) => (DRAWN_TASKS[name] as (typeof DRAWN_TASKS)[string]).open());
    const { model: identity, rows } = await evaluate(folder, {
      tasks,
      cache: 'dense',
      limit: CONTEXTS,
      load: dtypeOption(folder, undefined),
    });
    expect(identity.fingerprint).toBe(said.model.fingerprint);
    for (const { task, score } of rows) {
      const figure = said.rows.find((row) => row.task === task && row.setting === DENSE.name)?.score.mean;
      expect(figure, task).toBeGreaterThanOrEqual(score.low);
      expect(figure, task).toBeLessThanOrEqual(score.high);
    }
    expect(rows.map(({ task }) => task)).toEqual(TASKS);
  });
});

test('the models together take at most 60 MB, no file over 16', () => {
  const sizes = MODELS.flatMap((model) =>
    readdirSync(modelNamed(model), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => statSync(path.join(entry.parentPath, entry.name)).size),
  );
  expect(sizes.reduce((sum, size) => sum + size, 0)).toBeLessThan(60e6);
  expect(Math.max(...sizes)).toBeLessThan(16e6);
});
