/** Total decode latency of a hundred queries of one cached context, dense against packed; figure 5. */
import { sameTokens } from '../../../src/compare.ts';
import { assert } from '../../../src/errors.ts';
import { DENSE } from '../../../src/eval/settings.ts';
import { median } from '../../../src/step-timer.ts';
import { type HeldSettings, holdAll } from '../held.ts';
import type { Part } from '../part.ts';
import { latencySettings, namesOf } from '../settings.ts';
import { firstContexts, needleTask } from '../tasks.ts';

export interface LatencyRow {
  readonly setting: string;
  /** Reading the pictures into the cache, packing included, their encoding left out. */
  readonly prefillMs: number;
  /** Bytes of the cache behind the first question, as held. */
  readonly heldBytes: number;
  /** Queries read and answered, cumulated block by block: [blocks]. */
  readonly cumulativeMs: readonly number[];
  /** Answer tokens in all. */
  readonly tokens: number;
  /** Queries with the dense answer, token for token. */
  readonly same: number;
  /** Dense milliseconds over the setting's, block by block: median, least and most. */
  readonly timesFaster: { readonly median: number; readonly least: number; readonly most: number };
}

export interface LatencyData {
  readonly pictures: number;
  readonly contextTokens: number;
  readonly denseFp16Bytes: number;
  readonly queries: number;
  readonly perBlock: number;
  readonly rows: readonly LatencyRow[];
}

interface Facts {
  readonly contextTokens: number;
  readonly denseFp16Bytes: number;
  readonly settings: readonly { readonly setting: string; readonly prefillMs: number; readonly heldBytes: number }[];
}

/** One block of queries in one setting. */
export interface Block {
  readonly ms: number;
  /** Token ids of each answer, as text: JSON has no such integers. */
  readonly answers: readonly (readonly string[])[];
}

const MAX_NEW_TOKENS = 16;

export const latency: Part<LatencyData> = {
  name: 'latency',
  about: 'total decode latency of 100 queries of one context',
  minutes: 4,
  asks: (subject, { latency: sizes }) => ({ ...sizes, pixels: subject.pixels ?? null, settings: namesOf(latencySettings(subject)) }),
  async measure(running) {
    const { subject, sizes, kept, signal, onProgress } = running;
    const { pictures, blocks, perBlock } = sizes.latency;
    const [context] = await firstContexts(needleTask(subject, pictures, 1), 1);
    assert(context, 'a context to be asked about');
    const names = Array.from({ length: blocks }, (_, block) => `block ${block}`);
    let open: HeldSettings | undefined;
    const held = async (): Promise<HeldSettings> => (open ??= await holdAll(running, namesOf(latencySettings(subject)), context));
    try {
      onProgress(0, `holding ${pictures} pictures in every cache`);
      const facts = await kept.once('context', async () => factsOf(await held()));
      const measured: Record<string, Block>[] = [];
      for (const [block, name] of names.entries()) {
        signal.throwIfAborted();
        onProgress(0.1 + (0.9 * block) / blocks, `queries ${block * perBlock + 1} to ${(block + 1) * perBlock} of ${blocks * perBlock}`);
        measured.push(
          await kept.once(name, async () => {
            const { all } = await held();
            return askBlock(block % 2 ? all.toReversed() : all, block * perBlock, perBlock, signal);
          }),
        );
      }
      const rows = facts.settings.map((setting) => rowOf(setting, measured));
      const { contextTokens, denseFp16Bytes } = facts;
      return { pictures, contextTokens, denseFp16Bytes, queries: blocks * perBlock, perBlock, rows };
    } finally {
      await open?.[Symbol.asyncDispose]();
    }
  },
};

/** Warms every setting up as well: none is asked for the first time when the clock runs. */
async function factsOf({ all, numTokens }: HeldSettings): Promise<Facts> {
  const settings: Facts['settings'][number][] = [];
  let denseFp16Bytes = 0;
  for (const { setting, prefillMs, held } of all) {
    const [question] = held.context.questions;
    assert(question, 'a context has questions');
    const { tokens } = await held.answer(question, MAX_NEW_TOKENS);
    const { bytes } = await held.force(question, tokens);
    if (setting === DENSE.name) denseFp16Bytes = bytes.denseFp16;
    settings.push({ setting, prefillMs, heldBytes: bytes.held });
  }
  return { contextTokens: numTokens, denseFp16Bytes, settings };
}

/** Questions in turn, from the first again after the last. */
async function askBlock(settings: HeldSettings['all'], from: number, count: number, signal: AbortSignal): Promise<Record<string, Block>> {
  const blocks: Record<string, Block> = {};
  for (const { setting, held } of settings) {
    signal.throwIfAborted();
    const { questions } = held.context;
    const answers: string[][] = [];
    const start = performance.now();
    for (let query = from; query < from + count; query++) {
      const question = questions[query % questions.length];
      assert(question, 'a context has questions');
      const { tokens } = await held.answer(question, MAX_NEW_TOKENS);
      answers.push(tokens.map(String));
    }
    blocks[setting] = { ms: performance.now() - start, answers };
  }
  return blocks;
}

export function rowOf(facts: Facts['settings'][number], blocks: readonly Readonly<Record<string, Block>>[]): LatencyRow {
  const own = blocks.map((block) => block[facts.setting]);
  const dense = blocks.map((block) => block[DENSE.name]);
  const cumulativeMs: number[] = [];
  let [total, tokens, same] = [0, 0, 0];
  const ratios: number[] = [];
  for (const [i, block] of own.entries()) {
    const truth = dense[i];
    assert(block && truth, 'every block has every setting');
    total += block.ms;
    cumulativeMs.push(Math.round(total));
    ratios.push(truth.ms / block.ms);
    for (const [j, answer] of block.answers.entries()) {
      tokens += answer.length;
      if (sameTokens(answer.map(BigInt), (truth.answers[j] ?? []).map(BigInt))) same++;
    }
  }
  const timesFaster = { median: median(ratios), least: Math.min(...ratios), most: Math.max(...ratios) };
  return { ...facts, cumulativeMs, tokens, same, timesFaster };
}
