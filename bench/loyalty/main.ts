/**
 * `npm run bench -- loyalty`: what each packing keeps of the dense model's answers, against the bytes it takes, on the embedded model.
 *
 * Loyalty is teacher-forced over the dense greedy answers, the first answer token included; task accuracy is exact match with the expected answer,
 * paired with the dense cache.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { EMBEDDED_MODEL, PACKAGE_ROOT } from '../../src/cli/embedded.ts';
import { dtypeOption } from '../../src/cli/models.ts';
import { Progress, printJson, printTable } from '../../src/cli/output.ts';
import { assert } from '../../src/errors.ts';
import { type Evaluation, evaluate } from '../../src/eval/run.ts';
import { DENSE } from '../../src/eval/settings.ts';
import { loyaltySvg } from './plot.ts';
import { PACKINGS, type Packing, settingOf } from './settings.ts';
import { embeddedTask } from './task.ts';

export interface LoyaltyRow extends Packing {
  readonly visualCompression: number;
  readonly compression: number;
  readonly top1: number;
  readonly kl: number;
  readonly tokens: number;
  readonly answerMatch: number;
  readonly accuracy: number;
}

export interface LoyaltyOptions {
  readonly json: boolean;
  /** Only the first contexts, for a quick look. Default: all. */
  readonly contexts?: number | undefined;
}

export async function loyaltySuite({ json, contexts: limit }: LoyaltyOptions): Promise<void> {
  const progress = new Progress();
  const evaluation = await evaluate(EMBEDDED_MODEL, {
    tasks: [embeddedTask()],
    cache: [DENSE, ...PACKINGS.map(settingOf)],
    load: dtypeOption(EMBEDDED_MODEL, undefined),
    ...(limit !== undefined && { limit }),
    onProgress: ({ done, total, setting }) => progress.update(`${done} of ${total}  ${setting}`),
  });
  progress.done();
  const rows = PACKINGS.map((packing) => rowOf(evaluation, packing));
  const dense = evaluation.rows.find(({ setting }) => setting === DENSE.name);
  assert(dense, 'the dense cache is always measured');
  report(rows, dense.score.mean);
  const result = {
    suite: 'loyalty',
    model: path.basename(EMBEDDED_MODEL),
    date: evaluation.run.date.slice(0, 10),
    contexts: dense.score.numContexts,
    denseAccuracy: dense.score.mean,
    rows,
  };
  if (limit === undefined) await save(result);
  if (json) printJson(result);
}

function rowOf({ rows, refused }: Evaluation, packing: Packing): LoyaltyRow {
  const { name } = settingOf(packing);
  const row = rows.find(({ setting }) => setting === name);
  assert(row, `${name} was refused: ${refused.find(({ setting }) => setting === name)?.reason}`);
  const { bytes, loyalty, score } = row;
  return {
    ...packing,
    visualCompression: bytes.visualCompression,
    compression: bytes.compression,
    ...loyalty,
    accuracy: score.mean,
  };
}

function report(rows: readonly LoyaltyRow[], denseAccuracy: number): void {
  console.log(`dense cache: task accuracy ${(100 * denseAccuracy).toFixed(1)} %`);
  printTable(
    ['rotary', 'basis per', 'codes', 'rank', 'images x smaller', 'all x smaller', 'top-1', 'KL', 'same answers', 'accuracy'],
    rows.map((row) => [
      row.rotary,
      row.basisPer,
      row.codes,
      row.rank,
      row.visualCompression.toFixed(1),
      row.compression.toFixed(2),
      `${(100 * row.top1).toFixed(1)} %`,
      row.kl.toFixed(4),
      `${(100 * row.answerMatch).toFixed(1)} %`,
      `${(100 * row.accuracy).toFixed(1)} %`,
    ]),
  );
}

/** The newest result lies beside the model, as its card refers to it. */
async function save(result: { readonly rows: readonly LoyaltyRow[]; readonly date: string }): Promise<void> {
  const results = path.join(PACKAGE_ROOT, 'bench', 'results');
  mkdirSync(results, { recursive: true });
  writeFileSync(path.join(results, `${result.date}-loyalty-pack-mha.json`), `${JSON.stringify(result, null, 1)}\n`);
  writeFileSync(path.join(EMBEDDED_MODEL, 'loyalty.svg'), await loyaltySvg(result.rows, 'pack-mha: what packing keeps, against bytes'));
}
