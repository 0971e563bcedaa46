/** `attentionpack eval <model>`: task scores, loyalty and bytes of cache settings, each paired with the dense cache; resumable. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { env, LogLevel } from '@huggingface/transformers';
import { defineCommand } from 'citty';
import { AttentionPackError } from '../errors.ts';
import { findTasks, listTasks } from '../eval/find-tasks.ts';
import { aboutRun, COLUMNS, cells, htmlReport } from '../eval/report.ts';
import { type Evaluation, type EvaluationProgress, evaluate } from '../eval/run.ts';
import { DEFAULT_SETTINGS, parseSettings, SETTINGS } from '../eval/settings.ts';
import { jsonArg, wholeNumber } from './args.ts';
import { MODEL_ARGUMENT, modelNamed } from './embedded.ts';
import { interruptible } from './interruptible.ts';
import { checkModel, dtypeOption } from './models.ts';
import { colours, guarded, Progress, printJson, printTable } from './output.ts';

export const evalCommand = defineCommand({
  meta: { name: 'eval', description: 'measure cache settings on tasks: score, loyalty and bytes, paired with the dense cache' },
  args: {
    model: { type: 'positional', required: false, description: MODEL_ARGUMENT },
    tasks: { type: 'string', description: 'tasks by name, or all (default: all); --list shows them', valueHint: 'names' },
    data: { type: 'string', description: 'folders of public datasets: name=folder,name=folder', valueHint: 'folders' },
    cache: { type: 'string', description: `cache settings (default: ${DEFAULT_SETTINGS}); --list shows them`, valueHint: 'settings' },
    limit: { type: 'string', description: 'only the first contexts of each task', valueHint: 'contexts' },
    out: {
      type: 'string',
      description: 'folder of the journal and the results; the same command goes on where it stopped (default: eval-<model>)',
      valueHint: 'folder',
    },
    dtype: { type: 'string', description: "precision of the weights, as transformers.js names it (default: the model's own)" },
    pixels: { type: 'string', description: "width and height of drawn pictures (default: the model's own, or 64)" },
    seed: { type: 'string', description: 'seed of drawn pictures and questions (default: 1)' },
    threads: { type: 'string', description: "threads of ONNX Runtime (default: the runtime's own choice)" },
    list: { type: 'boolean', description: 'list tasks and cache settings, and do nothing else' },
    ...jsonArg,
  },
  run: ({ args }) => guarded(() => (args.list ? Promise.resolve(list(args.json === true)) : run(args))),
});

interface Args {
  readonly model?: string;
  readonly tasks?: string;
  readonly data?: string;
  readonly cache?: string;
  readonly limit?: string;
  readonly out?: string;
  readonly dtype?: string;
  readonly pixels?: string;
  readonly seed?: string;
  readonly threads?: string;
  readonly json?: boolean;
}

async function run(args: Args): Promise<void> {
  const model = modelNamed(args.model);
  checkModel(model);
  const cache = parseSettings(args.cache ?? DEFAULT_SETTINGS);
  const limit = args.limit === undefined ? undefined : wholeNumber('--limit', args.limit);
  const threads = args.threads === undefined ? undefined : wholeNumber('--threads', args.threads);
  const load = { ...dtypeOption(model, args.dtype), ...(threads !== undefined && { session_options: { intraOpNumThreads: threads } }) };
  const size = args.pixels === undefined ? ownPixels(model) : wholeNumber('--pixels', args.pixels);
  const seed = args.seed === undefined ? undefined : wholeNumber('--seed', args.seed);
  const drawn = { ...(size !== undefined && { size }), ...(seed !== undefined && { seed }) };
  const tasks = await findTasks(names(args.tasks ?? 'all'), { data: folders(args.data), drawn });
  const out = args.out ?? `eval-${path.basename(path.resolve(model))}`;
  env.logLevel = LogLevel.ERROR;

  const progress = new Progress();
  let last: EvaluationProgress | undefined;
  const onProgress = (step: EvaluationProgress): void => {
    last = step;
    progress.update(progressLine(step));
  };
  const result = await interruptible(
    progress,
    (signal) => evaluate(model, { tasks, cache, load, out, signal, onProgress, ...(limit !== undefined && { limit }) }),
    () => `${last?.total ? `${last.done} of ${last.total} done and kept in ${out}` : 'nothing lost'}. Go on with: ${resumeCommand()}`,
  );
  if (!result) return;
  const files = await save(result, out);
  print(result);
  console.log(`written to ${files.join(' and ')}`);
  if (args.json) printJson(result);
}

/** Pixels a side that a local model reads, where all pictures have one size that can be drawn. */
export function ownPixels(model: string): number | undefined {
  const file = path.join(model, 'config.json');
  if (!existsSync(file)) return undefined;
  const { vision_config } = JSON.parse(readFileSync(file, 'utf8')) as { vision_config?: { image_size?: number } };
  const size = vision_config?.image_size;
  return size !== undefined && size % 16 === 0 && size >= 64 ? Math.min(size, LARGEST_DRAWN) : undefined;
}

