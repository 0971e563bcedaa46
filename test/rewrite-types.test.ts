/** Element types and spellings: fp16 decoders, fp16 and int8 codes, the WebGPU form (run on the CPU, with its dummy rows), old and new opsets. */
import * as ort from 'onnxruntime-node';
import { expect, test } from 'vitest';
import { basisName, codesName } from '../src/contract.ts';
import { DataType } from '../src/onnx/index.ts';
import { type RewriteOptions, rewrite } from '../src/rewrite.ts';
import { compare, type Trial } from './support/compare.ts';
import { EMBED, randomNumbers, tinyDecoder } from './support/decoders.ts';
import { PlainCache } from './support/plain-cache.ts';
import { numbers, openSession } from './support/run.ts';

const SEQUENCES = { lengths: [12, 7], chunks: [5, 7], numSteps: 8 } as const;

test.each([
  ['post-rope', {}],
  ['rotate-late', {}],
  ['rotate-late', { windows: [5, undefined], softcap: 1.5, headDim: 32, numTurned: 16 }],
  ['post-rope', { windows: [5, undefined], softcap: 1.5, interleaved: true, bias: 'mask' }],
  ['m-rope', { rotary: 'axes' }],
  ['m-rope', { rotary: 'axes', windows: [5, undefined], softcap: 1.5, headDim: 32, numTurned: 16 }],
] as const)('WebGPU form, %s, %j', async (rotary, decoder) => {
  const { maxDifference } = await compare({ ...SEQUENCES, decoder, rewrite: { rotary, provider: 'webgpu' }, deal: { dummyRows: true } });
  expect(maxDifference).toBeLessThan(2e-5);
});

test('the WebGPU form has no node that falls back to the CPU', () => {
  const { model } = rewrite({ model: tinyDecoder(), path: 'tiny.onnx' }, { provider: 'webgpu' });
  expect(model.model.graph?.node?.map(({ opType }) => opType)).not.toContain('FusedMatMul');
});

/**
 * Logits of 2 to 4 have fp16 neighbours 2^-9 apart, and both decoders round at every projection. Four such steps are allowed; two are seen.
 * The attention itself is computed in fp32 on the CPU, so what differs is the original's rounding inside its node.
 */
const FP16_TOLERANCE = 4 * 2 ** -9;

test.each([
  ['post-rope', 'cpu', {}],
  ['rotate-late', 'cpu', {}],
  ['rotate-late', 'cpu', { bias: 'mask', windows: [5, undefined], branch: true }],
  ['rotate-late', 'webgpu', {}],
  ['post-rope', 'webgpu', { softcap: 1.5 }],
  ['m-rope', 'cpu', { rotary: 'axes', headDim: 32, numTurned: 16 }],
  ['m-rope', 'webgpu', { rotary: 'axes' }],
] as const)('fp16 decoder, %s, %s, %j', async (rotary, provider, variant) => {
  const decoder = { ...variant, type: DataType.FLOAT16 };
  const { maxDifference, maxLogit } = await compare({
    ...SEQUENCES,
    decoder,
    rewrite: { rotary, provider },
    deal: { dummyRows: provider === 'webgpu' },
  });
  expect(maxLogit).toBeLessThan(4);
  expect(maxDifference).toBeLessThan(FP16_TOLERANCE);
});

test.each(['post-rope', 'rotate-late'] as const)('fp16 codes and bases in an fp32 decoder, %s', async (rotary) => {
  const { maxDifference } = await compare({ ...SEQUENCES, rewrite: { rotary, codes: 'float16', basis: 'float16' } });
  // The codes' own rounding, 2^-11 of keys of size 3 or so. That they are read right is what the test above and below say.
  expect(maxDifference).toBeLessThan(1e-2);
});

test.each(['post-rope', 'rotate-late'] as const)('an fp16 window in an fp32 decoder, %s', async (rotary) => {
  const { maxDifference } = await compare({ ...SEQUENCES, rewrite: { rotary, window: 'float16' } });
  // As with fp16 codes: the rows' own rounding. A window in its own type is exact, as all other tests say.
  expect(maxDifference).toBeLessThan(1e-2);
  expect(maxDifference).toBeGreaterThan(0);
});

