/** Which measurements are made in which order, and how runs become rows. Pure: no process is started here. */
import { median } from '../src/step-timer.ts';
import { PACKED } from './opponents/index.ts';
import type { WorkerResult } from './worker.ts';

export interface Job {
  readonly opponent: string;
  readonly context: number;
  /** From 0. */
  readonly round: number;
}

/**
 * Rounds within contexts, short contexts first, so that early rows are whole early. The order of opponents is reversed in each round:
 * whatever drifts (heat, page cache) then favours nobody.
 */
export function plan(opponents: readonly string[], contexts: readonly number[], rounds: number): Job[] {
  return [...contexts]
    .sort((a, b) => a - b)
    .flatMap((context) =>
      Array.from({ length: rounds }, (_, round) => {
        const order = round % 2 ? [...opponents].reverse() : opponents;
        return order.map((opponent) => ({ opponent, context, round }));
      }).flat(),
    );
}

export interface Run extends Job, WorkerResult {
  /** Wall-clock of the whole process. */
  readonly totalMs: number;
}

export interface Skip extends Job {
  readonly reason: string;
}

/** All rounds of one opponent at one context. */
export interface Row {
  readonly opponent: string;
  readonly context: number;
  readonly steps: number;
  /** Over the steps of all rounds. */
  readonly medianMs: number;
  readonly minMs: number;
  readonly maxMs: number;
  /** Median of each round, in order: how far they lie apart is the honest spread. */
  readonly roundMs: readonly number[];
  readonly cacheBytes: number;
  readonly compactMs: number;
  /** Largest of all rounds. */
  readonly peakBytes: number;
  /** Times faster than stock at the same context, and share of its peak memory; undefined without stock. */
  readonly timesFaster: number | undefined;
  readonly peakShare: number | undefined;
}

export function toRows(runs: readonly Run[]): Row[] {
  const groups = new Map<string, Run[]>();
  for (const run of runs) {
    const key = `${run.context} ${run.opponent}`;
    groups.set(key, [...(groups.get(key) ?? []), run]);
  }
  const rows = [...groups.values()].map((group): Row => {
    const [first] = group as [Run];
    const steps = group.flatMap((run) => run.stepMs);
    return {
      opponent: first.opponent,
      context: first.context,
      steps: steps.length,
      medianMs: median(steps),
      minMs: Math.min(...steps),
      maxMs: Math.max(...steps),
      roundMs: group.map((run) => median(run.stepMs)),
      cacheBytes: first.cacheBytes,
      compactMs: median(group.map((run) => run.compactMs)),
      peakBytes: Math.max(...group.map((run) => run.peakBytes)),
      timesFaster: undefined,
      peakShare: undefined,
    };
  });
  return rows.map((row) => {
    const stock = rows.find((other) => other.opponent === 'stock' && other.context === row.context);
    return stock ? { ...row, timesFaster: stock.medianMs / row.medianMs, peakShare: row.peakBytes / stock.peakBytes } : row;
  });
}

/** Seconds the jobs left will take: like their own earlier rounds, else like the mean of what was run. */
export function secondsLeft(left: readonly Job[], runs: readonly Run[]): number {
  const mean = (of: readonly Run[]): number => of.reduce((sum, run) => sum + run.totalMs, 0) / Math.max(1, of.length);
  const like = (job: Job): Run[] => runs.filter((run) => run.opponent === job.opponent && run.context === job.context);
  return left.reduce((sum, job) => sum + mean(like(job).length ? like(job) : runs), 0) / 1000;
}

/** What was promised at 8192 tokens, times faster than stock; and of its peak memory at most this share. */
const PROMISES: Readonly<Record<string, number>> = { 'mha-1.7b': 20, 'smol-135m': 6 };
const PROMISED_CONTEXT = 8192;
const PROMISED_PEAK_SHARE = 0.25;

export interface Verdict {
  readonly promise: string;
  readonly measured: string;
  readonly kept: boolean;
}

/** The promises held against the rows; none without the rows they speak of. */
export function verdicts(shape: string, rows: readonly Row[]): Verdict[] {
  const row = rows.find(({ opponent, context }) => opponent === PACKED && context === PROMISED_CONTEXT);
  const factor = PROMISES[shape];
  if (!row || row.timesFaster === undefined || row.peakShare === undefined || factor === undefined) return [];
  return [
    {
      promise: `${shape} at ${PROMISED_CONTEXT} tokens: at least ${factor} times faster than stock`,
      measured: `${row.timesFaster.toFixed(1)} times`,
      kept: row.timesFaster >= factor,
    },
    {
      promise: `peak memory below ${100 * PROMISED_PEAK_SHARE} % of stock's`,
      measured: `${(100 * row.peakShare).toFixed(0)} %`,
      kept: row.peakShare < PROMISED_PEAK_SHARE,
    },
  ];
}
