/**
 * Attention on packed images in each rotary mode, where keys turn by time, height and width: CPU milliseconds of a step and layer.
 *
 * A decoder of almost nothing but attention, random codes and bases, nothing in the window; contexts `images x frames x rows x columns`, each image with
 * a basis of its own. All modes stand in one process and take turns, so a step is paired with the same step of `rotate-late`; one thread, whose CPU time
 * heeds other work on the machine less than a clock does. What a step of a real model takes besides is left out: ratios there are nearer to 1.
 */
import { makeFeeds, type PackedGraph } from '../src/cache/feeds.ts';
import { PackedPart } from '../src/cache/packed.ts';
import { DenseWindow } from '../src/cache/window.ts';
import { printTable } from '../src/cli/output.ts';
import { MOST_NEW } from '../src/contract.ts';
import { axesOfPairs } from '../src/convert/rope.ts';
import { AttentionPackError } from '../src/errors.ts';
import { encodeModel, floatTensor, type Graph, GraphEditor, type Model } from '../src/onnx/index.ts';
import { InferenceSession, Tensor } from '../src/ort.ts';
import { rewrite } from '../src/rewrite.ts';
import { ROTARY_MODES, type RotaryMode } from '../src/shape.ts';
import { EMBED, tinyDecoder } from '../test/support/decoders.ts';
import { noise } from './noise.ts';

/** Heads, key heads, head dimension and rank: like Qwen2-VL 2B, and half as wide with half the heads. */
export const ROTARY_SHAPES = {
  'qwen2-vl-2b': { numHeads: 12, numKvHeads: 2, headDim: 128, rank: 128 },
  small: { numHeads: 6, numKvHeads: 2, headDim: 64, rank: 64 },
} as const;
type ShapeName = keyof typeof ROTARY_SHAPES;

export interface RotaryRow {
  readonly shape: ShapeName;
  readonly context: string;
  readonly tokens: number;
  readonly numNew: number;
  readonly mode: RotaryMode;
  /** CPU milliseconds of a layer in each step. */
  readonly ms: readonly number[];
  /** Median over steps of the time against that of `rotate-late`. */
  readonly ratio: number;
  /** In `m-rope`: the most new tokens scored by axes. */
  readonly byAxes?: number;
}

export interface RotaryOptions {
  readonly shape: ShapeName;
  /** Such as `4x1x32x32`. */
  readonly context: string;
  readonly numNew: number;
  readonly layers: number;
  readonly steps: number;
}

