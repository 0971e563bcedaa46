/**
 * `npm run bench -- loyalty`: what each packing keeps of the dense model's answers, against the bytes it takes, on the embedded model.
 *
 * Forty contexts of four pictures with seven questions each (models/pack-mha/eval). Loyalty is teacher-forced over the dense greedy answers,
 * the first answer token included; task accuracy is exact match with the expected answer, paired with the dense cache.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { PreTrainedModel, Processor } from '@huggingface/transformers';
import { dtypeOption, EMBEDDED_MODEL, loadDense, loadPacked, PACKAGE_ROOT, readImages } from '../../src/cli/models.ts';
import { Progress, printJson, printTable } from '../../src/cli/output.ts';
import { askDense, askPacked, decode, measureLoyalty, type Reference } from '../../src/compare.ts';
import { type Agreement, meanAgreement } from '../../src/loyalty.ts';
import type { PackedModel } from '../../src/state.ts';
import { loyaltySvg } from './plot.ts';
import { GRAPHS, graphOptions, type Setting, settingsOf } from './settings.ts';

interface EvalFile {
  readonly contexts: readonly {
    readonly images: readonly string[];
    readonly questions: readonly { readonly type: string; readonly question: string; readonly answer: string }[];
  }[];
}

interface Context {
  readonly reference: Reference;
  readonly expected: readonly string[];
  readonly denseRight: readonly boolean[];
}

export interface LoyaltyRow extends Setting {
  readonly visualCompression: number;
  readonly compression: number;
  readonly top1: number;
  readonly kl: number;
  readonly tokens: number;
  readonly answerMatch: number;
  readonly accuracy: number;
}

const MAX_NEW_TOKENS = 48;

export interface LoyaltyOptions {
  readonly json: boolean;
  /** Only the first contexts, for a quick look. Default: all. */
  readonly contexts?: number | undefined;
}

export async function loyaltySuite({ json, contexts: limit }: LoyaltyOptions): Promise<void> {
  const folder = path.join(EMBEDDED_MODEL, 'eval');
  const file = JSON.parse(readFileSync(path.join(folder, 'eval.json'), 'utf8')) as EvalFile;
  const progress = new Progress();
  const dtype = dtypeOption(EMBEDDED_MODEL, undefined);
  const dense = await loadDense(EMBEDDED_MODEL, dtype);
  const rows: LoyaltyRow[] = [];
  let contexts: Context[] | undefined;
  for (const [g, graph] of GRAPHS.entries()) {
    const { packed, processor } = await loadPacked(EMBEDDED_MODEL, { ...dtype, ...graphOptions(graph) });
    contexts ??= await readContexts(dense, processor, folder, file.contexts.slice(0, limit), progress);
    const settings = settingsOf(graph);
    for (const [s, setting] of settings.entries()) {
      progress.update(`graph ${g + 1} of ${GRAPHS.length}, setting ${s + 1} of ${settings.length}`);
      rows.push(await measure(packed, processor, contexts, setting));
    }
    await packed.dispose();
  }
  await dense.dispose();
  progress.done();
  const denseAccuracy = share((contexts ?? []).flatMap((context) => context.denseRight));
  report(rows, denseAccuracy);
  const result = {
    suite: 'loyalty',
    model: path.basename(EMBEDDED_MODEL),
    date: new Date().toISOString().slice(0, 10),
    contexts: contexts?.length ?? 0,
    denseAccuracy,
    rows,
  };
  if (limit === undefined) await save(result);
  if (json) printJson(result);
}

async function readContexts(
  dense: PreTrainedModel,
  processor: Processor,
  folder: string,
  contexts: EvalFile['contexts'],
  progress: Progress,
): Promise<Context[]> {
  const read: Context[] = [];
  for (const [i, context] of contexts.entries()) {
    progress.update(`dense answers, context ${i + 1} of ${contexts.length}`);
    const images = await readImages(context.images.map((image) => path.join(folder, image)));
    const reference = await askDense(
      dense,
      processor,
      images,
      context.questions.map((entry) => entry.question),
      MAX_NEW_TOKENS,
    );
    const expected = context.questions.map((entry) => entry.answer);
    read.push({ reference, expected, denseRight: reference.questions.map(({ answer }, q) => decode(processor, answer) === expected[q]) });
  }
  return read;
}

async function measure(
  packed: PreTrainedModel & PackedModel,
  processor: Processor,
  contexts: readonly Context[],
  setting: Setting,
): Promise<LoyaltyRow> {
  const options = { rank: setting.rank, basisPer: setting.basisPer };
  const agreements: Agreement[] = [];
  const matches: number[] = [];
  const right: boolean[] = [];
  let bytes = { visual: 0, total: 0 };
  for (const { reference, expected, denseRight } of contexts) {
    const loyalty = await measureLoyalty(packed, reference, options);
    agreements.push(loyalty.agreement);
    matches.push(loyalty.answerMatch);
    bytes = { visual: loyalty.report.visualCompression, total: loyalty.report.compression };
    // All tokens predicted means the same answer; only the others have to be generated.
    if (loyalty.answerMatch === 1) right.push(...denseRight);
    else {
      const { answers } = await askPacked(packed, reference, options, MAX_NEW_TOKENS);
      right.push(...answers.map((answer, q) => decode(processor, answer) === expected[q]));
    }
  }
  const { top1, kl, tokens } = meanAgreement(agreements);
  return {
    ...setting,
    visualCompression: bytes.visual,
    compression: bytes.total,
    top1,
    kl,
    tokens,
    answerMatch: share(matches),
    accuracy: share(right),
  };
}

function share(values: readonly (number | boolean)[]): number {
  return values.length ? values.reduce<number>((sum, value) => sum + Number(value), 0) / values.length : 0;
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
