/**
 * Which axis of the positions turns each rotary pair, told by the numbers of the graph's own tables: sections of M-RoPE may lie side by side
 * (Qwen2-VL, https://arxiv.org/abs/2409.12191) or in turns (Qwen3-VL), and exporters spell both in many ways.
 */
import type { GraphEditor } from '../onnx/index.ts';
import type { Rotary } from './attention-node.ts';
import { CannotEvaluate, evaluate, type Values } from './evaluate.ts';

/** Positions at which tables are looked at, on each of up to as many axes; different primes, so that axes are not mistaken for one another. */
const PROBES: readonly (readonly number[])[] = [
  [7, 7, 7, 7],
  [3, 11, 5, 2],
  [19, 2, 13, 23],
  [401, 157, 1009, 83],
];

/** Tables are float32 products at most; what two ways to the same angle differ by, at the largest of the probes, stays far below. */
const TOLERANCE = 1e-4;

/**
 * The axis of each pair, [numTurned / 2]; a string is the reason why it is not known.
 *
 * Each pair must turn by its position on that axis alone: with the other axes at 0 its cosine and sine are the same.
 */
export function axesOfPairs(editor: GraphEditor, { cosTable, sinTable, numTurned, source }: Rotary): readonly number[] | string {
  if (!source) return 'keys turn by one number a token, not by several axes';
  const { axes, input } = source;
  if (axes < 2 || axes > (PROBES[0]?.length ?? 0)) return `positions on ${axes} axes`;
  // Token 0 stands at 0 everywhere; then each probe on all axes at once, and on each axis alone.
  const tokens = [new Array<number>(axes).fill(0)];
  for (const probe of PROBES) {
    tokens.push(probe.slice(0, axes));
    for (let axis = 0; axis < axes; axis++) tokens.push(probe.slice(0, axes).map((position, a) => (a === axis ? position : 0)));
  }
  const half = numTurned / 2;
  const tables = [cosTable, sinTable].map((table) => tableAt(editor, table, input, tokens, half));
  const reason = tables.find((table) => typeof table === 'string');
  if (reason !== undefined) return reason as string;
  const angles = tables as readonly Values[];
  const differ = (pair: number, token: number, other: number): number =>
    Math.max(...angles.map(({ data }) => Math.abs((data[token * half + pair] as number) - (data[other * half + pair] as number))));

  const joint = (probe: number): number => 1 + probe * (axes + 1);
  const found: number[] = [];
  for (let pair = 0; pair < half; pair++) {
    const turning = Array.from({ length: axes }, (_, axis) => axis).filter((axis) => differ(pair, joint(0) + 1 + axis, 0) > 1e-12);
    if (turning.length > 1) return `rotary pair ${pair} turns by ${turning.length} axes together`;
    const axis = turning[0] ?? axes - 1; // a pair that nothing turns may be with any
    if (PROBES.some((_, probe) => differ(pair, joint(probe), joint(probe) + 1 + axis) > TOLERANCE))
      return `rotary pair ${pair} does not turn by one axis alone`;
    found.push(axis);
  }
  const idle = Array.from({ length: axes }, (_, axis) => axis).find((axis) => !found.includes(axis));
  return idle === undefined ? found : `no rotary pair turns by axis ${idle}`;
}

/** A table [tokens, half] with each token at its place; a string is the reason why that cannot be told. */
function tableAt(editor: GraphEditor, table: string, input: string, tokens: readonly (readonly number[])[], half: number): Values | string {
  const [numTokens, axes] = [tokens.length, tokens[0]?.length ?? 0];
  const data = Float64Array.from({ length: axes * numTokens }, (_, i) => tokens[i % numTokens]?.[Math.floor(i / numTokens)] as number);
  const shapes = new Map<string, readonly number[]>([
    ['inputs_embeds', [1, numTokens, 1]],
    ['input_ids', [1, numTokens]],
    ['attention_mask', [1, numTokens]],
  ]);
  try {
    const made = evaluate(editor, table, { values: new Map([[input, { dims: [axes, 1, numTokens], data }]]), shapes });
    return made.data.length === numTokens * half ? made : `rotary table '${table}' is [${made.dims}], not a row of ${half} for each token`;
  } catch (cause) {
    if (cause instanceof CannotEvaluate) return `rotary table '${table}' cannot be told: ${cause.message}`;
    throw cause;
  }
}

/**
 * Columns of a head by axis: see `axisColumns` of `ModelShape`.
 *
 * @param axisOf axis of each pair; [numTurned / 2]
 */
export function axisColumnsOf(axisOf: readonly number[], { numTurned, interleaved }: Rotary, axes: number, headDim: number): number[][] {
  const half = numTurned / 2;
  const columns = Array.from({ length: axes }, (_, axis) =>
    axisOf.flatMap((of, pair) => (of === axis ? (interleaved ? [2 * pair, 2 * pair + 1] : [pair, pair + half]) : [])),
  );
  columns.at(-1)?.push(...Array.from({ length: headDim - numTurned }, (_, i) => numTurned + i));
  return columns;
}