/** One context in all modes. */
export async function benchRotary({ shape: name, context, numNew, layers, steps }: RotaryOptions): Promise<RotaryRow[]> {
  const parts = context.split('x').map(Number);
  const [images = 0, frames = 0, rows = 0, columns = 0] = parts;
  const tokens = frames * rows * columns;
  if (parts.length !== 4 || !parts.every((part) => Number.isInteger(part) && part > 0))
    throw new AttentionPackError(`a context is images x frames x rows x columns, such as 4x1x32x32; got '${context}'`);
  const place = (image: number, t: number): number[] => {
    const start = image * (Math.max(frames, rows, columns) + 2);
    return [Math.floor(t / (rows * columns)), Math.floor(t / columns) % rows, t % columns].map((at) => start + at);
  };
  const { rank, ...heads } = ROTARY_SHAPES[name];
  const width = heads.numKvHeads * heads.headDim;
  const factors = (seed: number) => ({
    rank,
    codes: noise(tokens * rank, seed),
    basis: noise(rank * width, seed + 1).map((x) => x / Math.sqrt(rank)),
    lostEnergy: 0,
    singularValues: new Float32Array(rank),
  });

  const model = decoder(heads, layers);
  const runs: { mode: RotaryMode; session: InferenceSession; feeds: Record<string, Tensor>; ms: number[] }[] = [];
  for (const mode of ROTARY_MODES) {
    const packed = rewrite({ model, path: 'attention.onnx' }, { rotary: mode });
    const graph: PackedGraph = { shape: packed.shape, rotary: mode, codes: 'float32', basis: 'float32', emptyTensors: true };
    const part = new PackedPart(packed.shape, 1, graph, mode === 'post-rope' ? 1 : 3);
    part.add(
      Array.from({ length: images }, (_, image) => ({
        sequence: 0,
        slots: Array.from({ length: tokens }, (_, t) => image * tokens + t),
        positions: Array.from({ length: tokens }, (_, t) => (mode === 'post-rope' ? [0] : place(image, t))).flat(),
        layers: packed.shape.layers.map((_, l) => ({ keys: factors(4 * l + image), values: factors(4 * l + image + 2) })),
      })),
    );
    const slots = images * tokens + numNew;
    const int64 = (length: number, value: number): BigInt64Array => new BigInt64Array(length).fill(BigInt(value));
    const feeds = {
      ...makeFeeds(graph, new DenseWindow(packed.shape, 1), part),
      attention_mask: new Tensor('int64', int64(slots, 1), [1, slots]),
      inputs_embeds: new Tensor('float32', noise(numNew * EMBED, 1), [1, numNew, EMBED]),
      position_ids: new Tensor('int64', int64(3 * numNew, slots), [3, 1, numNew]),
    };
    const session = await InferenceSession.create(encodeModel(packed.model.model), { intraOpNumThreads: 1, interOpNumThreads: 1 });
    runs.push({ mode, session, feeds, ms: [] });
  }
  for (let step = -1; step < steps; step++) {
    for (const { session, feeds, ms } of step % 2 ? runs : runs.toReversed()) {
      const before = process.cpuUsage();
      await session.run(feeds, ['logits']);
      const { user, system } = process.cpuUsage(before);
      if (step >= 0) ms.push((user + system) / 1000 / layers);
    }
  }
  for (const { session } of runs) await session.release();
  const late = runs.find(({ mode }) => mode === 'rotate-late')?.ms ?? [];
  return runs.map(({ mode, ms, feeds }) => ({
    shape: name,
    context,
    tokens: images * tokens,
    numNew,
    mode,
    ms,
    ratio: median(ms.map((time, step) => time / (late[step] as number))),
    ...(mode === 'm-rope' && { byAxes: Number(feeds[MOST_NEW]?.data[0]) }),
  }));
}

export function printRotary(rows: readonly RotaryRow[]): void {
  printTable(
    ['shape', 'context', 'tokens', 'new', 'mode', 'CPU ms a layer', 'of rotate-late', 'by axes up to'],
    rows.map(
      ({ shape, context, tokens, numNew, mode, ms, ratio, byAxes }) =>
      [shape, context, tokens, numNew, mode, median(ms).toFixed(2), ratio.toFixed(2), byAxes ?? ''], // biome-ignore format: as its head
    ),
  );
}

function median(list: readonly number[]): number {
  return [...list].sort((a, b) => a - b)[list.length >> 1] as number;
}

/** Layers of attention with next to nothing between them; pairs in sections of a quarter, three eighths and three eighths, as Qwen2-VL has them. */
function decoder(heads: { numHeads: number; numKvHeads: number; headDim: number }, layers: number): Model {
  const model = tinyDecoder({ ...heads, rotary: 'axes', windows: Array(layers).fill(undefined) });
  const half = heads.headDim / 2;
  const axisOf = axesOfPairs([half / 4, (3 * half) / 8, (3 * half) / 8]);
  const frequencies = Array.from({ length: 3 * half }, (_, i) =>
    axisOf[i % half] === Math.floor(i / half) ? 10000 ** (-(i % half) / half) : 0,
  );
  const tensor = new GraphEditor(model.graph as Graph).initializer('frequencies');
  Object.assign(tensor as object, floatTensor('frequencies', [3, 1, 1, half], frequencies));
  return model;
}
