/** Integer codes and bases in the graph, against the same graph fed with the float matrices they stand for. */
import * as ort from 'onnxruntime-node';
import { describe, expect, test } from 'vitest';
import { basisName, basisWidthsName, codesName, codeWidthsName, type Side, stepRows, stepsName } from '../../src/contract.ts';
import { byteParts, columnsOf, type Widths } from '../../src/encode/widths.ts';
import { type RewriteOptions, rewrite } from '../../src/rewrite.ts';
import type { BasisType, CodeType, ModelShape } from '../../src/shape.ts';
import { EMBED, randomNumbers, tinyDecoder } from '../support/decoders.ts';
import { PlainCache } from '../support/plain-cache.ts';
import { readPlain, type Types } from '../support/read-mixed.ts';
import { factsOf, numbers, openSession } from '../support/run.ts';

const SIDES: readonly Side[] = ['key', 'value'];
/** Of five, seven and nine tokens, padded on the left. */
const LENGTHS = [9, 5, 7];
const NUM_PAST = 9;
const NUM_NEW = 2;

type Feeds = Record<string, ort.Tensor>;

/** Random levels, numbers and steps in the wanted types, in the place of the codes and bases that the feeds have. */
function randomFactors(feeds: Feeds, shape: ModelShape, { codes, basis }: Types, split: Split, random: () => number): Feeds {
  const out = { ...feeds };
  for (const { index, numKvHeads, headDim } of shape.layers) {
    for (const side of SIDES) {
      const [batch = 0, segments = 0, tokens = 0] = (feeds[codesName(index, side)] as ort.Tensor).dims;
      const rank = columnsOf(split.codes);
      const sum = (widths: Widths): number => byteParts(widths).reduce((a, b) => a + b, 0);
      const codeDims = [batch, segments, tokens, codes === 'mixed' ? sum(split.codes) : rank];
      const basisDims = [batch, segments, numKvHeads, basis === 'mixed' ? sum(split.basis) : rank, headDim];
      out[codesName(index, side)] = drawn(codes, codeDims, random);
      out[basisName(index, side)] = drawn(basis, basisDims, random);
      const rows = stepRows(codes, basis);
      const steps = Float32Array.from({ length: batch * segments * rows * rank }, (_, i) => {
        const row = Math.floor(i / rank) % rows;
        // Levels reach 255, and products of two of them 65025: the sum over columns should be of order one, as keys are. Zeros lie among the levels.
        return row === 0 ? (codes === 'mixed' ? 0.005 : 0.3) * (basis === 'float32' ? 1 : 0.01) * random() : 100 * (random() + 1);
      });
      if (rows) out[stepsName(index, side)] = new ort.Tensor('float32', steps, [batch, segments, rows, rank]);
      const widths = (of: Widths): ort.Tensor => new ort.Tensor('int64', BigInt64Array.from(byteParts(of).map(BigInt)), [3]);
      if (codes === 'mixed') out[codeWidthsName(index, side)] = widths(split.codes);
      if (basis === 'mixed') out[basisWidthsName(index, side)] = widths(split.basis);
    }
  }
  return out;
}

function drawn(type: CodeType | BasisType, dims: readonly number[], random: () => number): ort.Tensor {
  const length = dims.reduce((a, b) => a * b, 1);
  if (type === 'mixed')
    return new ort.Tensor(
      'uint8',
      Uint8Array.from({ length }, () => 128 * (random() + 1)),
      dims,
    );
  if (type === 'int8')
    return new ort.Tensor(
      'int8',
      Int8Array.from({ length }, () => 127 * random()),
      dims,
    );
  // Eighths: what float16 holds exactly.
  const values = Float32Array.from({ length }, () => Math.round(8 * random()) / 8);
  if (type === 'float32') return new ort.Tensor('float32', values, dims);
  const bits = (x: number): number =>
    x === 0 ? 0 : (x < 0 ? 0x8000 : 0) | ((15 + Math.floor(Math.log2(Math.abs(x)))) << 10) | fraction(x);
  return new ort.Tensor('float16', Uint16Array.from(values, bits), dims);
}

const fraction = (x: number): number => Math.round((Math.abs(x) / 2 ** Math.floor(Math.log2(Math.abs(x))) - 1) * 1024);

/** The float matrices that held ones stand for. */
function plainFactors(feeds: Feeds, shape: ModelShape, types: Types): Feeds {
  const out = { ...feeds };
  for (const { index, numKvHeads, headDim } of shape.layers) {
    for (const side of SIDES) {
      const { rank, codes, basis } = readPlain(feeds, index, side, types);
      const [batch = 0, segments = 0, tokens = 0] = (feeds[codesName(index, side)] as ort.Tensor).dims;
      out[codesName(index, side)] = new ort.Tensor('float32', Float32Array.from(codes), [batch, segments, tokens, rank]);
      out[basisName(index, side)] = new ort.Tensor('float32', Float32Array.from(basis), [batch, segments, numKvHeads, rank, headDim]);
      for (const name of [stepsName, codeWidthsName, basisWidthsName]) delete out[name(index, side)];
    }
  }
  return out;
}

