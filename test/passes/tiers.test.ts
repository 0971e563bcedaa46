/** Tiers in the graph against a plain twin that reads every column and finds zeros in those the second tier goes without. */
import * as ort from 'onnxruntime-node';
import { describe, expect, test } from 'vitest';
import { codesName, MASS_QUERIES, massName, orderName, PACKED_SLOTS, stepsName } from '../../src/contract.ts';
import { AttentionPackError } from '../../src/errors.ts';
import { DataType } from '../../src/onnx/index.ts';
import { type RewriteOptions, rewrite } from '../../src/rewrite.ts';
import type { ModelShape } from '../../src/shape.ts';
import { type DecoderOptions, EMBED, randomNumbers, tinyDecoder } from '../support/decoders.ts';
import { PlainCache } from '../support/plain-cache.ts';
import { type Dealt, dealToTiers } from '../support/plain-tiers.ts';
import { floats, numbers, openSession, positionIds } from '../support/run.ts';

/** Tokens of each sequence; shorter ones are padded on the left. */
const LENGTHS = [13, 9, 4];
const LONGEST = Math.max(...LENGTHS);
const STEPS = [6, 1, 4, 1, 1];

interface Trial {
  readonly decoder?: DecoderOptions;
  readonly rewrite?: RewriteOptions;
  readonly dealt?: Partial<Dealt>;
  readonly lengths?: readonly number[];
}

/** Steps of int8 bases: a number for each row, all segments alike. */
function stepsOf({ layers }: ModelShape, feeds: Record<string, ort.Tensor>, random: () => number): Record<string, ort.Tensor> {
  const names = layers.flatMap(({ index }) =>
    (['key', 'value'] as const).map((side) => [codesName(index, side), stepsName(index, side)] as const),
  );
  return Object.fromEntries(
    names.map(([codes, steps]) => {
      const [batch = 0, segments = 0, , rank = 0] = (feeds[codes] as ort.Tensor).dims;
      const values = Float32Array.from({ length: batch * segments * rank }, () => 1 + random() / 2);
      return [steps, new ort.Tensor('float32', values, [batch, segments, 1, rank])];
    }),
  );
}

/** Largest differences between a graph with tiers and one without whose codes are masked, and how far masking alone went. */
async function differences({
  decoder = {},
  rewrite: options = {},
  dealt,
  lengths = LENGTHS,
}: Trial): Promise<{ worst: number; masking: number }> {
  const rules: Dealt = { numFirst: (T) => Math.ceil(T / 3), leads: [5, 9], ...dealt };
  const original = tinyDecoder(decoder);
  const [tiered, plain] = [true, false].map((on) => {
    const made = rewrite({ model: original, path: 'original.onnx' }, { mass: true, ...options, tiered: on });
    expect(made.report.refused).toEqual([]);
    return made;
  }) as [ReturnType<typeof rewrite>, ReturnType<typeof rewrite>];
  const [inTiers, untiered] = await Promise.all([openSession(tiered.model.model), openSession(plain.model.model)]);
  const random = randomNumbers(11);
  const { rotary } = plain.report;
  const cache = new PlainCache(plain.shape, lengths.length, { rotary, codes: options.codes, basis: options.basis } as never, random);
  const type = decoder.type ?? DataType.FLOAT;
  let [worst, masking, at] = [0, 0, 0];
  for (const numNew of STEPS) {
    const drawn = cache.feeds();
    const feeds = options.basis === 'int8' ? { ...drawn, ...stepsOf(plain.shape, drawn, random) } : drawn;
    const { tiered: ordered, masked } = dealToTiers(plain.shape, feeds, rules, random);
    const flat = <T>(from: number, make: (b: number, slot: number) => T): T[] =>
      lengths.flatMap((_, b) => Array.from({ length: at + numNew - from }, (_, i) => make(b, from + i)));
    const pad = (b: number): number => LONGEST - (lengths[b] as number);
    const common = {
      attention_mask: new ort.Tensor('int64', BigInt64Array.from(flat(0, (b, slot) => (slot >= pad(b) ? 1n : 0n))), [
        lengths.length,
        at + numNew,
      ]),
      inputs_embeds: floats(type, Float32Array.from({ length: lengths.length * numNew * EMBED }, random), [lengths.length, numNew, EMBED]),
      [MASS_QUERIES]: new ort.Tensor('int64', BigInt64Array.of(1n), [1]),
      ...(untiered.inputNames.includes('position_ids') && {
        position_ids: positionIds(
          untiered,
          flat(at, (b, slot) => Math.max(0, slot - pad(b))),
          [lengths.length, numNew],
        ),
      }),
    };
    const found = await inTiers.run({ ...ordered, ...common });
    const wanted = await untiered.run({ ...masked, ...common });
    const whole = await untiered.run({ ...feeds, ...common });
    const real = (output: ort.Tensor | undefined): number[] => {
      const [width = 0, values] = [output?.dims[2], numbers(output)];
      return [...values].filter((_, i) => at + (Math.floor(i / width) % numNew) >= pad(Math.floor(i / width / numNew)));
    };
    const [a, b, c] = [found, wanted, whole].map((outputs) => real(outputs.logits)) as [number[], number[], number[]];
    worst = Math.max(worst, ...a.map((x, i) => Math.abs(x - (b[i] as number))));
    masking = Math.max(masking, ...c.map((x, i) => Math.abs(x - (b[i] as number))));
    for (const { index } of plain.shape.layers) {
      const [seen, told] = [found, wanted].map((outputs) => numbers(outputs[massName(index)])) as [Float32Array, Float32Array];
      const numColumns = seen.length / lengths.length;
      const perSequence = (feeds[PACKED_SLOTS] as ort.Tensor).dims[1] as number;
      const order = ordered[orderName(index)]?.data as Int32Array;
      for (const [s] of lengths.entries()) {
        for (let column = 0; column < numColumns; column++) {
          const from = column < perSequence ? (order[s * perSequence + column] as number) - s * perSequence : column;
          worst = Math.max(worst, Math.abs((seen[s * numColumns + column] as number) - (told[s * numColumns + from] as number)));
        }
      }
    }
    cache.append(wanted, at);
    at += numNew;
  }
  await Promise.all([inTiers.release(), untiered.release()]);
  return { worst, masking };
}