/** Larger pictures are read by enlarging these. */
const LARGEST_DRAWN = 320;

/** The command as it was typed, for a shell. */
function resumeCommand(): string {
  const quoted = (arg: string): string => (/^[\w./:=,@%+-]+$/.test(arg) ? arg : `'${arg.replaceAll("'", "'\\''")}'`);
  return ['attentionpack', ...process.argv.slice(2).map(quoted)].join(' ');
}

function names(text: string): string[] {
  const list = text.split(',').map((name) => name.trim());
  if (list.some((name) => !name)) throw new AttentionPackError(`--tasks takes names with commas between; got '${text}'`);
  return list;
}

/** `a-okvqa=/data/a-okvqa,mmmu=/data/mmmu` as a record. */
function folders(text: string | undefined): Record<string, string> {
  if (text === undefined) return {};
  return Object.fromEntries(
    text.split(',').map((part) => {
      const [, name, folder] = /^\s*([^=]+)=(.+)$/.exec(part) ?? [];
      if (!name || !folder) throw new AttentionPackError(`--data takes name=folder; got '${part}'`);
      return [name.trim(), folder.trim()];
    }),
  );
}

function progressLine({ phase, task, setting, done, total, secondsLeft }: EvaluationProgress): string {
  if (phase === 'loading') return 'loading the model';
  const left = secondsLeft === undefined ? '' : `, about ${duration(secondsLeft)} left`;
  return `${String(Math.floor((100 * done) / total)).padStart(3)} %  ${task}, ${setting}: ${done} of ${total}${left}`;
}

function duration(seconds: number): string {
  if (seconds < 90) return `${Math.ceil(seconds)} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

function print(result: Evaluation): void {
  for (const task of result.tasks) {
    const rows = result.rows.filter((row) => row.task === task.name);
    const skipped = task.skipped ? `; ${task.skipped} left out: ${task.skippedWhy}` : '';
    console.log(
      `${colours.bold(task.name)}: ${task.about}; ${task.metric}, ${task.questions} questions, ${task.contexts} contexts${skipped}`,
    );
    if (rows.length) printTable(COLUMNS, rows.map(cells));
  }
  for (const { setting, reason } of result.refused) console.log(`${setting} was not measured: ${reason}`);
  const { contextsAsked, contextsPerSecond } = result.run;
  if (contextsAsked) console.log(`${contextsAsked} contexts asked, ${contextsPerSecond.toPrecision(2)} a second through all settings`);
  console.log(aboutRun(result));
}

/** Results beside the journal, named by day; a later run of the day over the same journal replaces them, since it contains them. */
async function save(result: Evaluation, out: string): Promise<string[]> {
  mkdirSync(out, { recursive: true });
  const stem = path.join(out, `${result.run.date.slice(0, 10)}-${result.model.model.replaceAll('/', '-')}`);
  writeFileSync(`${stem}.json`, `${JSON.stringify(result, null, 1)}\n`);
  writeFileSync(`${stem}.html`, await htmlReport(result));
  return [`${stem}.json`, `${stem}.html`];
}

function list(json: boolean): void {
  const tasks = listTasks();
  printTable(
    ['task', ''],
    tasks.map(({ name, about, files }) => [name, files ? `${about}; --data ${name}=<folder> with ${files}` : about]),
  );
  printTable(['cache', ''], Object.entries(SETTINGS));
  if (json) printJson({ tasks, cache: Object.entries(SETTINGS).map(([name, about]) => ({ name, about })) });
}
