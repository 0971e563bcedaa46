/** `decode`: milliseconds per token behind a long context, each opponent in its own processes, in rounds of reversed order. */
import { type ChildProcess, fork } from 'node:child_process';
import { existsSync, mkdirSync, renameSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import prettyBytes from 'pretty-bytes';
import { colours, type Progress, printTable } from '../src/cli/output.ts';
import type { Dtype } from '../src/convert/index.ts';
import { describeCard, makeCard } from './card.ts';
import { availableBytes, type Machine } from './machine.ts';
import { decoderFacts, modelFolder } from './model.ts';
import { OPPONENTS } from './opponents/index.ts';
import { plan, type Row, type Run, type Skip, secondsLeft, toRows, type Verdict, verdicts } from './plan.ts';
import type { WorkerMessage, WorkerResult, WorkerTask } from './worker.ts';

export interface DecodeOptions {
  readonly shape: string;
  readonly dtype: Dtype;
  readonly accuracy: 0 | 4;
  readonly layers: number | undefined;
  readonly contexts: readonly number[];
  readonly opponents: readonly string[];
  readonly rounds: number;
  readonly steps: number;
  readonly threads: number;
  /** Where models are kept between runs, and where results go. */
  readonly modelRoot: string;
  readonly resultsFolder: string;
  readonly signal: AbortSignal;
}

export interface DecodeResult {
  readonly benchmark: 'decode';
  readonly shape: string;
  readonly file: string;
  readonly rows: readonly Row[];
  readonly skipped: readonly Skip[];
  readonly promises: readonly Verdict[];
}

const WARMUP_STEPS = 2;
const MAX_STEPS = 24;
/** Quick opponents take more steps than asked for, until so much time is spent. */
const STEP_BUDGET_MS = 2000;

/** Measures one shape. What is finished is on disk after every run; an aborted signal ends the rounds early and keeps it. */
export async function benchDecode(options: DecodeOptions, machine: Machine, progress: Progress): Promise<DecodeResult> {
  const { shape, dtype, accuracy, layers, contexts, rounds, signal } = options;
  const folder = await modelFolder(options.modelRoot, { shape, dtype, accuracy, layers }, (text) => progress.update(text));
  const facts = decoderFacts(folder);
  const opponents = OPPONENTS.filter(({ name }) => options.opponents.includes(name));
  const card = makeCard(facts, machine, opponents, contexts);
  const name = `${shape}${layers === undefined ? '' : `-${layers}l`}${accuracy ? '' : '-exact'}`;
  progress.done();
  console.log(describeCard(`decode, ${name}, ${dtype}, accuracy level ${accuracy}`, card, machine, opponents).join('\n'));

  const runs: Run[] = [];
  const skipped: Skip[] = [];
  const file = freeName(options.resultsFolder, `${new Date().toISOString().slice(0, 10)}-decode-${name}`);
  const result = (): DecodeResult => {
    const rows = toRows(runs);
    return {
      benchmark: 'decode',
      shape: name,
      file: path.basename(file),
      rows,
      skipped,
      promises: verdicts(layers === undefined ? shape : name, rows),
    };
  };
  const save = (): void =>
    writeWhole(file, { date: new Date().toISOString(), dtype, machine, card, settings: settingsOf(options), ...result(), runs });

  const jobs = plan(
    opponents.map((opponent) => opponent.name),
    contexts,
    rounds,
  );
  for (const [done, job] of jobs.entries()) {
    if (signal.aborted) break;
    const needed = facts.fileBytes * 2 + (opponents.find((one) => one.name === job.opponent)?.neededBytes(facts.shape, job.context) ?? 0);
    const available = availableBytes();
    if (needed > available) {
      skipped.push({ ...job, reason: `needs about ${prettyBytes(needed)} of memory, ${prettyBytes(available)} are free` });
      save();
      continue;
    }
    const left = runs.length ? `, about ${clock(secondsLeft(jobs.slice(done), runs))} left` : '';
    progress.update(`${name}: run ${done + 1} of ${jobs.length}, ${job.opponent} at ${job.context} tokens, round ${job.round + 1}${left}`);
    const start = performance.now();
    const outcome = await runWorker(
      {
        opponent: job.opponent,
        folder,
        dtype,
        context: job.context,
        threads: options.threads,
        warmup: WARMUP_STEPS,
        steps: options.steps,
        maxSteps: Math.max(MAX_STEPS, options.steps),
        budgetMs: STEP_BUDGET_MS,
      },
      signal,
    );
    if (signal.aborted) break;
    if ('result' in outcome) runs.push({ ...job, ...outcome.result, totalMs: performance.now() - start });
    else skipped.push({ ...job, reason: outcome.error });
    save();
  }
  progress.done();
  const final = result();
  printResult(final, card.floors);
  return final;
}

/** Starts one worker and waits for its message. */
async function runWorker(task: WorkerTask, signal: AbortSignal): Promise<{ result: WorkerResult } | { error: string }> {
  const child: ChildProcess = fork(path.join(import.meta.dirname, 'worker.ts'), { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
  const stop = (): void => void child.kill('SIGKILL');
  signal.addEventListener('abort', stop);
  try {
    return await new Promise<WorkerMessage>((resolve) => {
      child.once('message', (message: WorkerMessage) => resolve(message));
      child.once('exit', (code, killed) => resolve({ error: `the process ended with ${killed ?? code} before it had a result` }));
      child.send(task);
    });
  } finally {
    signal.removeEventListener('abort', stop);
    if (child.exitCode === null && child.signalCode === null) await new Promise((resolve) => child.once('exit', resolve));
  }
}

function printResult(
  { rows, skipped, promises }: DecodeResult,
  floors: readonly { opponent: string; context: number; floorMs: number }[],
): void {
  printTable(
    ['context', 'opponent', 'ms/token', 'least-most', 'rounds', 'floor', 'times faster', 'cache', 'peak RSS', 'of stock'],
    rows.map((row) => {
      const floor = floors.find(({ opponent, context }) => opponent === row.opponent && context === row.context)?.floorMs;
      return [
        row.context,
        row.opponent,
        row.medianMs.toFixed(1),
        `${row.minMs.toFixed(1)}-${row.maxMs.toFixed(1)}`,
        row.roundMs.map((ms) => ms.toFixed(1)).join(' '),
        floor?.toFixed(1) ?? '',
        row.timesFaster?.toFixed(1) ?? '',
        prettyBytes(row.cacheBytes),
        prettyBytes(row.peakBytes),
        row.peakShare === undefined ? '' : `${(100 * row.peakShare).toFixed(0)} %`,
      ];
    }),
  );
  for (const { opponent, context, round, reason } of skipped)
    console.log(`skipped: ${opponent} at ${context}, round ${round + 1}: ${reason}`);
  for (const { promise, measured, kept } of promises) {
    console.log(`${kept ? colours.green('kept') : colours.red('not kept')}: ${promise}; measured ${measured}`);
  }
}

function settingsOf({ accuracy, layers, contexts, rounds, steps, threads }: DecodeOptions): Record<string, unknown> {
  return {
    accuracy,
    layers: layers ?? 'all',
    contexts,
    rounds,
    steps,
    threads,
    warmup: WARMUP_STEPS,
    maxSteps: MAX_STEPS,
    stepBudgetMs: STEP_BUDGET_MS,
  };
}

/** `<stem>.json`, or `<stem>-2.json` and so on: a later run of the day never replaces an earlier one. */
function freeName(folder: string, stem: string): string {
  for (let n = 1; ; n++) {
    const file = path.join(folder, `${stem}${n > 1 ? `-${n}` : ''}.json`);
    if (!existsSync(file)) return file;
  }
}

/** Replaces the file at once, so that an interrupt leaves the old or the new one, never half. */
function writeWhole(file: string, content: unknown): void {
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(`${file}.part`, `${JSON.stringify(content, null, 1)}\n`);
  renameSync(`${file}.part`, file);
}

function clock(seconds: number): string {
  return seconds < 90 ? `${Math.round(seconds)} s` : `${Math.round(seconds / 60)} min`;
}