test.each(['post-rope', 'rotate-late'] as const)('int8 codes are read as the numbers they are, %s', async (rotary) => {
  const run = async (codes: RewriteOptions['codes']): Promise<Float32Array> => {
    const { model, shape } = rewrite({ model: tinyDecoder(), path: 'tiny.onnx' }, { rotary, codes });
    const session = await openSession(model.model);
    const cache = new PlainCache(shape, 1, { rotary, deal: 'packed' }, randomNumbers(4));
    const step = (first: number, count: number): Promise<ort.InferenceSession.ReturnType> => {
      const feeds = cache.feeds();
      for (const { index } of shape.layers) {
        for (const side of ['key', 'value'] as const) {
          const plain = feeds[codesName(index, side)] as ort.Tensor;
          const whole = Int8Array.from(plain.data as Float32Array, (code) => Math.round(code * 20));
          const tensor =
            codes === 'int8' ? new ort.Tensor('int8', whole, plain.dims) : new ort.Tensor('float32', Float32Array.from(whole), plain.dims);
          feeds[codesName(index, side)] = tensor;
          const basis = feeds[basisName(index, side)] as ort.Tensor;
          feeds[basisName(index, side)] = new ort.Tensor(
            'float32',
            (basis.data as Float32Array).map((x) => x / 20),
            basis.dims,
          );
        }
      }
      const random = randomNumbers(first + 1);
      return session.run({
        ...feeds,
        attention_mask: new ort.Tensor('int64', new BigInt64Array(first + count).fill(1n), [1, first + count]),
        inputs_embeds: new ort.Tensor('float32', Float32Array.from({ length: count * EMBED }, random), [1, count, EMBED]),
      });
    };
    cache.append(await step(0, 9), 0);
    return numbers((await step(9, 2)).logits);
  };
  const [plain, int8] = await Promise.all([run('float32'), run('int8')]);
  expect(Math.max(...int8.map((x, i) => Math.abs(x - (plain[i] as number))))).toBeLessThan(1e-6);
});

test.each(['codes', 'basis'] as const)('WebGPU, which cannot shift bits, is refused mixed %s', (name) => {
  const options = { provider: 'webgpu', [name]: 'mixed' } as const;
  expect(() => rewrite({ model: tinyDecoder(), path: 'tiny.onnx' }, options)).toThrow(
    `${name}: 'mixed' needs BitShift, which ONNX Runtime's WebGPU provider has not; use 'int8' or 'float16' there`,
  );
});

test.each([13, 18, 21])('ONNX opset %i', async (opset) => {
  const { maxDifference } = await compare({ ...SEQUENCES, decoder: { opset } });
  expect(maxDifference).toBeLessThan(2e-5);
});

test.each([13, 18, 21])('ONNX opset %i, m-rope', async (opset) => {
  const { maxDifference } = await compare({ ...SEQUENCES, decoder: { opset, rotary: 'axes', headDim: 32, numTurned: 16 } });
  expect(maxDifference).toBeLessThan(2e-5);
});

test.each([
  ['everything packed', { deal: { deal: 'packed' } }],
  ['everything packed in one segment', { deal: { deal: 'packed', maxSegments: 1 } }],
  ['nothing packed', { deal: { deal: 'dense' } }],
  ['one token at a time from the start', { chunks: Array<number>(12).fill(1) }],
  ['one sequence', { lengths: [9], chunks: [4, 3, 2] }],
  ['three sequences', { lengths: [3, 12, 1], chunks: [5, 7] }],
] as [string, Trial][])('%s', async (_, trial) => {
  for (const rotary of ['post-rope', 'rotate-late'] as const) {
    const { maxDifference } = await compare({ ...SEQUENCES, numSteps: 6, ...trial, rewrite: { rotary } });
    expect(maxDifference).toBeLessThan(2e-5);
  }
  for (const byAxes of [true, false]) {
    const decoder = { rotary: 'axes' } as const;
    const { maxDifference, report } = await compare({ ...SEQUENCES, numSteps: 6, ...trial, decoder, deal: { ...trial.deal, byAxes } });
    expect(report.rotary).toBe('m-rope');
    expect(maxDifference).toBeLessThan(2e-5);
  }
});

test.each([
  ['cpu', 'post-rope', DataType.FLOAT],
  ['cpu', 'rotate-late', DataType.FLOAT],
  ['cpu', 'rotate-late', DataType.FLOAT16],
  ['webgpu', 'post-rope', DataType.FLOAT],
  ['webgpu', 'rotate-late', DataType.FLOAT],
  ['cpu', 'm-rope', DataType.FLOAT],
  ['cpu', 'm-rope', DataType.FLOAT16],
  ['webgpu', 'm-rope', DataType.FLOAT],
] as const)('with ONNX Runtime’s optimisations on, %s, %s, type %i', async (provider, rotary, type) => {
  const { maxDifference } = await compare({
    ...SEQUENCES,
    decoder: {
      type,
      windows: [5, undefined],
      softcap: 1.5,
      bias: 'mask',
      numTurned: 16,
      headDim: 32,
      ...(rotary === 'm-rope' ? { rotary: 'axes' } : { branch: true }),
    },
    rewrite: { provider, rotary },
    deal: { dummyRows: provider === 'webgpu' },
    optimised: true,
  });
  expect(maxDifference).toBeLessThan(type === DataType.FLOAT ? 2e-5 : FP16_TOLERANCE);
});
