/** Goes through models and parts, and leaves a result for each on disk. */
import { rmSync } from 'node:fs';
import { AttentionPackError, firstLine } from '../../src/errors.ts';
import { type Machine, readMachine } from '../machine.ts';
import { Kept } from './kept.ts';
import type { Asked, Part, PartName, Running, Subject } from './part.ts';
import { fileOf, finished, keptFolder, save } from './results.ts';
import { FULL, type Sizes } from './sizes.ts';
import { subjectOf } from './subject.ts';
import { duration, RunTime } from './time.ts';

/** Folders: of results, of the page made from them, and of what is not finished. */
export interface Places {
  readonly results: string;
  readonly page: string;
  readonly kept: string;
}

export interface ReproduceOptions {
  readonly models: readonly string[];
  readonly parts: readonly Part<unknown>[];
  readonly sizes: Sizes;
  readonly threads: number;
  readonly places: Places;
  /** Measures parts anew that were finished. */
  readonly again: boolean;
  readonly signal: AbortSignal;
  readonly onProgress: (text: string) => void;
  readonly onOutcome: (outcome: Outcome) => void;
}

export type Outcome = { readonly model: string; readonly part: PartName } & (
  | { readonly file: string; readonly wasThere: boolean }
  | { readonly skipped: string }
);

interface Job {
  readonly subject: Subject;
  readonly part: Part<unknown>;
  readonly asked: Asked;
}

/** Throws the signal's reason when it is aborted; everything finished is on disk then. */
export async function reproduce(options: ReproduceOptions): Promise<void> {
  const { sizes, places, threads, signal, onProgress, onOutcome } = options;
  const jobs = await jobsOf(options);
  const minutesOf = ({ minutes }: Part<unknown>): number => (minutes * sizes.quality) / FULL.quality;
  const time = new RunTime(jobs.map(({ part }) => minutesOf(part)));
  let machine: Machine | undefined;
  for (const [i, { subject, part, asked }] of jobs.entries()) {
    signal.throwIfAborted();
    onProgress('measuring bandwidth and GEMM rate');
    machine ??= await readMachine(threads);
    const kept = keptFolder(places.kept, subject, part.name, asked);
    const start = performance.now();
    const running: Running = {
      subject,
      sizes,
      kept: new Kept(kept),
      signal,
      onProgress: (share, text) => {
        const left = duration(time.secondsLeft(minutesOf(part), share));
        onProgress(`${subject.name} ${part.name}, ${i + 1} of ${jobs.length}: ${Math.floor(100 * share)} %, ${text}; about ${left} left`);
      },
    };
    let data: unknown;
    try {
      data = await part.measure(running);
    } catch (cause) {
      if (signal.aborted || !(cause instanceof AttentionPackError)) throw cause;
      // A model that cannot have one part may have the others.
      onOutcome({ model: subject.name, part: part.name, skipped: firstLine(cause) });
      continue;
    } finally {
      time.finish(minutesOf(part));
    }
    const seconds = Math.round((performance.now() - start) / 1000);
    const date = new Date().toISOString();
    const result = {
      format: 'attentionpack-repro',
      version: 1,
      part: part.name,
      model: subject.identity,
      machine,
      date,
      seconds,
      asked,
      data,
    } as const;
    const file = save(places.results, result);
    rmSync(kept, { recursive: true, force: true });
    onOutcome({ model: subject.name, part: part.name, file, wasThere: false });
  }
}

/** What is left to do; parts that are finished, or that this version cannot measure, are told at once. */
async function jobsOf({ models, parts, sizes, threads, places, again, onOutcome }: ReproduceOptions): Promise<Job[]> {
  const jobs: Job[] = [];
  for (const model of models) {
    const subject = await subjectOf(model, threads);
    for (const part of parts) {
      const of = { model: subject.name, part: part.name };
      let asked: Asked;
      try {
        asked = part.asks(subject, sizes);
      } catch (cause) {
        if (!(cause instanceof AttentionPackError)) throw cause;
        onOutcome({ ...of, skipped: firstLine(cause) });
        continue;
      }
      const before = again ? undefined : finished(places.results, subject, part.name, asked);
      if (before) onOutcome({ ...of, file: fileOf(places.results, before), wasThere: true });
      else jobs.push({ subject, part, asked });
    }
  }
  return jobs;
}