describe('tiers read what the masked twin reads', () => {
  test.each([
    ['post-rope, grouped queries', { rewrite: { rotary: 'post-rope' } }],
    ['post-rope, one head per key head', { decoder: { numHeads: 2 }, rewrite: { rotary: 'post-rope' } }],
    ['post-rope, a local window and a softcap', { decoder: { windows: [4, undefined], softcap: 2 }, rewrite: { rotary: 'post-rope' } }],
    ['rotate-late', { rewrite: { rotary: 'rotate-late' } }],
    ['rotate-late, a local window, keys turned outside', { decoder: { windows: [4, undefined], rotary: 'outside' } }],
    ['rotate-late, positions on three axes', { decoder: { rotary: 'axes' }, rewrite: { rotary: 'rotate-late' } }],
    ['post-rope, bases of int8', { rewrite: { rotary: 'post-rope', basis: 'int8' } }],
    ['rotate-late, codes and bases of int8', { rewrite: { rotary: 'rotate-late', codes: 'int8', basis: 'int8' } }],
    ['keys in tiers only', { rewrite: { rotary: 'post-rope' }, dealt: { leads: [3, 1000] } }],
    ['values in tiers only', { rewrite: { rotary: 'rotate-late' }, dealt: { leads: [1000, 3] } }],
  ] as [string, Trial][])('%s', async (name, trial) => {
    const { worst, masking } = await differences(trial);
    if (!name.includes('int8')) expect(masking).toBeGreaterThan(0.05);
    expect(worst).toBeLessThan(2e-5);
  });

  test('codes of float16 and of int8 beside float16 bases, in an fp16 decoder', async () => {
    for (const codes of ['float16', 'int8'] as const) {
      const { worst } = await differences({
        decoder: { type: DataType.FLOAT16 },
        rewrite: { rotary: 'post-rope', codes, basis: 'float16' },
      });
      expect(worst).toBeLessThan(4 * 2 ** -9);
    }
  });

  test('all tokens in the first tier, or all columns in the second, are no tiers at all', async () => {
    for (const rotary of ['post-rope', 'rotate-late'] as const) {
      for (const dealt of [
        { numFirst: (T: number) => T },
        { leads: [1000, 1000] as const },
        { numFirst: () => 0, leads: [1000, 1000] as const },
      ]) {
        const { worst, masking } = await differences({ rewrite: { rotary }, dealt });
        expect(masking).toBe(0);
        expect(worst).toBeLessThan(2e-5);
      }
    }
  });
});

describe('in the graph', () => {
  test('the second tier has no input for the columns it goes without, and a layer costs so many nodes more', () => {
    const perLayer = (options: RewriteOptions, decoder: DecoderOptions = {}): number => {
      const [two, three] = [2, 3].map((layers) => {
        const model = tinyDecoder({ ...decoder, windows: Array(layers).fill(undefined) });
        return rewrite({ model, path: 'tiny.onnx' }, options).report.nodesAfter - (model.graph?.node?.length ?? 0);
      }) as [number, number];
      return three - two;
    };
    const cost = (rotary: 'post-rope' | 'rotate-late'): number => perLayer({ rotary, tiered: true }) - perLayer({ rotary });
    expect({ 'post-rope': cost('post-rope'), 'rotate-late': cost('rotate-late') }).toMatchInlineSnapshot(`
      {
        "post-rope": 15,
        "rotate-late": 26,
      }
    `);
  });

  test.each([
    [{ rotary: 'm-rope' }, "tiers cannot be read in rotary 'm-rope'"],
    [{ provider: 'webgpu' }, "tiers are for the CPU and wasm, got provider 'webgpu'"],
    [{ codes: 'mixed' }, "got codes 'mixed' and basis 'undefined'; use float32, float16 or int8"],
  ] as [RewriteOptions, string][])('%o is refused', (options, message) => {
    expect(() => rewrite({ model: tinyDecoder({ rotary: 'axes' }), path: 'tiny.onnx' }, { ...options, tiered: true })).toThrow(
      AttentionPackError,
    );
    expect(() => rewrite({ model: tinyDecoder({ rotary: 'axes' }), path: 'tiny.onnx' }, { ...options, tiered: true })).toThrow(message);
  });

  test('where keys turn by several axes, rotate-late is chosen', () => {
    const made = rewrite({ model: tinyDecoder({ rotary: 'axes' }), path: 'tiny.onnx' }, { tiered: true });
    expect(made.report.rotary).toBe('rotate-late');
    expect(made.model.model.graph?.input?.some(({ name }) => name === codesName(0, 'key'))).toBe(true);
  });
});
