/** Long work that Ctrl-C ends at a clean point instead of anywhere. */
import type { Progress } from './output.ts';

/** What shells report for a process stopped by Ctrl-C. */
const INTERRUPTED = 130;
const SIGNALS = ['SIGINT', 'SIGTERM'] as const;

/**
 * Runs `work`, whose progress line is cleared when it ends; the first SIGINT or SIGTERM aborts its signal. If it then throws, the exit code is 130 and
 * `stopped()` says on stderr what was kept; undefined is returned.
 */
export async function interruptible<T>(
  progress: Progress,
  work: (signal: AbortSignal) => Promise<T>,
  stopped: () => string,
): Promise<T | undefined> {
  const stop = new AbortController();
  const interrupt = (): void => stop.abort();
  for (const signal of SIGNALS) process.once(signal, interrupt);
  try {
    return await work(stop.signal);
  } catch (error) {
    if (!stop.signal.aborted) throw error;
    progress.done();
    process.stderr.write(`stopped; ${stopped()}\n`);
    process.exitCode = INTERRUPTED;
    return undefined;
  } finally {
    progress.done();
    for (const signal of SIGNALS) process.off(signal, interrupt);
  }
}
