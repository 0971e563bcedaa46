/** The main job: several questions about eight pictures in one packed context, beside the dense cache of the same run. */
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { defineCommand } from 'citty';
import prettyBytes from 'pretty-bytes';
import { type Comparison, compare } from '../compare.ts';
import { AttentionPackError } from '../errors.ts';
import { saySize } from '../options/preset.ts';
import type { PackedOptions } from '../options.ts';
import { printAllocation } from './allocation.ts';
import { jsonArg, packingArgs, packingOptions } from './args.ts';
import { EMBEDDED_MODEL } from './embedded.ts';
import { dtypeOption, loadDense, loadPacked, readImages } from './models.ts';
import { colours, guarded, Progress, printJson, printTable } from './output.ts';

/** models/pack-mha/demo/questions.json */
interface DemoFile {
  /** What the demo packs with unless told otherwise. */
  readonly packing: PackedOptions;
  readonly images: readonly { readonly file: string; readonly concept: string }[];
  readonly questions: readonly { readonly question: string; readonly answer: string }[];
}

const NUM_IMAGES = 8;

export const demoCommand = defineCommand({
  meta: { name: 'demo', description: 'ask the embedded model about eight pictures, packed and dense side by side' },
  args: { ...packingArgs, ...jsonArg },
  run: ({ args }) =>
    guarded(async () => {
      const folder = path.join(EMBEDDED_MODEL, 'demo');
      const file = path.join(folder, 'questions.json');
      if (!existsSync(file))
        throw new AttentionPackError(`the embedded model is missing: ${file} does not exist; install the package again`);
      const demo = JSON.parse(readFileSync(file, 'utf8')) as DemoFile;
      const progress = new Progress();
      progress.update('loading the model');
      const asked = packingOptions(args);
      const options = { ...packingBeside(demo.packing, asked), ...dtypeOption(EMBEDDED_MODEL, undefined), ...asked };
      const images = await readImages(demo.images.slice(0, NUM_IMAGES).map((image) => path.join(folder, image.file)));
      const { packed, processor } = await loadPacked(EMBEDDED_MODEL, options);
      const dense = await loadDense(EMBEDDED_MODEL, dtypeOption(EMBEDDED_MODEL, undefined));
      const questions = demo.questions.map((entry) => entry.question);
      const result = await compare(dense, packed, processor, images, questions, { onProgress: (text) => progress.update(text) });
      progress.done();
      await packed.dispose();
      await dense.dispose();

      const expected = demo.questions.map((entry) => entry.answer);
      printAnswers(result, expected);
      printFigures(result);
      printAllocation(result.report);
      if (args.json) printJson(toJson(result, expected));
    }),
});

/** What is left of the demo's own packing where something else says how much is kept. */
function packingBeside({ preset, ...others }: PackedOptions, asked: PackedOptions): PackedOptions {
  return saySize(asked) || preset === undefined ? others : { preset, ...others };
}

function printAnswers({ answers }: Comparison, expected: readonly string[]): void {
  const mark = (answer: string, right: string | undefined): string => (answer === right ? colours.green(answer) : colours.yellow(answer));
  printTable(
    ['question', 'dense cache', 'packed cache', 'expected'],
    answers.map(({ question, dense, packed }, i) => [question, mark(dense, expected[i]), mark(packed, expected[i]), expected[i] ?? '']),
  );
}

function printFigures({ report, agreement, answerMatch, decodeMsPerToken, images, visualTokens }: Comparison): void {
  const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;
  const times = (factor: number): string => `${factor.toFixed(1)} times smaller`;
  printTable(
    ['', 'dense cache (fp16)', 'packed cache'],
    [
      ['tokens', report.tokens, `${report.tokens}, of which ${visualTokens} of ${images} images are packed`],
      [
        'bytes',
        prettyBytes(report.denseFp16Bytes),
        `${prettyBytes(report.bytes.total)} (codes ${prettyBytes(report.bytes.codes)}, bases ${prettyBytes(report.bytes.bases + report.bytes.steps)}, dense text ${prettyBytes(report.bytes.window)})`,
      ],
      ['compression', '', `${times(report.compression)}; images alone ${times(report.visualCompression)}`],
      ['ms per token', decodeMsPerToken.dense.toFixed(2), decodeMsPerToken.packed.toFixed(2)],
      [
        'loyalty',
        '',
        `top-1 ${percent(agreement.top1)} of ${agreement.tokens} tokens, same answers ${percent(answerMatch)}, KL ${agreement.kl.toFixed(4)}`,
      ],
    ],
  );
}

function toJson(
  { images, visualTokens, report, agreement, answerMatch, decodeMsPerToken, answers }: Comparison,
  expected: readonly string[],
): object {
  return {
    images,
    visualTokens,
    kv: {
      denseFp16Bytes: report.denseFp16Bytes,
      packedBytes: report.bytes.total,
      compression: report.compression,
      visualCompression: report.visualCompression,
    },
    loyalty: { top1: agreement.top1, answerMatch, kl: agreement.kl },
    decodeMsPerToken,
    answers: answers.map((answer, i) => ({ ...answer, expected: expected[i] ?? '' })),
  };
}
