/** The card before the figures: bytes and operations of a step by formula, and the floor that the machine's bandwidth and GEMM rate set. */
import prettyBytes from 'pretty-bytes';
import { denseTokenBytes } from '../src/shape.ts';
import type { Machine } from './machine.ts';
import type { DecoderFacts } from './model.ts';
import type { Opponent, StepCost } from './opponents/opponent.ts';

export interface Floor extends StepCost {
  readonly opponent: string;
  readonly context: number;
  /** No step can take less: weights and cache read once, and all products at the measured rate, whichever is longer. */
  readonly floorMs: number;
}

export interface Card {
  readonly layers: number;
  /** Bytes of one token's keys and values in all layers, dense. */
  readonly denseFp16TokenBytes: number;
  readonly weightBytes: number;
  readonly floors: readonly Floor[];
}

export function makeCard(
  facts: DecoderFacts,
  machine: Pick<Machine, 'bandwidth' | 'gemmRate'>,
  opponents: readonly Opponent[],
  contexts: readonly number[],
): Card {
  const floors = contexts.flatMap((context) =>
    opponents.map(({ name, cost }) => {
      const step = cost(facts.shape, context);
      const readMs = (1000 * (facts.weightBytes + step.cacheBytes)) / machine.bandwidth;
      const computeMs = (1000 * (facts.weightFlops + step.flops)) / machine.gemmRate;
      return { opponent: name, context, ...step, floorMs: Math.max(readMs, computeMs) };
    }),
  );
  return {
    layers: facts.shape.layers.length,
    denseFp16TokenBytes: denseTokenBytes(facts.shape),
    weightBytes: facts.weightBytes,
    floors,
  };
}

/** The card as lines for people. */
export function describeCard(title: string, card: Card, machine: Machine, opponents: readonly Opponent[]): string[] {
  const longest = Math.max(...card.floors.map(({ context }) => context));
  return [
    title,
    `  machine    ${machine.cpu}, ${machine.cores} cores, ${prettyBytes(machine.memoryBytes)}; ${machine.threads} threads; load before ${machine.load.toFixed(2)}`,
    `  software   node ${machine.node}, onnxruntime-node ${machine.onnxruntime}, transformers.js ${machine.transformers}, commit ${machine.commit}`,
    `  measured   reads ${(machine.bandwidth / 1e9).toFixed(1)} GB/s, float32 GEMM ${(machine.gemmRate / 1e9).toFixed(0)} GFLOP/s, both through ONNX Runtime`,
    `  weights    ${prettyBytes(card.weightBytes)} read in each step, ${card.layers} layers`,
    `  dense      a token is 2·L·Hkv·D elements: ${prettyBytes(card.denseFp16TokenBytes)} in fp16, ${prettyBytes(2 * card.denseFp16TokenBytes)} in fp32`,
    '  packed     a token is L·(rk + rv) codes, a span L·Hkv·D·(rk + rv) basis elements',
    '  floor      max((weights + cache) / bandwidth, operations / GEMM rate)',
    ...opponents.map(({ name, description }) => {
      const floor = card.floors.find((candidate) => candidate.opponent === name && candidate.context === longest);
      const perToken = prettyBytes((floor?.cacheBytes ?? 0) / longest);
      return `  ${name.padEnd(13)}${description}; ${perToken} per token at ${longest}, floor ${floor?.floorMs.toFixed(1)} ms`;
    }),
    '  excluded   prefill (the cache is filled with noise), tokenising; included: greedy sampling, all of generate',
  ];
}
