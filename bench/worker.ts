/** One opponent in one fresh process: loads, fills the cache, warms up, times steps of `generate`, and sends the result to its parent. */
import { setImmediate } from 'node:timers/promises';
import { BaseStreamer, InterruptableStoppingCriteria, Tensor } from '@huggingface/transformers';
import { OPPONENTS } from './opponents/index.ts';
import type { Ready, Task } from './opponents/opponent.ts';

export interface WorkerTask extends Task {
  readonly opponent: string;
  /** Steps before the first one that counts. */
  readonly warmup: number;
  /** Steps that count, at least; more are taken while {@link budgetMs} lasts. */
  readonly steps: number;
  readonly maxSteps: number;
  readonly budgetMs: number;
}

export interface WorkerResult {
  readonly stepMs: readonly number[];
  /** Loading the model and filling the cache. */
  readonly openMs: number;
  readonly compactMs: number;
  readonly cacheBytes: number;
  /** Largest resident set of the process: after the cache was filled, and at the end. */
  readonly peakOpenBytes: number;
  readonly peakBytes: number;
}

export type WorkerMessage = { readonly result: WorkerResult } | { readonly error: string };

/** Linux counts in KiB, and so does Node everywhere. */
const peakRss = (): number => process.resourceUsage().maxRSS * 1024;

async function measure(task: WorkerTask): Promise<WorkerResult> {
  const opponent = OPPONENTS.find((candidate) => candidate.name === task.opponent);
  if (!opponent) throw new Error(`no opponent ${task.opponent}`);
  const start = performance.now();
  const ready = await opponent.open(task);
  const openMs = performance.now() - start;
  const peakOpenBytes = peakRss();
  const stepMs = await decode(ready, task);
  if (task.profile !== undefined) await ready.model.dispose(); // sessions write their profiles when they end
  const { cacheBytes, compactMs } = ready;
  return { stepMs, openMs, compactMs, cacheBytes, peakOpenBytes, peakBytes: peakRss() };
}

/** Times between tokens of one greedy `generate` behind the context. */
async function decode({ model, cache, ids }: Ready, { warmup, steps, maxSteps, budgetMs }: WorkerTask): Promise<number[]> {
  const stop = new InterruptableStoppingCriteria();
  const stepMs: number[] = [];
  let last = 0;
  let calls = 0;
  class Timer extends BaseStreamer {
    /** First called with the prompt, then after each token. */
    override put(): void {
      const now = performance.now();
      if (calls++ > warmup) stepMs.push(now - last);
      last = now;
      const spent = stepMs.reduce((sum, ms) => sum + ms, 0);
      if (stepMs.length >= steps && (spent >= budgetMs || stepMs.length >= maxSteps)) stop.interrupt();
    }
    override end(): void {}
  }
  const length = ids.length + 1;
  const numNew = warmup + maxSteps + 1;
  await model.generate({
    input_ids: new Tensor('int64', BigInt64Array.from([...ids, 7], BigInt), [1, length]),
    attention_mask: new Tensor('int64', new BigInt64Array(length).fill(1n), [1, length]),
    past_key_values: cache,
    max_new_tokens: numNew,
    min_new_tokens: numNew, // random weights end whenever they like
    do_sample: false,
    streamer: new Timer(),
    stopping_criteria: stop,
  } as never);
  return stepMs;
}

if (process.send) {
  process.once('disconnect', () => process.exit(1)); // the benchmark is gone
  process.once('message', async (task: WorkerTask) => {
    let message: WorkerMessage;
    try {
      message = { result: await measure(task) };
    } catch (error) {
      message = { error: error instanceof Error ? (error.stack ?? error.message) : String(error) };
    }
    process.send?.(message, () => process.exit(0));
    await setImmediate();
  });
}
