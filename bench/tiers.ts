/**
 * Attention on packed images with tiers against the same without: CPU milliseconds of a step and layer.
 *
 * A decoder of almost nothing but attention, random codes and bases, nothing in the window; contexts `images x tokens`, each image with a basis of its own. With
 * tiers, a step has everything that they cost: attention told by the graph, averaged and, every few steps, tokens dealt anew. All forms stand in one process and
 * take turns, so a step is paired with the same step without tiers; one thread, whose CPU time heeds other work on the machine less than a clock does.
 */
import { makeFeeds, type PackedGraph } from '../src/cache/feeds.ts';
import { PackedPart } from '../src/cache/packed.ts';
import { slotsAsNumbers } from '../src/cache/slot-numbers.ts';
import { DenseWindow } from '../src/cache/window.ts';
import { printTable } from '../src/cli/output.ts';
import { MASS_QUERIES, PACKED_SLOTS } from '../src/contract.ts';
import { AttentionPackError } from '../src/errors.ts';
import { encodeModel } from '../src/onnx/index.ts';
import { InferenceSession, Tensor } from '../src/ort.ts';
import { rewrite } from '../src/rewrite.ts';
import type { CodeType } from '../src/shape.ts';
import { resolveTiers, TIERS_OF, type TiersOf } from '../src/tier-options.ts';
import { massInPlace, Tiering, tierRule } from '../src/tiering.ts';
import { EMBED, tinyDecoder } from '../test/support/decoders.ts';
import { noise } from './noise.ts';

/** Heads, key heads and head dimension. */
export const TIER_SHAPES = {
  mha: { numHeads: 32, numKvHeads: 32, headDim: 128 },
  gqa: { numHeads: 9, numKvHeads: 3, headDim: 64 },
} as const;
/** Element types of codes that can be read in tiers. */
export const TIER_CODES = ['float32', 'float16', 'int8'] as const satisfies readonly CodeType[];
type ShapeName = keyof typeof TIER_SHAPES;

export interface TierBenchOptions {
  readonly shape: ShapeName;
  readonly rotary: 'post-rope' | 'rotate-late';
  readonly codes: CodeType;
  /** Such as `1x8192`. */
  readonly context: string;
  readonly rank: number;
  readonly lead: number;
  readonly share: number;
  readonly every: number;
  readonly layers: number;
  readonly steps: number;
}

export interface TierRow extends Omit<TierBenchOptions, 'layers' | 'steps'> {
  readonly of: TiersOf | 'none';
  /** CPU milliseconds of a layer in each step. */
  readonly ms: readonly number[];
  /** Median over steps of the time against that without tiers. */
  readonly ratio: number;
}

/** One context without tiers, and with them in all sorts. */
export async function benchTiers({ layers, steps, ...options }: TierBenchOptions): Promise<TierRow[]> {
  const { shape, rotary, codes, context, rank, lead, share, every } = options;
  const parts = context.split('x').map(Number);
  const [images = 0, tokens = 0] = parts;
  if (parts.length !== 2 || !parts.every((part) => Number.isInteger(part) && part > 0))
    throw new AttentionPackError(`a context is images x tokens, such as 1x8192; got '${context}'`);
  const slots = images * tokens + 1;
  const model = tinyDecoder({ ...TIER_SHAPES[shape], numPositions: slots, windows: Array(layers).fill(undefined) });
  const width = TIER_SHAPES[shape].numKvHeads * TIER_SHAPES[shape].headDim;
  const factors = (seed: number) => ({
    rank,
    codes: noise(tokens * rank, seed),
    basis: noise(rank * width, seed + 1).map((x) => x / Math.sqrt(rank)),
    lostEnergy: 0,
    singularValues: new Float32Array(rank),
  });

  const runs = [];
  for (const of of ['none', ...TIERS_OF] as const) {
    const tiered = of !== 'none';
    const rewritten = rewrite({ model, path: 'attention.onnx' }, { rotary, codes, tiered, mass: tiered });
    const graph: PackedGraph = { shape: rewritten.shape, rotary, codes, basis: 'float32', mass: tiered, tiered, emptyTensors: true };
    const rule = tiered && resolveTiers({ share, rank: lead, of, every }, { keys: rank, values: rank });
    const tiering = rule && new Tiering(rule, graph.shape, 1);
    const part = new PackedPart(graph.shape, 1, graph, 1, undefined, tierRule(graph, { tiers: rule } as never));
    part.add(
      Array.from({ length: images }, (_, image) => ({
        sequence: 0,
        slots: Array.from({ length: tokens }, (_, t) => image * tokens + t),
        positions: Array.from({ length: tokens }, (_, t) => image * tokens + t),
        layers: graph.shape.layers.map((_, l) => ({ keys: factors(4 * l + image), values: factors(4 * l + image + 2) })),
      })),
    );
    if (tiering) tiering.settle(part, true);
    const feeds = {
      ...makeFeeds(graph, new DenseWindow(graph.shape, 1), part),
      attention_mask: new Tensor('int64', new BigInt64Array(slots).fill(1n), [1, slots]),
      inputs_embeds: new Tensor('float32', noise(EMBED, 1), [1, 1, EMBED]),
      ...(tiered && { [MASS_QUERIES]: new Tensor('int64', BigInt64Array.of(1n), [1]) }),
    };
    const session = await InferenceSession.create(encodeModel(rewritten.model.model), { intraOpNumThreads: 1, interOpNumThreads: 1 });
    runs.push({ of, session, feeds: feeds as Record<string, Tensor>, graph, part, tiering, ms: [] as number[] });
  }
  for (let step = -1; step < steps; step++) {
    for (const { session, feeds, graph, part, tiering, ms } of step % 2 ? runs : runs.toReversed()) {
      Object.assign(feeds, { inputs_embeds: new Tensor('float32', noise(EMBED, step + 2), [1, 1, EMBED]) });
      const before = process.cpuUsage();
      const { logits: _, ...outputs } = await session.run(feeds);
      if (tiering) {
        const columns = [slotsAsNumbers(feeds[PACKED_SLOTS]?.data as BigInt64Array)];
        tiering.observe({ outputs: massInPlace(outputs, graph.shape, part.tiers), columns, at: slots - 1, mask: [[1]], numQueries: 1 });
        tiering.settle(part, false);
      }
      const { user, system } = process.cpuUsage(before);
      if (step >= 0) ms.push((user + system) / 1000 / layers);
    }
  }
  for (const { session } of runs) await session.release();
  const without = runs[0]?.ms ?? [];
  return runs.map(({ of, ms }) => ({ ...options, of, ms, ratio: median(ms.map((time, step) => time / (without[step] as number))) }));
}

export function printTiers(rows: readonly TierRow[]): void {
  printTable(
    ['shape', 'rotary', 'codes', 'context', 'rank', 'lead', 'share', 'tiers of', 'CPU ms a layer', 'of none'],
    rows.map(({ shape, rotary, codes, context, rank, lead, share, of, ms, ratio }) => [shape, rotary, codes, context, rank, lead, share, of, median(ms).toFixed(2), ratio.toFixed(2)]), // biome-ignore format: as its head
  );
}

function median(list: readonly number[]): number {
  return [...list].sort((a, b) => a - b)[list.length >> 1] as number;
}
