/** Importance at work: what each run paid, by layer and sequence, decides who is read whole, and when. */
import { expect, test } from 'vitest';
import type { PackedGraph } from '../src/cache/feeds.ts';
import { PackedPart } from '../src/cache/packed.ts';
import { massName } from '../src/contract.ts';
import { Tensor } from '../src/ort.ts';
import type { ModelShape } from '../src/shape.ts';
import { massInPlace, Tiering } from '../src/tiering.ts';
import { randomNumbers } from './support/decoders.ts';

const shape: ModelShape = {
  windowType: 'float32',
  layers: [0, 2].map((index) => ({ index, numHeads: 2, numKvHeads: 1, headDim: 4, rotary: 'inside' as const })),
};
const graph: PackedGraph = { shape, rotary: 'post-rope', codes: 'float32', basis: 'float32', emptyTensors: true, tiered: true, mass: true };
const [BATCH, TOKENS, SHARE, EVERY] = [2, 10, 0.3, 3];
const RULE = { share: SHARE, rank: { keys: 1, values: 1 }, of: 'both', every: EVERY } as const;

function packedPart(): PackedPart {
  const part = new PackedPart(shape, BATCH, graph, 1, undefined, { share: SHARE, leads: RULE.rank });
  const factors = {
    rank: 2,
    codes: new Float32Array(2 * TOKENS),
    basis: new Float32Array(8),
    lostEnergy: 0,
    singularValues: new Float32Array(2),
  };
  part.add(
    Array.from({ length: BATCH }, (_, sequence) => ({
      sequence,
      slots: Array.from({ length: TOKENS }, (_, t) => t),
      positions: new Array<number>(TOKENS).fill(0),
      layers: shape.layers.map(() => ({ keys: factors, values: factors })),
    })),
  );
  return part;
}

/** First-tier slots of layer l, sequence b, sorted. */
function firsts(part: PackedPart, l: number, b: number): number[] {
  const [numFirst = 0] = part.tiers?.rows ?? [];
  const order = part.tiers?.order(l).subarray(b * TOKENS, b * TOKENS + numFirst) ?? [];
  return [...order].map((place) => place - b * TOKENS).sort((x, y) => x - y);
}

test('each layer and sequence reads whole what got most by a moving average over every run, dealt anew every few', () => {
  const part = packedPart();
  const tiering = new Tiering(RULE, shape, BATCH);
  expect(tiering.settle(part, true)).toBe(true);
  const random = randomNumbers(3);
  /** [l][b][slot], as the paper has it. */
  const wanted = shape.layers.map(() => Array.from({ length: BATCH }, () => new Array<number>(TOKENS).fill(0)));
  let settled: number[][][] | undefined;
  for (let run = 0; run < 9; run++) {
    const at = TOKENS + run;
    // What attention says is by slot here; a graph with tiers says it in its own order.
    const paid = shape.layers.map(() => Array.from({ length: BATCH }, () => Array.from({ length: TOKENS }, () => random() + 1)));
    const outputs = Object.fromEntries(
      shape.layers.map(({ index }, l) => {
        const rows = Array.from({ length: BATCH }, (_, b) => [
          ...Array.from(
            part.tiers?.order(l).subarray(b * TOKENS, (b + 1) * TOKENS) ?? [],
            (place) => paid[l]?.[b]?.[place - b * TOKENS] ?? 0,
          ),
          9, // the new token's own
        ]);
        return [massName(index), new Tensor('float32', Float32Array.from(rows.flat()), [BATCH, TOKENS + 1])];
      }),
    );
    const columns = Array.from({ length: BATCH }, () => Int32Array.from({ length: TOKENS }, (_, slot) => slot));
    const mask = Array.from({ length: BATCH }, () => [1]);
    tiering.observe({ outputs: massInPlace(outputs, shape, part.tiers), columns, at, mask, numQueries: 1 });
    for (const [l, rows] of wanted.entries())
      for (const [b, row] of rows.entries())
        for (const slot of row.keys()) row[slot] = 0.5 * (row[slot] as number) + 0.5 * (paid[l]?.[b]?.[slot] as number);
    expect(tiering.settle(part, false)).toBe(false); // tokens change places, feeds stay
    if (run % EVERY === EVERY - 1) {
      settled = wanted.map((rows) =>
        rows.map((row) =>
          [...row.keys()]
            .sort((x, y) => (row[y] as number) - (row[x] as number))
            .slice(0, 3)
            .sort((x, y) => x - y),
        ),
      );
    }
    if (settled) for (const l of [0, 1]) for (const b of [0, 1]) expect(firsts(part, l, b)).toEqual(settled[l]?.[b]);
  }
  expect(part.tiers?.moves).toMatchObject({ splits: 4 });
  expect(firsts(part, 0, 0)).not.toEqual(firsts(part, 1, 0));
});
