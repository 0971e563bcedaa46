/** How long the allocator thinks: LLaVA-1.5-7B's shapes, 8 images of 576 tokens, every layer and side measured and shared out. */
import { allot, type Prospect, roomFor } from '../src/cache/budget.ts';
import type { PackedGraph } from '../src/cache/feeds.ts';
import type { NewSegment } from '../src/cache/packed.ts';
import type { Factors } from '../src/encode/factor.ts';
import type { ModelShape } from '../src/shape.ts';

export interface AllocationTime {
  readonly layers: number;
  readonly width: number;
  readonly rank: number;
  readonly images: number;
  readonly tokens: number;
  /** CPU milliseconds of one thread: nothing waits, and machines are shared. */
  readonly ms: readonly number[];
}

const [LAYERS, HEADS, HEAD_DIM, IMAGES, TOKENS] = [32, 32, 128, 8, 576];

/** Columns fall as those of images do; random numbers, of which all layers share a few sets. */
export function timeAllocation(rank: number, rounds = 5): AllocationTime {
  const width = HEADS * HEAD_DIM;
  const shape: ModelShape = {
    layers: Array.from({ length: LAYERS }, (_, index) => ({
      index,
      numHeads: HEADS,
      numKvHeads: HEADS,
      headDim: HEAD_DIM,
      rotary: 'inside' as const,
    })),
    windowType: 'float16',
  };
  const graph: PackedGraph = { shape, rotary: 'rotate-late', codes: 'mixed', basis: 'mixed', emptyTensors: true };
  const sets = Array.from({ length: 4 }, () => factors(TOKENS, width, rank));
  const segments = Array.from({ length: IMAGES }, (_, m): NewSegment => {
    const slots = Array.from({ length: TOKENS }, (_, t) => m * TOKENS + t);
    const layers = shape.layers.map((_, l) => ({ keys: sets[(l + m) % 4] as Factors, values: sets[(l + m + 1) % 4] as Factors }));
    return { sequence: 0, slots, positions: slots, layers };
  });
  const prospect: Prospect = {
    batch: 1,
    windowRows: 64,
    pendingTokens: 0,
    tokenCapacity: IMAGES * TOKENS + 64,
    numSlots: IMAGES * TOKENS + 64,
    segments,
  };
  const target = { counted: 'all', compression: 16, spend: 'output' } as const;
  const ms = Array.from({ length: rounds }, () => {
    const start = process.cpuUsage();
    allot(target, graph, roomFor(target, graph, prospect), segments, undefined);
    const { user, system } = process.cpuUsage(start);
    return (user + system) / 1000;
  });
  return { layers: LAYERS, width, rank, images: IMAGES, tokens: TOKENS, ms };
}

function factors(tokens: number, width: number, rank: number): Factors {
  const normal = (length: number, scale: (i: number) => number): Float32Array =>
    Float32Array.from({ length }, (_, i) => scale(i) * (Math.random() + Math.random() + Math.random() - 1.5));
  return {
    codes: normal(tokens * rank, (i) => 0.93 ** (i % rank)),
    basis: normal(rank * width, () => 2 / Math.sqrt(width)),
    rank,
    lostEnergy: 0.01,
    singularValues: new Float32Array(rank),
  };
}