interface Split {
  readonly codes: Widths;
  readonly basis: Widths;
}

/** Logits of two new tokens of three padded sequences whose past is packed in up to three segments each, by both graphs. */
async function bothWays(
  types: Types,
  split: Split,
  options: RewriteOptions,
  seed = 3,
): Promise<{ held: Float32Array; plain: Float32Array }> {
  const decoder = tinyDecoder({ numHeads: 4, numKvHeads: 2, softcap: 2 });
  const facts = factsOf(decoder);
  const [ours, twin] = [types, { codes: 'float32', basis: 'float32' } as const].map((of) =>
    rewrite({ model: decoder, path: 'tiny.onnx' }, { ...options, ...of }),
  );
  if (!ours || !twin) throw new Error('two graphs');
  expect(ours.report.refused).toEqual([]);
  const [session, plainSession] = await Promise.all([openSession(ours.model.model), openSession(twin.model.model)]);
  const random = randomNumbers(seed);
  const cache = new PlainCache(ours.shape, LENGTHS.length, { rotary: ours.report.rotary, deal: 'packed' }, random);
  const run = (on: ort.InferenceSession, feeds: Feeds, at: number, count: number) => {
    const draw = randomNumbers(at + 1);
    return on.run({
      ...feeds,
      attention_mask: new ort.Tensor(
        'int64',
        BigInt64Array.from(
          LENGTHS.flatMap((length) => Array.from({ length: at + count }, (_, slot) => (slot >= NUM_PAST - length ? 1n : 0n))),
        ),
        [LENGTHS.length, at + count],
      ),
      inputs_embeds: new ort.Tensor('float32', Float32Array.from({ length: LENGTHS.length * count * EMBED }, draw), [
        LENGTHS.length,
        count,
        EMBED,
      ]),
    });
  };
  cache.append(await run(plainSession, cache.feeds(), 0, NUM_PAST), 0);
  const base = cache.feeds();
  const feeds = randomFactors(base, ours.shape, types, split, random);
  const held = numbers((await run(session, feeds, NUM_PAST, NUM_NEW)).logits);
  const plain = numbers((await run(plainSession, plainFactors(feeds, ours.shape, types), NUM_PAST, NUM_NEW)).logits);
  await Promise.all([session.release(), plainSession.release()]);
  expect(held.length).toBe(LENGTHS.length * NUM_NEW * facts.vocabulary);
  return { held, plain };
}

const largest = (a: Float32Array, b: Float32Array): number => a.reduce((most, x, i) => Math.max(most, Math.abs(x - (b[i] as number))), 0);

const SPLIT: Split = { codes: [3, 4, 4], basis: [1, 2, 8] };

describe.each(['post-rope', 'rotate-late'] as const)('%s', (rotary) => {
  test.each([
    [{ codes: 'mixed', basis: 'mixed' }, SPLIT],
    [
      { codes: 'mixed', basis: 'mixed' },
      { codes: [5, 0, 0], basis: [1, 4, 0] },
    ],
    [
      { codes: 'mixed', basis: 'mixed' },
      { codes: [0, 0, 8], basis: [0, 8, 0] },
    ],
    [
      { codes: 'mixed', basis: 'mixed' },
      { codes: [0, 2, 0], basis: [2, 0, 0] },
    ],
    [{ codes: 'mixed', basis: 'float32' }, SPLIT],
    [{ codes: 'mixed', basis: 'float16' }, SPLIT],
    [{ codes: 'mixed', basis: 'int8' }, SPLIT],
    [{ codes: 'float32', basis: 'mixed' }, SPLIT],
    [{ codes: 'int8', basis: 'mixed' }, SPLIT],
    [{ codes: 'float16', basis: 'int8' }, SPLIT],
    [{ codes: 'int8', basis: 'int8' }, SPLIT],
  ] as readonly [Types, Split][])('%j, %j read as the numbers they stand for', async (types, split) => {
    for (const provider of ['cpu', 'wasm'] as const) {
      const { held, plain } = await bothWays(types, split, { rotary, provider });
      // Sums over levels up to 255 cancel against their zeros: some 1e2 rounding steps of 6e-8.
      expect(largest(held, plain)).toBeLessThan(1e-5);
    }
  });

  test('int8 bases are read in the WebGPU form too', async () => {
    const { held, plain } = await bothWays({ codes: 'int8', basis: 'int8' }, SPLIT, { rotary, provider: 'webgpu' });
    expect(largest(held, plain)).toBeLessThan(1e-5);
  });
});

test('the comparison sees a step that is wrong', async () => {
  const types = { codes: 'mixed', basis: 'mixed' } as const;
  const [one, other] = [await bothWays(types, SPLIT, { rotary: 'post-rope' }), await bothWays(types, SPLIT, { rotary: 'post-rope' }, 4)];
  expect(largest(one.held, other.held)).toBeGreaterThan(1e-2);
});
