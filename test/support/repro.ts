/** Results of the reproduction made up for tests: small, and with every kind of row a figure draws. */

import type { PartName, PartResult, Subject } from '../../bench/repro/part.ts';
import { type FrameCell, fitAll } from '../../bench/repro/parts/frames.ts';
import type { Quality } from '../../bench/repro/quality.ts';
import { combinations, nameOf, rankSettings } from '../../bench/repro/settings.ts';
import type { Steps } from '../../bench/repro/steps.ts';
import type { EvaluationRow } from '../../src/eval/index.ts';
import { interval, pairedDifference } from '../../src/eval/metrics.ts';

export const SUBJECT: Subject = {
  model: 'models/made-up',
  name: 'made-up',
  load: {},
  identity: { model: 'made-up', fingerprint: '0123456789abcdef', dtype: 'q8', attentionpack: '1', onnxruntime: '2' },
  width: 512,
  pixels: 64,
  readsClips: false,
};

const MACHINE = {
  ...{ cpu: 'Abacus', cores: 2, memoryBytes: 1e9, node: 'v20', onnxruntime: '2', transformers: '3', commit: 'abc' },
  ...{ load: 0.5, threads: 2, bandwidth: 1, gemmRate: 1 },
};

export function result<D>(part: PartName, data: D, over: Partial<PartResult<D>> = {}): PartResult<D> {
  const common = { format: 'attentionpack-repro', version: 1, model: SUBJECT.identity, machine: MACHINE, seconds: 90 } as const;
  return { ...common, part, date: '2026-01-02T03:04:05.000Z', asked: { contexts: 2 }, data, ...over };
}

/** A row whose figures fall with `loss`, 0 to 1. */
export function row(setting: string, loss: number, task = 'five'): EvaluationRow {
  const dense = [1, 1, 1, 0, 1, 1, 1, 1];
  const scores = dense.map((score, i) => (i < 8 * loss ? 0 : score));
  const contexts = dense.map((_, i) => `context ${i % 4}`);
  return {
    task,
    setting,
    score: interval(scores, contexts),
    ...(setting !== 'dense' && { difference: pairedDifference(scores, dense, contexts) }),
    loyalty: { top1: 1 - loss, answerMatch: 1 - loss, kl: loss ** 2, tokens: 30 },
    bytes: {
      ...{
        heldPerContext: 1000 * (1.1 - loss),
        denseFp16PerContext: 2000,
        compression: 2 / (1.1 - loss),
        visualCompression: 3 / (1.1 - loss),
      },
      ...{ tokensPerContext: 100, visualTokensPerContext: 64 },
    },
  };
}

const quality = (rows: readonly EvaluationRow[]): Quality => ({ rows, tasks: [], refused: [] });

const steps = (settings: readonly string[]): Steps => ({
  ...{ pictures: 8, tokens: 500, rounds: 2 },
  rows: settings.map((setting, i) => ({ setting, msPerToken: 8 - i / 10, timesFaster: { median: 1 + i / 10, least: 1, most: 2 } })),
});

/** One result of every part. */
export function everyPart(): PartResult[] {
  const ranks = rankSettings(SUBJECT).map((entry) => ({ ...entry, setting: nameOf(entry.setting) }));
  const combined = combinations(SUBJECT).map((entry) => ({ ...entry, setting: nameOf(entry.setting) }));
  const tiers = (['keys', 'values', 'both'] as const).flatMap((of) =>
    [0, 0.25, 1].map((share) => ({ of, share, setting: `${of} ${share}` })),
  );
  const names = (list: readonly { readonly setting: string }[]): string[] => ['dense', 'int8', ...list.map(({ setting }) => setting)];
  const rowsOf = (list: readonly string[]): EvaluationRow[] => list.map((setting, i) => row(setting, i / list.length / 2));
  const cells = [4, 8, 16, 32].flatMap((frames): FrameCell[] => [
    { setting: 'dense', frames, bytes: 100 * frames, score: row('dense', 0).score },
    { setting: 'packed:8', frames, bytes: 40 * frames, score: row('packed:8', 0.25).score },
  ]);
  const curve = [1, 4, 16].map((rank) => ({ rank, combined: 0.5 / rank, least: 0.4 / rank, most: 0.6 / rank, heads: 0.7 / rank }));
  const common = { side: 'values', tokens: 64, matrices: 8 } as const;
  return [
    result('variance', {
      contexts: 2,
      curves: [
        { ...common, group: 'images', points: curve },
        { ...common, group: 'together', points: curve.map((point) => ({ ...point, apart: 0.9 * point.combined })) },
      ],
    }),
    result('tiers', {
      settings: tiers,
      quality: quality([row('dense', 0), ...tiers.map(({ setting, share }) => row(setting, (1 - share) / 2))]),
    }),
    result('rank', { settings: ranks, quality: quality(rowsOf(names(ranks))), steps: steps(names(ranks)) }),
    result('combinations', { settings: combined, quality: quality(rowsOf(names(combined))), steps: steps(names(combined)) }),
    result('frames', { clip: false, cells, fitted: fitAll(cells), quality: quality([]) }),
    result('latency', {
      ...{ pictures: 64, contextTokens: 4300, denseFp16Bytes: 2000, queries: 20, perBlock: 10 },
      rows: ['dense', 'dense-fp16', 'packed:8'].map((setting, i) => ({
        ...{ setting, prefillMs: 100 + i, heldBytes: 1000 / (i + 1), tokens: 60, same: 20 - i },
        cumulativeMs: [5000 / (i + 1), 10000 / (i + 1)],
        timesFaster: { median: i + 1, least: i + 0.5, most: i + 1.5 },
      })),
    }),
  ];
}
