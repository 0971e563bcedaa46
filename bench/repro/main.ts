/** `npm run repro`: the figures and tables of arXiv 2603.23914 in kind, on the embedded models or on any other; see bench/repro/README.md. */
import path from 'node:path';
import { env, LogLevel } from '@huggingface/transformers';
import { defineCommand, runMain } from 'citty';
import { jsonArg, wholeNumber } from '../../src/cli/args.ts';
import { PACKAGE_ROOT } from '../../src/cli/embedded.ts';
import { checkFlags } from '../../src/cli/flags.ts';
import { interruptible } from '../../src/cli/interruptible.ts';
import { guarded, Progress, printJson } from '../../src/cli/output.ts';
import { oneOf } from '../../src/options.ts';
import { writePage } from './page.ts';
import { PART_NAMES } from './part.ts';
import { PARTS } from './parts.ts';
import { type Outcome, type Places, reproduce } from './run.ts';
import { describeSizes, FULL, QUICK_LIMIT, sizesOf } from './sizes.ts';

const RESULTS = path.join(PACKAGE_ROOT, 'bench', 'results');
/** Not for git. */
const CACHE = path.join(PACKAGE_ROOT, '.cache', 'repro');

const args = {
  model: {
    type: 'string',
    default: 'pack-mha,pack-gqa',
    description: 'models: names of embedded ones, folders or ids, with commas between',
    valueHint: 'models',
  },
  only: { type: 'string', default: PART_NAMES.join(','), description: 'parts, with commas between', valueHint: 'parts' },
  limit: {
    type: 'string',
    description:
      'at most so many contexts of each sort, and fewer frames, rounds and queries to go with it; such results have a folder of their own',
    valueHint: 'contexts',
  },
  quick: { type: 'boolean', description: `the same as --limit ${QUICK_LIMIT}` },
  out: {
    type: 'string',
    description: 'folder for results and page (default: bench/results and bench/repro; with --limit .cache/repro/limit-<n>)',
    valueHint: 'folder',
  },
  threads: { type: 'string', default: '2', description: 'threads of ONNX Runtime' },
  again: { type: 'boolean', description: 'measure parts anew that are finished for these weights and versions' },
  page: { type: 'boolean', description: 'measure nothing, only make the page from the results there are' },
  ...jsonArg,
} as const;

const minutes = PARTS.reduce((sum, part) => sum + part.minutes, 0);

const command = defineCommand({
  meta: {
    name: 'npm run repro --',
    description: [
      'makes the figures and tables of the AttentionPack paper (arXiv 2603.23914) in kind, one dated JSON a part, and the page of them.',
      `Parts: ${PARTS.map((part) => `${part.name} (${part.about}, ${part.minutes} min)`).join('; ')}.`,
      `About ${minutes} minutes for pack-mha and half of that for pack-gqa on two quiet cores.`,
      `Sizes: ${describeSizes(FULL)}.`,
      'A run that is stopped goes on with the same command; finished parts are kept.',
    ].join('\n'),
  },
  args,
  run: ({ args: given, rawArgs }) =>
    guarded(async () => {
      checkFlags('repro', args, rawArgs);
      const limit = given.limit === undefined ? (given.quick ? QUICK_LIMIT : undefined) : wholeNumber('--limit', given.limit);
      const places = placesOf(given.out, limit);
      env.logLevel = LogLevel.ERROR;
      const progress = new Progress();
      const outcomes: Outcome[] = [];
      if (!given.page) {
        const parts = given.only.split(',').map((name) => oneOf('--only', name.trim(), PART_NAMES));
        await interruptible(
          progress,
          (signal) =>
            reproduce({
              models: given.model.split(',').map((name) => name.trim()),
              parts: PARTS.filter(({ name }) => parts.includes(name)),
              sizes: sizesOf(limit),
              threads: wholeNumber('--threads', given.threads),
              places,
              again: given.again === true,
              signal,
              onProgress: (text) => progress.update(text),
              onOutcome: (outcome) => {
                progress.done();
                outcomes.push(outcome);
                console.log(lineOf(outcome));
              },
            }),
          () => 'what was finished is kept; the same command goes on from there',
        );
      }
      const page = await writePage(places.page, places.results);
      console.log(`page: ${page}`);
      if (given.json) printJson({ outcomes, page });
    }),
});

function placesOf(out: string | undefined, limit: number | undefined): Places {
  if (out !== undefined) return { results: out, page: out, kept: path.join(out, 'unfinished') };
  if (limit === undefined) return { results: RESULTS, page: import.meta.dirname, kept: path.join(CACHE, 'unfinished') };
  const folder = path.join(CACHE, `limit-${limit}`);
  return { results: folder, page: folder, kept: path.join(folder, 'unfinished') };
}

function lineOf({ model, part, ...outcome }: Outcome): string {
  if ('skipped' in outcome) return `${model} ${part}: left out: ${outcome.skipped}`;
  return `${model} ${part}: ${outcome.wasThere ? 'was there' : 'measured'}, ${path.relative('', outcome.file)}`;
}

await runMain(command);
