/** Milliseconds per token of settings: steps of `generate` behind one held context, in rounds that go through all settings, there and back. */
import type { AskedQuestion } from '../../src/compare/context.ts';
import { assert } from '../../src/errors.ts';
import { median, StepTimer } from '../../src/step-timer.ts';
import { type HeldSettings, holdAll } from './held.ts';
import type { Running } from './part.ts';
import { firstContexts, needleTask } from './tasks.ts';

export interface StepRow {
  readonly setting: string;
  /** Median over all steps. */
  readonly msPerToken: number;
  /** Dense milliseconds over those of the setting, in the same round: median, least and most over rounds. */
  readonly timesFaster: { readonly median: number; readonly least: number; readonly most: number };
}

export interface Steps {
  readonly pictures: number;
  /** Tokens of the context. */
  readonly tokens: number;
  readonly rounds: number;
  readonly rows: readonly StepRow[];
}

/** One round: milliseconds of each step, by setting. */
export type Round = Readonly<Record<string, readonly number[]>>;

/** Steps of the first round are warm-up. */
export async function measureSteps(running: Running, settings: readonly string[], from: number): Promise<Steps> {
  const { subject, sizes, kept, signal, onProgress } = running;
  const { pictures, rounds, tokens } = sizes.steps;
  const [context] = await firstContexts(needleTask(subject, pictures, 1), 1);
  assert(context, 'a context to be held');
  const names = Array.from({ length: rounds }, (_, round) => `steps ${round}`);
  let open: HeldSettings | undefined;
  const held = async (): Promise<HeldSettings> => (open ??= await holdAll(running, settings, context));
  try {
    if (names.some((name) => !kept.has(name))) onProgress(from, `holding ${pictures} pictures in every cache`);
    const size = await kept.once('context', async () => ({ tokens: (await held()).numTokens }));
    const measured: Round[] = [];
    for (const [round, name] of names.entries()) {
      signal.throwIfAborted();
      onProgress(from + ((1 - from) * round) / rounds, `decode steps, round ${round + 1} of ${rounds}`);
      measured.push(
        await kept.once(name, async () => {
          const order = (await held()).all;
          // The first question a process asks is never like the others.
          if (round === 0) await oneRound(order, tokens, signal);
          return oneRound(round % 2 ? order.toReversed() : order, tokens, signal);
        }),
      );
    }
    return { pictures, tokens: size.tokens, rounds, rows: toRows(measured) };
  } finally {
    await open?.[Symbol.asyncDispose]();
  }
}

async function oneRound(settings: HeldSettings['all'], tokens: number, signal: AbortSignal): Promise<Round> {
  const round: Record<string, number[]> = {};
  for (const { setting, held } of settings) {
    signal.throwIfAborted();
    const [question] = held.context.questions;
    assert(question, 'a context has questions');
    const timer = new StepTimer();
    await held.answer(longAnswer(question, tokens + 1), tokens + 1, timer);
    round[setting] = timer.stepMs.map((ms) => Number(ms.toPrecision(5)));
  }
  return round;
}

/** The question, to be answered with so many tokens whether or not the answer is at its end: `generate` takes it from its inputs. */
function longAnswer(question: AskedQuestion, tokens: number): AskedQuestion {
  return { ...question, inputs: Object.assign({ ...question.inputs }, { min_new_tokens: tokens } as object) };
}

/** Settings in the order of the first round, dense first. */
export function toRows(rounds: readonly Round[]): StepRow[] {
  const [first] = rounds;
  assert(first, 'at least one round');
  return Object.keys(first).map((setting) => {
    const ratios = rounds.map((round) => median(round.dense ?? []) / median(round[setting] ?? []));
    return {
      setting,
      msPerToken: median(rounds.flatMap((round) => round[setting] ?? [])),
      timesFaster: { median: median(ratios), least: Math.min(...ratios), most: Math.max(...ratios) },
    };
  });
}
