/**
 * What each approximation costs, measured on logits against the exact ones: root mean square over a prompt's last token and eight forced ones. The figures
 * were measured; an error half as large again fails, and one much smaller says that a figure here is out of date.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type LoadOptions, PackedCache, type PackedOptions, type Prompt } from '../src/index.ts';
import { int64 } from './support/models.ts';
import { ask, conversation, floats, greedy, logitsOf, openTiny, type Tiny } from './support/tiny.ts';

let tiny: Tiny;
let inputs: Prompt;
let forced: readonly number[];
let exact: Float32Array;

beforeAll(async () => {
  tiny = await openTiny({ numKvHeads: 2 });
  inputs = await conversation(tiny, [ask('What is in these pictures?', 4)], [1, 2, 3, 4]);
  forced = (await greedy(tiny.stock, inputs, 8))[0] as number[];
  exact = await answerLogits({ rank: tiny.width, sink: 0 });
}, 60_000);
afterAll(() => tiny[Symbol.asyncDispose]());

/** Logits of each forced token's predecessor, as float32 [9, V]. */
async function answerLogits(options: PackedOptions & LoadOptions): Promise<Float32Array> {
  const model = await tiny.load(options);
  await using cache = new PackedCache(model);
  const rows: number[] = [];
  const lastRow = (logits: Float32Array, vocab: number): void => void rows.push(...logits.subarray(logits.length - vocab));
  const first = await logitsOf(model, { ...inputs, past_key_values: cache });
  const vocab = first.dims.at(-1) as number;
  lastRow(floats(first), vocab);
  let length = inputs.input_ids.dims[1] as number;
  for (const token of forced) {
    length++;
    const step = {
      input_ids: int64([[BigInt(token)]]),
      attention_mask: int64([new Array<bigint>(length).fill(1n)]),
      past_key_values: cache,
    };
    lastRow(floats(await logitsOf(model, step)), vocab);
  }
  return Float32Array.from(rows);
}

function rootMeanSquare(a: Float32Array, b: Float32Array): number {
  return Math.sqrt(a.reduce((sum, value, i) => sum + (value - (b[i] as number)) ** 2, 0) / a.length);
}

const HALF = { codes: 'float16', basis: 'float16' } as const;
const MIXED = { codes: 'mixed', basis: 'mixed' } as const;

describe.each([
  ['rank 12 of each image', { rank: 12 }, 0.0493],
  ['rank 6 of each image', { rank: 6 }, 0.276],
  ['rank 12 behind rotary embedding', { rank: 12, rotary: 'post-rope' }, 0.0649],
  ['rank 24 of all images together', { rank: 24, basisPer: 'context' }, 0.0283],
  ['a growing basis of rank 24', { rank: 24, basisPer: 'context', compactAt: 'span' }, 0.206],
  ['images that see packed ones', { rank: 12, compactAt: 'span' }, 0.0478],
  ['text packed with the images', { rank: 24, basisPer: 'context', text: { every: 4, recent: 2 } }, 0.04],
  ['float16', { rank: 16, ...HALF, window: 'float16' }, 0.000495],
  ['int8 codes', { rank: 16, codes: 'int8', basis: 'float32' }, 0.0045],
  ['int8 codes and bases', { rank: 16, codes: 'int8', basis: 'int8' }, 0.00762],
  ['eight bits a column', { rank: 16, ...MIXED, bits: 8 }, 0.00628],
  ['four bits a column', { rank: 16, ...MIXED, bits: 4 }, 0.0858],
  ['two bits a column', { rank: 16, ...MIXED, bits: 2 }, 0.145],
  ['half of the tokens by 12 of 16 columns', { rank: 16, tiers: { share: 0.5, rank: 12, every: 1 } }, 0.0233],
  ['all but a quarter by 12 of 16 columns', { rank: 16, tiers: { share: 0.25, rank: 12, every: 1 } }, 0.0351],
  ['half of the tokens evicted', { rank: 16, evict: { policy: 'h2o', keep: 0.5 } }, 0.387],
  ['four times smaller by the allocator', { compression: 4, counted: 'images', basisPer: 'context' }, 0.263],
] as const)('%s', (_, options, measured) => {
  test(`costs ${measured} of the logits`, async () => {
    const error = rootMeanSquare(await answerLogits({ sink: 0, ...options } as PackedOptions & LoadOptions), exact);
    expect(error).toBeLessThan(1.5 * measured);
    expect(error).toBeGreaterThan(measured / 1.5);
  });
});
